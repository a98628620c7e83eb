//! The store's wall clock as this replica knows it: the time of the last reply, plus what has passed
//! since on the process's own monotonic clock.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Follows the store's clock.
#[derive(Debug)]
pub struct StoreClock {
    base: Mutex<Base>,
}

#[derive(Debug, Clone, Copy)]
struct Base {
    time_ms: u64,
    at: Instant,
    /// When the store's clock was last seen to jump.
    jumped_at: Option<Instant>,
}

/// A difference between the two clocks that counts as a jump.
const JUMP_MS: u64 = 1_000;

impl StoreClock {
    /// Starts from a time the store just told.
    pub fn new(time_ms: u64) -> Self {
        Self { base: Mutex::new(Base { time_ms, at: Instant::now(), jumped_at: None }) }
    }

    /// Takes over a time the store just told.
    pub fn observe(&self, time_ms: u64) {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if base.now_ms().abs_diff(time_ms) > JUMP_MS {
            base.jumped_at = Some(Instant::now());
        }
        base.time_ms = time_ms;
        base.at = Instant::now();
    }

    /// Tells the store's time, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.base.lock().unwrap_or_else(PoisonError::into_inner).now_ms()
    }

    /// Tells when the store's clock was last seen to jump against the process's own.
    pub fn jumped_at(&self) -> Option<Instant> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner).jumped_at
    }
}

impl Base {
    fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.time_ms.saturating_add(passed)
    }
}
