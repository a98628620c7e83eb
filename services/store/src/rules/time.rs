//! The cluster's time. It is the server's clock, but it never goes back: where that clock was set back, or
//! another server's is behind, time goes on from where it was, a tenth slower until the clock has caught
//! up. Locks and leases would otherwise last as much longer as the clock was set back.

/// The part of its speed that time loses while the clock catches up: one in so many.
const SLOWER_BY: u64 = 10;
/// A clock that has moved further than that since it was last read was set, or nobody asked for long.
const STEP_MS: u64 = 60_000;

/// What is remembered of the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Time {
    /// The latest time that was told.
    pub(crate) told_ms: u64,
    /// What the server's clock showed then.
    pub(crate) clock_ms: u64,
    /// How far time was ahead of the clock when that was last set.
    pub(crate) ahead_ms: u64,
    /// What the clock showed when it was last set.
    pub(crate) since_ms: u64,
}

impl Time {
    /// Tells the time, given what the server's clock shows.
    pub(crate) fn at(&self, clock_ms: u64) -> u64 {
        self.after(clock_ms).told_ms
    }

    /// Tells the time, and remembers that it was told.
    pub(crate) fn tell(&mut self, clock_ms: u64) -> u64 {
        *self = self.after(clock_ms);
        self.told_ms
    }

    fn after(&self, clock_ms: u64) -> Self {
        let was_set = clock_ms < self.clock_ms || clock_ms - self.clock_ms > STEP_MS;
        if was_set {
            // A clock that is right again ends what it was ahead; one that was set back begins it.
            let told_ms = clock_ms.max(self.told_ms);
            return Self { told_ms, clock_ms, ahead_ms: told_ms - clock_ms, since_ms: clock_ms };
        }
        let caught_up_ms = clock_ms.saturating_sub(self.since_ms) / SLOWER_BY;
        let told_ms = (clock_ms + self.ahead_ms.saturating_sub(caught_up_ms)).max(self.told_ms);
        Self { told_ms, clock_ms, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_on_is_followed() {
        let mut time = Time::default();
        assert_eq!([time.tell(1_000), time.tell(1_001), time.tell(90_000)], [1_000, 1_001, 90_000]);
    }

    #[test]
    fn a_clock_that_was_set_back_is_caught_up_with_and_never_followed_back() {
        let mut time = Time::default();
        assert_eq!(time.tell(10_000_000), 10_000_000);
        let mut last_ms = 10_000_000;
        // An hour back, and then a look at every 7 ms for eleven hours.
        for clock_ms in (6_400_000..6_400_000 + 39_600_000).step_by(7) {
            let now_ms = time.tell(clock_ms);
            assert!(now_ms >= last_ms && now_ms - last_ms <= 7, "{now_ms} after {last_ms}");
            last_ms = now_ms;
        }
        assert_eq!(time.at(46_000_000), 46_000_000, "the clock has caught up");
    }

    #[test]
    fn a_clock_that_is_set_back_and_right_again_leaves_nothing_behind() {
        let mut time = Time::default();
        let mut right_ms = 100_000_000;
        let mut last_ms = time.tell(right_ms);
        for _ in 0..6 {
            for wrong_ms in [3_600_000, 0] {
                for _ in 0..60 {
                    right_ms += 1_000;
                    let now_ms = time.tell(right_ms - wrong_ms);
                    assert!(now_ms >= last_ms, "{now_ms} after {last_ms}");
                    assert!(now_ms <= right_ms, "{now_ms} is ahead of {right_ms}");
                    last_ms = now_ms;
                }
            }
            assert_eq!(last_ms, right_ms);
        }
    }

    #[test]
    fn time_is_told_alike_whether_it_is_remembered_or_not() {
        let mut time = Time { told_ms: 5_000, clock_ms: 5_000, ahead_ms: 0, since_ms: 0 };
        for clock_ms in [4_000, 4_500, 3_000, 3_001, 50_000, 500_000, 400_000] {
            assert_eq!(time.at(clock_ms), time.tell(clock_ms));
        }
    }
}
