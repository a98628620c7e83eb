//! Judges the Redis server: whether a cluster can be kept on it, and what would be lost in a crash.

use std::time::Duration;

use berth_store::StoreError;
use berth_store::redis::{RedisConfig, RedisFacts, probe};

use super::clock;
use super::report::Check;

/// How long the server may take to answer.
const LIMIT: Duration = Duration::from_secs(3);

/// Which Redis is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub url: String,
    /// Somebody said so; otherwise it is only where it would be.
    pub configured: bool,
}

/// Looks at the server.
pub async fn checks(target: &Target) -> Vec<Check> {
    let config = RedisConfig {
        url: target.url.clone(),
        connect_timeout: LIMIT,
        command_timeout: LIMIT,
        ..RedisConfig::default()
    };
    judge(target, &config.address(), probe(&config).await)
}

fn judge(target: &Target, address: &str, found: Result<RedisFacts, StoreError>) -> Vec<Check> {
    match found {
        Ok(facts) => vec![
            Check::ok("redis", format!("Redis answers at {address}.")),
            version(&facts),
            durability(&facts),
            eviction(&facts),
            clock::judge(
                "redis-clock",
                &format!("Redis at {address}"),
                facts.clock_offset_ms,
                facts.clock_round_trip / 2,
            ),
        ],
        Err(error) if target.configured => vec![unreachable(address, &error)],
        Err(_) => vec![Check::ok(
            "redis",
            format!(
                "No Redis is configured, and none answers at {address}: it is needed only for several machines."
            ),
        )],
    }
}

fn unreachable(address: &str, error: &StoreError) -> Check {
    let reason = match error {
        StoreError::Unavailable { reason } => reason.clone(),
        other => other.to_string(),
    };
    let message = match reason.strip_prefix("redis at ") {
        Some(rest) => format!("Redis at {rest}."),
        None => format!("Redis at {address} cannot be used: {reason}."),
    };
    Check::fail(
        "redis",
        message,
        "Start it, or set REDIS_HOST and REDIS_PORT, or --redis-url. Check: redis-cli PING",
    )
}

fn version(facts: &RedisFacts) -> Check {
    let version = &facts.version;
    if facts.new_enough {
        Check::ok("redis-version", format!("Redis is {version}; 7.0 or newer is needed."))
    } else {
        Check::fail(
            "redis-version",
            format!("Redis is {version}, which is too old."),
            "Upgrade Redis to 7.0 or newer.",
        )
    }
}

fn durability(facts: &RedisFacts) -> Check {
    const NAME: &str = "redis-aof";
    if !facts.append_only {
        return Check::warn(
            NAME,
            "Redis keeps no append-only file: a crash loses jobs that were acknowledged.",
            "Set it, and keep it in redis.conf: redis-cli CONFIG SET appendonly yes",
        );
    }
    match facts.append_fsync.as_deref() {
        Some("always") => {
            Check::ok(NAME, "appendonly yes, appendfsync always: acknowledged jobs survive a crash.")
        }
        Some("everysec") => Check::ok(
            NAME,
            "appendonly yes, appendfsync everysec: when the machine fails, about 1 s of acknowledged jobs is lost.",
        ),
        Some(other) => Check::warn(
            NAME,
            format!(
                "appendonly yes, appendfsync {other}: when the machine fails, acknowledged jobs are lost."
            ),
            "Set it, and keep it in redis.conf: redis-cli CONFIG SET appendfsync everysec",
        ),
        None => Check::warn(
            NAME,
            "appendonly yes; Redis does not tell this user its appendfsync.",
            "Allow CONFIG GET to the user of --redis-url, or look yourself: redis-cli CONFIG GET appendfsync",
        ),
    }
}

fn eviction(facts: &RedisFacts) -> Check {
    const NAME: &str = "redis-eviction";
    const REMEDY: &str =
        "Set it, and keep it in redis.conf: redis-cli CONFIG SET maxmemory-policy noeviction";
    match facts.eviction.as_deref() {
        Some("noeviction") => Check::ok(NAME, "maxmemory-policy noeviction: a full Redis forgets no job."),
        Some(policy) if policy.starts_with("volatile-") => Check::fail(
            NAME,
            format!(
                "maxmemory-policy {policy}: a full Redis forgets which submits it has seen, and repeats run twice."
            ),
            REMEDY,
        ),
        Some(policy) => {
            Check::fail(NAME, format!("maxmemory-policy {policy}: a full Redis forgets jobs."), REMEDY)
        }
        None => Check::warn(NAME, "Redis does not tell its maxmemory-policy.", REMEDY),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    fn facts() -> RedisFacts {
        RedisFacts {
            version: "7.0.15".to_owned(),
            new_enough: true,
            append_only: true,
            append_fsync: Some("everysec".to_owned()),
            eviction: Some("noeviction".to_owned()),
            clock_offset_ms: 0,
            clock_round_trip: Duration::from_millis(1),
        }
    }

    fn target(configured: bool) -> Target {
        Target { url: "redis://h:6379".to_owned(), configured }
    }

    fn statuses(facts: RedisFacts) -> Vec<Status> {
        judge(&target(true), "h:6379", Ok(facts)).into_iter().map(|check| check.status).collect()
    }

    #[test]
    fn a_server_as_it_should_be_is_ok_in_everything() {
        assert_eq!(statuses(facts()), [Status::Ok; 5]);
    }

    #[test]
    fn each_thing_that_is_wrong_shows_in_its_own_check() {
        assert_eq!(statuses(RedisFacts { new_enough: false, ..facts() })[1], Status::Fail);
        assert_eq!(statuses(RedisFacts { append_only: false, ..facts() })[2], Status::Warn);
        let synced =
            |how: Option<&str>| statuses(RedisFacts { append_fsync: how.map(str::to_owned), ..facts() })[2];
        assert_eq!(
            [synced(Some("always")), synced(Some("no")), synced(None)],
            [Status::Ok, Status::Warn, Status::Warn]
        );
        let evicting =
            |how: Option<&str>| statuses(RedisFacts { eviction: how.map(str::to_owned), ..facts() })[3];
        assert_eq!(
            [evicting(Some("allkeys-lru")), evicting(Some("volatile-lru")), evicting(None)],
            [Status::Fail, Status::Fail, Status::Warn]
        );
        assert_eq!(statuses(RedisFacts { clock_offset_ms: -90_000, ..facts() })[4], Status::Warn);
    }

    #[test]
    fn a_redis_that_nobody_configured_may_be_missing() {
        let gone =
            || Err(StoreError::Unavailable { reason: "redis at h:6379 refused the connection".to_owned() });
        let missed = judge(&target(true), "h:6379", gone());
        assert_eq!(
            (missed[0].status, missed[0].message.as_str()),
            (Status::Fail, "Redis at h:6379 refused the connection.")
        );
        let unneeded = judge(&target(false), "h:6379", gone());
        assert_eq!(unneeded.len(), 1);
        assert_eq!(unneeded[0].status, Status::Ok);
        assert!(unneeded[0].message.contains("only for several machines"), "{unneeded:?}");
    }
}
