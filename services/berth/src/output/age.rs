//! Times and durations as people read them.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// The time of this machine's clock.
pub fn now() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Reads a wire timestamp; `None` when it is unset or out of range.
pub fn instant(timestamp: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let timestamp = timestamp?;
    Timestamp::new(timestamp.seconds, timestamp.nanos).ok()
}

/// Words how long ago a time was: `5s`, `3m12s`, `2days4h`; `-` when unset.
pub fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "-".to_owned(), |then| between(then, now))
}

/// Words the time from one instant to another; one that is not later counts as none.
pub fn between(from: Timestamp, to: Timestamp) -> String {
    short(Duration::try_from(to.duration_since(from)).unwrap_or_default())
}

/// Words a duration in whole seconds by its two largest units.
pub fn short(duration: Duration) -> String {
    let whole = Duration::from_secs(duration.as_secs());
    humantime::format_duration(whole).to_string().split(' ').take(2).collect()
}

/// Words a wire duration; empty when unset.
pub fn wire(duration: Option<&prost_types::Duration>) -> String {
    let words = |duration: &prost_types::Duration| {
        let duration = Duration::try_from(*duration).unwrap_or_default();
        humantime::format_duration(duration).to_string().replace(' ', "")
    };
    duration.map(words).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let word = |seconds| short(Duration::from_secs(seconds));
        assert_eq!([word(0), word(5), word(192), word(7_200)], ["0s", "5s", "3m12s", "2h"]);
        assert_eq!(word(2 * 86_400 + 4 * 3_600 + 59), "2days4h");
    }

    #[test]
    fn a_time_in_the_future_is_no_age() {
        let second = |s| Timestamp::from_second(s).expect("is in range");
        assert_eq!(between(second(10), second(5)), "0s");
        assert_eq!(since(None, second(0)), "-");
    }
}
