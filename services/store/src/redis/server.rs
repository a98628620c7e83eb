//! What is checked and told of the server: its version, and how durable its writes are.

use fred::types::{ClusterHash, CustomCommand, Value};

use super::client::{RedisClient, text};
use crate::StoreError;

/// The oldest major version that knows script flags.
const MIN_MAJOR: u64 = 7;

/// Refuses a server that is too old, and says how durable an acknowledged write is.
pub(super) async fn inspect(client: &RedisClient) -> Result<String, StoreError> {
    let info = info(client).await?;
    let version = field(&info, "redis_version").unwrap_or("unknown");
    if !is_new_enough(version) {
        return Err(StoreError::Unavailable {
            reason: format!("redis {version} is too old: version {MIN_MAJOR}.0 or newer is needed"),
        });
    }
    let appendfsync = appendfsync(client).await;
    let durability = durability(&info, appendfsync.as_deref());
    if field(&info, "aof_enabled") != Some("1") {
        tracing::warn!(redis_version = version, "redis keeps no append-only file");
    }
    if eviction(&info).is_some() {
        tracing::warn!(redis_version = version, "redis may evict records: set maxmemory-policy noeviction");
    }
    Ok(durability)
}

/// Says whether a version knows what the scripts need.
pub(super) fn is_new_enough(version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    major.is_some_and(|major| major >= MIN_MAJOR)
}

pub(super) async fn info(client: &RedisClient) -> Result<String, StoreError> {
    let command = CustomCommand::new_static("INFO", ClusterHash::Random, false);
    let reply = client.read(command, vec![text("everything")]).await?;
    reply.as_string().ok_or_else(|| super::reply::strange(&reply))
}

/// Reads the fsync policy; `None` where the server does not tell it to this user.
pub(super) async fn appendfsync(client: &RedisClient) -> Option<String> {
    let command = CustomCommand::new_static("CONFIG", ClusterHash::Random, false);
    let reply = client.read(command, vec![text("GET"), text("appendfsync")]).await.ok()?;
    match reply {
        Value::Array(pair) => pair.get(1).and_then(Value::as_string),
        _ => None,
    }
}

pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The eviction policy, where records may fall to it.
fn eviction(info: &str) -> Option<&str> {
    field(info, "maxmemory_policy").filter(|policy| *policy != "noeviction")
}

fn durability(info: &str, appendfsync: Option<&str>) -> String {
    let aof = match (field(info, "aof_enabled"), appendfsync) {
        (Some("1"), Some("always")) => "append-only file, fsync always: acknowledged writes survive a crash",
        (Some("1"), Some("everysec")) => {
            "append-only file, fsync every second: about 1 s of acknowledged writes is lost when the machine fails"
        }
        (Some("1"), Some(_)) => {
            "append-only file without fsync: acknowledged writes are lost when the machine fails"
        }
        (Some("1"), None) => "append-only file, fsync policy not readable",
        (Some(_) | None, Some(_) | None) => {
            "no append-only file: acknowledged writes are lost when redis stops"
        }
    };
    match eviction(info) {
        Some(policy) => format!("{aof}; maxmemory-policy {policy} may evict records, set noeviction"),
        None => aof.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_told_from_what_the_server_says() {
        let info = "redis_version:7.0.15\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n";
        assert!(durability(info, Some("always")).contains("survive a crash"));
        assert!(durability(info, Some("everysec")).contains("1 s"));
        let evicting = "aof_enabled:0\r\nmaxmemory_policy:allkeys-lru\r\n";
        let told = durability(evicting, None);
        assert!(told.contains("no append-only file") && told.contains("allkeys-lru"), "{told}");
    }
}
