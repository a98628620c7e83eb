//! How long to wait before trying again: exponential growth with full jitter
//! (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

/// Bounds of a backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling of the first wait, in milliseconds.
    pub first_ms: u64,
    /// The ceiling of every later wait, in milliseconds.
    pub most_ms: u64,
}

/// Waits between infrastructure retries of a job: 1 to 60 s.
pub const INFRASTRUCTURE: Backoff = Backoff { first_ms: 1_000, most_ms: 60_000 };
/// Waits between retries of a job's own failures: 1 to 60 s.
pub const OWN_FAILURE: Backoff = Backoff { first_ms: 1_000, most_ms: 60_000 };
/// Waits between attempts to reach a scheduler.
pub const RECONNECT: Backoff = Backoff { first_ms: 200, most_ms: 5_000 };

impl Backoff {
    /// Computes the wait before retry number `retry` (from 0). `jitter` is a random number of the
    /// full `u32` range; the wait lies between half the ceiling and the ceiling.
    pub fn wait_ms(self, retry: u32, jitter: u32) -> u64 {
        let doubled = self.first_ms.saturating_mul(1_u64.checked_shl(retry.min(32)).unwrap_or(u64::MAX));
        let ceiling = doubled.min(self.most_ms).max(1);
        let spread = ceiling / 2;
        let share = u128::from(spread) * u128::from(jitter) / u128::from(u32::MAX);
        ceiling - spread + u64::try_from(share).unwrap_or(spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_stay_within_their_bounds(retry in 0_u32..200, jitter: u32) {
            let wait = INFRASTRUCTURE.wait_ms(retry, jitter);
            prop_assert!((INFRASTRUCTURE.first_ms / 2..=INFRASTRUCTURE.most_ms).contains(&wait));
        }
    }
}
