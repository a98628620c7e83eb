//! Who this executor is: the identity of its folder, and its name.

use std::io;

use berth_domain::ids::{ExecutorId, MAX_ID_BYTES};

use crate::disk::Disk;
use crate::random::Random;

const NODE_ID_FILE: &str = "node-id";
const EXECUTOR_ID_FILE: &str = "executor-id";

/// Names the folder and the executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Persisted identity of the folder; a copied folder shows as a clone.
    pub node_id: String,
    /// The executor's name.
    pub executor_id: ExecutorId,
}

/// Reads the identity, and makes one on the first start. A name that was not configured is made
/// of the host's name and the identity, and kept: containers are found by it, and a host's name
/// may change.
///
/// # Errors
/// Fails when the folder cannot be read or written.
pub async fn load(
    disk: &dyn Disk,
    configured: Option<&ExecutorId>,
    hostname: &str,
    random: &dyn Random,
) -> io::Result<Identity> {
    let node_id = match read(disk, NODE_ID_FILE).await? {
        Some(id) => id,
        None => {
            let id = new_node_id(random);
            disk.write_atomic(NODE_ID_FILE, id.as_bytes()).await?;
            id
        }
    };
    if let Some(id) = configured {
        return Ok(Identity { node_id, executor_id: id.clone() });
    }
    let kept = read(disk, EXECUTOR_ID_FILE).await?.and_then(|text| ExecutorId::parse(&text).ok());
    let executor_id = match kept {
        Some(id) => id,
        None => {
            let id = default_name(hostname, &node_id);
            disk.write_atomic(EXECUTOR_ID_FILE, id.as_str().as_bytes()).await?;
            id
        }
    };
    Ok(Identity { node_id, executor_id })
}

/// Names a process: another one has another name.
pub fn instance_id(random: &dyn Random) -> String {
    new_node_id(random)
}

async fn read(disk: &dyn Disk, file: &str) -> io::Result<Option<String>> {
    let content = disk.read(file).await?;
    let text = content.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    Ok(text.filter(|text| !text.is_empty()))
}

fn new_node_id(random: &dyn Random) -> String {
    let mut bytes = [0_u8; 16];
    for chunk in bytes.chunks_exact_mut(4) {
        chunk.copy_from_slice(&random.next_u32().to_le_bytes());
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

fn default_name(hostname: &str, node_id: &str) -> ExecutorId {
    let suffix: String = node_id.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let plain: String = hostname
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .collect();
    let plain = plain.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let plain = if plain.is_empty() { "executor" } else { plain };
    let room = MAX_ID_BYTES - suffix.len() - 1;
    ExecutorId::trusted(format!("{}-{suffix}", &plain[..plain.len().min(room)]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::TokioClock;
    use crate::disk::MemoryDisk;
    use crate::random::SeededRandom;

    #[tokio::test]
    async fn an_identity_outlives_the_process_and_a_renamed_host() {
        let disk = MemoryDisk::new(Arc::new(TokioClock::at(0)));
        let first = load(&disk, None, "host-a", &SeededRandom::new(1)).await.expect("it is made");
        let second = load(&disk, None, "host-b", &SeededRandom::new(2)).await.expect("it is read");
        assert_eq!(first, second);
        assert!(first.executor_id.as_str().starts_with("host-a-"));
    }

    #[tokio::test]
    async fn a_configured_name_is_taken_as_it_is() {
        let disk = MemoryDisk::new(Arc::new(TokioClock::at(0)));
        let name = ExecutorId::trusted("gpu-1");
        let identity = load(&disk, Some(&name), "h", &SeededRandom::new(1)).await.expect("it is made");
        assert_eq!(identity.executor_id, name);
    }

    #[test]
    fn strange_host_names_give_valid_ids() {
        for host in ["", "-", "höst name", &"x".repeat(200), "{a}"] {
            let id = default_name(host, "01234567-89ab");
            assert!(ExecutorId::parse(id.as_str()).is_ok(), "{id} of {host:?}");
        }
    }
}
