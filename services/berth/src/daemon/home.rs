//! Where a role keeps its files, and what it is called when nobody said.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The folder of a role when none is given: under /var/lib for root, else under the user's home.
pub fn default_data_dir(role: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    match home.filter(|_| !is_root()) {
        Some(home) => home.join(".local/share/berth").join(role),
        None => Path::new("/var/lib/berth").join(role),
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// Makes the folder, readable for its owner alone.
///
/// # Errors
/// Fails when it cannot be made.
pub fn prepare(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("the data folder {} cannot be made; set --data-dir", folder.display()))
}

/// Reads the folder's own identity, or makes one: 32 hexadecimal digits that survive restarts.
///
/// # Errors
/// Fails when it can be neither read nor written.
pub fn node_id(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("node-id");
    match std::fs::read_to_string(&path) {
        Ok(known) if !known.trim().is_empty() => return Ok(known.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    std::fs::write(&path, format!("{id}\n"))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(id)
}

/// Names a role that nobody named: the machine's name and the beginning of the folder's identity.
///
/// # Errors
/// Fails when the identity can be neither read nor written.
pub fn default_id(folder: &Path) -> anyhow::Result<String> {
    Ok(format!("{}-{}", host_name(), node_id(folder)?.get(..8).unwrap_or_default()))
}

/// Tells the machine's name, in characters that every id may have.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String = name
        .trim()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' })
        .take(40)
        .collect();
    let plain = plain.trim_matches('-');
    if plain.is_empty() { "host".to_owned() } else { plain.to_owned() }
}
