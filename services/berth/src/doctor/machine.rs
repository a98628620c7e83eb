//! Judges this machine: how many files may be open, and whether the data folder can be written.

use std::io;
use std::path::{Path, PathBuf};

use super::report::Check;

/// A connection, a container's output and a log file each take one.
const ENOUGH_FILES: u64 = 4_096;

/// Outputs of jobs and the embedded store need some room; the latter refuses jobs below 64 MiB.
const ENOUGH_BYTES: u64 = 1 << 30;

/// Looks at how many files this process may have open.
pub fn file_limit() -> Check {
    judge_limit(std::fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(soft_limit))
}

/// Reads the soft limit of open files from `/proc/self/limits`; an unlimited one is `u64::MAX`.
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn judge_limit(limit: Option<u64>) -> Check {
    const NAME: &str = "file-limit";
    const REMEDY: &str = "Raise it: ulimit -n 4096, or LimitNOFILE=65536 in the systemd unit.";
    match limit {
        Some(u64::MAX) => Check::ok(NAME, "Any number of files may be open."),
        Some(limit) if limit >= ENOUGH_FILES => Check::ok(NAME, format!("{limit} files may be open.")),
        Some(limit) => {
            Check::warn(NAME, format!("Only {limit} files may be open; {ENOUGH_FILES} are advised."), REMEDY)
        }
        None => Check::warn(NAME, "How many files may be open is not told by /proc/self/limits.", REMEDY),
    }
}

/// Tries to write into the data folder, leaves nothing behind, and looks at how much room there is.
pub fn data_folder(folder: &Path) -> Check {
    const NAME: &str = "data-folder";
    let shown = folder.display();
    match try_folder(folder) {
        Ok(()) => judge_room(NAME, &shown.to_string(), free_bytes(folder)),
        Err(error) => Check::fail(
            NAME,
            format!("The data folder {shown} cannot be written: {error}."),
            "Give it to this user, free space, or set --data-dir.",
        ),
    }
}

/// Tells how many bytes this user may still write where the folder is, or would be.
fn free_bytes(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|path| path.exists())?;
    let stat = nix::sys::statvfs::statvfs(there).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

fn judge_room(name: &'static str, folder: &str, free_bytes: Option<u64>) -> Check {
    match free_bytes {
        Some(bytes) if bytes < ENOUGH_BYTES => Check::warn(
            name,
            format!("The data folder {folder} can be written, but only {} MiB are free there.", bytes >> 20),
            "Free space, or set --data-dir; below 64 MiB a single-machine cluster takes no new jobs.",
        ),
        Some(_) | None => Check::ok(name, format!("The data folder {folder} can be written.")),
    }
}

fn try_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> =
        folder.ancestors().take_while(|path| !path.exists()).map(Path::to_path_buf).collect();
    std::fs::create_dir_all(folder)?;
    let tried = try_file(&folder.join(format!(".doctor-{}", std::process::id())));
    // The innermost first. One that somebody else uses meanwhile is not empty, and stays.
    for made in missing {
        if std::fs::remove_dir(&made).is_err() {
            break;
        }
    }
    tried
}

fn try_file(file: &Path) -> io::Result<()> {
    std::fs::write(file, b"doctor\n")?;
    std::fs::remove_file(file)
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1_024));
        assert_eq!(soft_limit("Max open files  unlimited  unlimited  files"), Some(u64::MAX));
        assert_eq!(soft_limit("Max processes  1  1  processes"), None);
    }

    #[test]
    fn few_files_are_a_warning() {
        assert_eq!(judge_limit(Some(4_095)).status, Status::Warn);
        assert_eq!(judge_limit(Some(4_096)).status, Status::Ok);
        assert_eq!(judge_limit(Some(u64::MAX)).message, "Any number of files may be open.");
        assert_eq!(judge_limit(None).status, Status::Warn);
    }

    #[test]
    fn little_room_is_a_warning() {
        let little = judge_room("data-folder", "/d", Some(ENOUGH_BYTES - 1));
        assert_eq!(little.status, Status::Warn);
        assert_eq!(little.message, "The data folder /d can be written, but only 1023 MiB are free there.");
        assert_eq!(judge_room("data-folder", "/d", Some(ENOUGH_BYTES)).status, Status::Ok);
        assert!(free_bytes(Path::new("/no/such/folder")).is_some(), "the nearest that is there counts");
    }

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let base = std::env::temp_dir().join(format!("berth-doctor-{}", uuid::Uuid::new_v4()));
        let folder = base.join("a/b");
        assert_eq!(data_folder(&folder).status, Status::Ok);
        assert!(!base.exists(), "what was made is gone again");
        std::fs::write(&base, b"a file").expect("it can be written");
        assert_eq!(data_folder(&folder).status, Status::Fail);
        std::fs::remove_file(&base).expect("it is there");
    }
}
