//! What a replica is told at its start: checked once, trusted afterwards.

use std::time::Duration;

use berth_domain::ids::SchedulerId;
use berth_domain::placement::Placement;
use thiserror::Error;

/// The settings of a scheduler replica.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// This replica's name.
    pub scheduler_id: SchedulerId,
    /// The cluster's name, also the prefix of its keys.
    pub cluster: String,
    /// Where other replicas reach this one, host:port.
    pub advertise: String,
    /// How long the leader lock is held without a renewal.
    pub lock_ttl: Duration,
    /// The queue timeout of a job that names none; zero waits for ever.
    pub queue_timeout: Duration,
    /// How long an ended job is kept.
    pub retention: Duration,
    /// How many ended jobs are kept at most.
    pub retention_count: u64,
    /// How often executors send heartbeats.
    pub heartbeat_interval: Duration,
    /// How long an executor counts as in touch after a heartbeat.
    pub lease: Duration,
    /// How long after its last heartbeat an executor is judged lost.
    pub lost_after: Duration,
    /// How often everything is read again in case a wake-up was missed.
    pub safety_interval: Duration,
    /// How jobs are placed.
    pub placement: Placement,
}

/// Says which setting is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("--{flag} {problem}")]
pub struct InvalidConfig {
    flag: &'static str,
    problem: String,
}

impl SchedulerConfig {
    /// The documented defaults.
    pub fn new(scheduler_id: SchedulerId, cluster: impl Into<String>) -> Self {
        Self {
            scheduler_id,
            cluster: cluster.into(),
            advertise: String::new(),
            lock_ttl: Duration::from_secs(3),
            queue_timeout: Duration::from_secs(15),
            retention: Duration::from_secs(24 * 3_600),
            retention_count: 1_000_000,
            heartbeat_interval: Duration::from_secs(5),
            lease: Duration::from_secs(15),
            lost_after: Duration::from_secs(30),
            safety_interval: Duration::from_secs(10),
            placement: Placement::default(),
        }
    }

    /// Tells `lease` in milliseconds.
    pub fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }

    /// The same of `lost_after`.
    pub fn lost_after_ms(&self) -> u64 {
        u64::try_from(self.lost_after.as_millis()).unwrap_or(u64::MAX)
    }

    /// Checks that the clocks agree with each other.
    ///
    /// # Errors
    /// Names the first flag that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let wrong = |flag, problem: String| Err(InvalidConfig { flag, problem });
        if self.heartbeat_interval < Duration::from_millis(10) {
            return wrong("heartbeat-interval", "must be at least 10ms".to_owned());
        }
        if self.lease < self.heartbeat_interval * 3 {
            return wrong(
                "lease",
                format!("must be at least three heartbeat intervals, {:?}", self.heartbeat_interval * 3),
            );
        }
        let least = (self.lease + Duration::from_secs(8)).mul_f64(1.1);
        if self.lost_after < least {
            return wrong("lost-after", format!("must be at least 1.1 x (lease + 8s), here {least:?}"));
        }
        if self.lock_ttl < Duration::from_millis(300) {
            return wrong("lock-ttl", "must be at least 300ms".to_owned());
        }
        if self.safety_interval < Duration::from_millis(100) {
            return wrong("safety-interval", "must be at least 100ms".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_short_leases_are_not() {
        let config = SchedulerConfig::new(SchedulerId::trusted("s"), "berth");
        assert_eq!(config.validate(), Ok(()));
        let short = SchedulerConfig { lease: Duration::from_secs(14), ..config };
        assert_eq!(
            short.validate().map_err(|e| e.to_string()),
            Err("--lease must be at least three heartbeat intervals, 15s".to_owned())
        );
    }
}
