//! Waits for conditions.

use std::time::{Duration, Instant};

/// How long a condition may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
///
/// # Panics
/// Panics after a minute without one.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, condition)
}

/// Asks again and again until there is an answer, for as long as is said.
///
/// # Panics
/// Panics when there is none by then.
pub fn until_within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Holds that something stays so for as long as is said, asking again and again.
///
/// # Panics
/// Panics at once when it is so no longer.
pub fn stays(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        assert!(holds(), "no longer so: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
