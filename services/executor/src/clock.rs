//! The time, as an argument. Intervals and deadlines use tokio's clock only; wall-clock time is
//! derived from it, so that a simulation with paused time sees one consistent time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch. It never goes back while the process lives.
    fn wall_ms(&self) -> u64;
}

/// Counts on with tokio's clock from the wall-clock time at which it was made. A later step of the
/// machine's clock is not followed: a run timeout must not fire because somebody set the time.
#[derive(Debug, Clone)]
pub struct TokioClock {
    base_ms: u64,
    base: Instant,
}

impl TokioClock {
    /// Starts from the machine's clock.
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self::at(millis(since_epoch))
    }

    /// Starts from a given time, in milliseconds since the Unix epoch.
    pub fn at(base_ms: u64) -> Self {
        Self { base_ms, base: Instant::now() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn wall_ms(&self) -> u64 {
        self.base_ms.saturating_add(millis(self.base.elapsed()))
    }
}

/// Counts the whole milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
