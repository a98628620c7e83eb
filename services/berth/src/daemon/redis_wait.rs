//! What is said while a scheduler waits for Redis at its start. It does not wait itself.

use std::time::Duration;

use berth_store::redis::RedisConfig;

/// Words the wait for one Redis.
#[derive(Debug, Clone)]
pub struct Waiting {
    address: String,
    every: Duration,
}

impl Waiting {
    /// Words the wait for the Redis of a configuration, which is tried at an interval.
    pub fn new(config: &RedisConfig, every: Duration) -> Self {
        Self { address: config.address(), every }
    }

    /// Says why try number `attempt` (from 1) failed, and what happens next.
    pub fn sentence(&self, reason: &str, attempt: u64) -> String {
        let address = &self.address;
        // The store names the place itself where it could not be reached.
        let what = match reason.strip_prefix("redis at ") {
            Some(rest) => format!("Redis at {rest}"),
            None => format!("Redis at {address} cannot be used ({reason})"),
        };
        format!(
            "{what}; retrying every {} s (try {attempt}). Set REDIS_HOST/REDIS_PORT if it is elsewhere.",
            self.every.as_secs()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> Waiting {
        let url = "redis://user:secret@redis:6379/0".to_owned();
        Waiting::new(&RedisConfig { url, ..RedisConfig::default() }, Duration::from_secs(2))
    }

    #[test]
    fn a_refused_connection_is_told_with_place_try_and_remedy() {
        assert_eq!(
            waiting().sentence("redis at redis:6379 refused the connection", 3),
            "Redis at redis:6379 refused the connection; retrying every 2 s (try 3). Set REDIS_HOST/REDIS_PORT \
             if it is elsewhere."
        );
    }

    #[test]
    fn any_other_reason_stands_beside_the_place() {
        let told = waiting().sentence("LOADING Redis is loading the dataset in memory", 1);
        assert!(told.starts_with("Redis at redis:6379 cannot be used (LOADING Redis is loading"), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
}
