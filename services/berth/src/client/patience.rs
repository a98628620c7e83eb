//! How long, and in what rhythm, something unreachable is tried again. It knows nothing of what is tried.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause after all addresses have been tried.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Failures this far apart belong to different troubles.
const SAME_TROUBLE: Duration = Duration::from_secs(15);

/// Counts the failures of one trouble.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    addresses: u32,
    failures: u32,
    began: Instant,
    latest: Instant,
}

impl Patience {
    /// Starts with no failure. `addresses` is how many may be tried before the first pause, at least 1.
    pub fn new(limit: Duration, addresses: usize) -> Self {
        let now = Instant::now();
        let addresses = u32::try_from(addresses).unwrap_or(1).max(1);
        Self { limit, addresses, failures: 0, began: now, latest: now }
    }

    /// Forgets the failures: something worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Notes a failure and gives the pause before the next try; `None` when the limit is over.
    /// `at_least` is a pause that the server asked for.
    pub fn pause(&mut self, at_least: Option<Duration>) -> Option<Duration> {
        let now = Instant::now();
        if self.failures == 0 || now.duration_since(self.latest) > SAME_TROUBLE {
            self.failures = 0;
            self.began = now;
        }
        self.latest = now;
        self.failures = self.failures.saturating_add(1);
        let left = self.limit.checked_sub(now.duration_since(self.began)).filter(|left| !left.is_zero())?;
        let rounds = self.failures / self.addresses;
        // Within the first round another address may do at once; the jitter keeps clients apart.
        let longest = match rounds {
            0 => FIRST_PAUSE / 2,
            _ => FIRST_PAUSE.saturating_mul(1 << rounds.min(5)).min(LONGEST_PAUSE),
        };
        let jittered = longest.mul_f64(rand::random_range(0.5..=1.0));
        let asked =
            if rounds == 0 { Duration::ZERO } else { at_least.unwrap_or_default().min(LONGEST_PAUSE * 2) };
        Some(jittered.max(asked).min(left))
    }

    /// Tells how long the present trouble has lasted.
    pub fn lasted(&self) -> Duration {
        if self.failures == 0 { Duration::ZERO } else { self.began.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_after_the_limit_and_not_before() {
        let mut patience = Patience::new(Duration::from_secs(15), 3);
        let began = Instant::now();
        while let Some(pause) = patience.pause(None) {
            tokio::time::sleep(pause).await;
        }
        let lasted = began.elapsed();
        assert!((15_000..15_050).contains(&lasted.as_millis()), "{lasted:?}");
        assert!((15..60).contains(&patience.failures), "{} tries", patience.failures);
    }

    #[tokio::test(start_paused = true)]
    async fn the_other_addresses_are_tried_quickly() {
        let mut patience = Patience::new(Duration::from_secs(15), 3);
        for _ in 0..2 {
            assert!(patience.pause(Some(Duration::from_secs(2))).is_some_and(|p| p.as_millis() <= 50));
        }
        assert_eq!(patience.pause(Some(Duration::from_secs(2))), Some(Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_trouble_has_its_own_limit() {
        let mut patience = Patience::new(Duration::from_secs(15), 1);
        assert!(patience.pause(None).is_some());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(patience.pause(None).is_some());
    }
}
