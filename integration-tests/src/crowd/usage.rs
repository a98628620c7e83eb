//! What processes use, as the kernel tells it.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Scheduler;
use crate::redis::Redis;

/// Ticks of a second in which the kernel counts.
const TICKS: f64 = 100.0;

/// A process, and what it used of a core while it was looked at.
pub struct Usage {
    name: String,
    pid: u32,
    ticks: u64,
    share: f64,
    rss_mib: u64,
}

impl Usage {
    /// Begins to look at replicas, Redis and this process.
    pub fn of(replicas: &[Scheduler], redis: &Redis) -> Vec<Self> {
        let replicas = replicas.iter().enumerate();
        let mut all: Vec<(String, u32)> =
            replicas.map(|(at, replica)| (format!("scheduler-{}", at + 1), replica.process.pid())).collect();
        all.push(("redis".to_owned(), redis.pid()));
        all.push(("load".to_owned(), std::process::id()));
        let begin = |(name, pid)| Self { name, pid, ticks: ticks(pid), share: 0.0, rss_mib: 0 };
        all.into_iter().map(begin).collect()
    }

    /// Ends.
    pub fn end(&mut self, took: Duration) {
        #[allow(clippy::cast_precision_loss, reason = "a share")]
        let ticks = (ticks(self.pid) - self.ticks) as f64;
        self.share = ticks / TICKS / took.as_secs_f64();
        self.rss_mib = rss_bytes(self.pid) >> 20;
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({ "name": self.name, "cores": (self.share * 100.0).round() / 100.0, "rssMiB": self.rss_mib })
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:12} {:>5.2} cores, {:>6} MiB", self.name, self.share, self.rss_mib)
    }
}

/// The memory that a process holds.
pub fn rss_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    rss.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// What a process has used of all cores, in user and in kernel mode.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
