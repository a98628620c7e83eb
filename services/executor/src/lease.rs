//! Until when the schedulers count on this executor, and whether its name is its own. A planned restart
//! has minutes, so both outlive the process, in the executor's folder.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use berth_domain::executor::RESTART_LEASE_MS;
use tokio::time::Instant;

use crate::clock::{Clock, millis};
use crate::disk::Disk;
use crate::runtime::Owner;

const FILE: &str = "lease";
/// What a process that has just begun has at least, to find a scheduler.
const FIRST: Duration = Duration::from_secs(5);

/// Until when the schedulers count on this executor. Jobs that may start at most once are stopped
/// when it has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The end of the lease.
    pub until: Instant,
    /// The name is this executor's own: a scheduler registered it, now or in an earlier process. Another
    /// process may hold the name otherwise, so that no container of it may be touched.
    pub entitled: bool,
}

/// The lease in the executor's folder.
#[derive(Clone)]
pub struct LeaseFile {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    /// Whose lease it is: another name in the same folder has none.
    owner: Owner,
}

impl LeaseFile {
    /// Uses the folder's lease.
    pub fn new(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, owner: Owner) -> Self {
        Self { disk, clock, owner }
    }

    /// Reads what is left of the lease of the process before. After a crash that is less than there was:
    /// only registrations and stops in order are written down.
    ///
    /// # Errors
    /// Fails when the folder cannot be read.
    pub async fn load(&self) -> io::Result<Lease> {
        let content = self.disk.read(FILE).await?.unwrap_or_default();
        let content = String::from_utf8_lossy(&content);
        let mut lines = content.lines();
        let entitled = lines.next() == Some(self.title().as_str());
        let until_ms = lines.next().filter(|_| entitled).and_then(|line| line.parse::<u64>().ok());
        // A clock that was set meanwhile must not make a lease of hours.
        let left_ms = until_ms.unwrap_or(0).saturating_sub(self.clock.wall_ms()).min(RESTART_LEASE_MS);
        Ok(Lease { until: Instant::now() + Duration::from_millis(left_ms).max(FIRST), entitled })
    }

    /// Writes a lease down. Where that fails, the next process has the least there is.
    pub async fn store(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let until_ms = self.clock.wall_ms().saturating_add(millis(left));
        let content = format!("{}\n{until_ms}\n", self.title());
        if let Err(error) = self.disk.write_atomic(FILE, content.as_bytes()).await {
            tracing::warn!(%error, "the lease could not be written down: a restart has less time to find a scheduler");
        }
    }

    fn title(&self) -> String {
        format!("{} {}", self.owner.cluster, self.owner.executor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TokioClock;
    use crate::disk::MemoryDisk;

    fn file(disk: &Arc<MemoryDisk>, clock: &Arc<TokioClock>, executor: &str) -> LeaseFile {
        let owner = Owner { cluster: "c".into(), executor: executor.into() };
        LeaseFile::new(disk.clone(), clock.clone(), owner)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_outlives_the_process_within_its_limits_and_is_bound_to_the_name() {
        let clock = Arc::new(TokioClock::at(1_000_000));
        let disk = Arc::new(MemoryDisk::new(clock.clone()));
        let one = file(&disk, &clock, "e");
        let left = |lease: Lease| lease.until - Instant::now();
        let lease = one.load().await.expect("readable");
        assert_eq!((left(lease), lease.entitled), (FIRST, false), "nobody ever registered from this folder");
        for (stored_s, after_s, left_s) in [(120, 20, 100), (15, 30, 5), (9_000, 0, 120)] {
            one.store(Instant::now() + Duration::from_secs(stored_s)).await;
            tokio::time::advance(Duration::from_secs(after_s)).await;
            let lease = one.load().await.expect("readable");
            assert_eq!((left(lease), lease.entitled), (Duration::from_secs(left_s), true));
        }
        let lease = file(&disk, &clock, "f").load().await.expect("readable");
        assert_eq!((left(lease), lease.entitled), (FIRST, false), "it is another's");
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_lease_is_none() {
        let clock = Arc::new(TokioClock::at(1_000_000));
        let disk = Arc::new(MemoryDisk::new(clock.clone()));
        disk.append(FILE, b"c e\nsoon").await.expect("written");
        let lease = file(&disk, &clock, "e").load().await.expect("readable");
        assert_eq!((lease.until - Instant::now(), lease.entitled), (FIRST, true));
        disk.write_atomic(FILE, b"\xff").await.expect("written");
        assert!(!file(&disk, &clock, "e").load().await.expect("readable").entitled);
    }
}
