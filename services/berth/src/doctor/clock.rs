//! Judges clocks against this machine's own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::report::Check;
use crate::client::connection::Connection;

/// How far a clock may be off beyond the error of the comparison.
const TOLERANCE_MS: u64 = 1_000;
/// How long a scheduler may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Judges a clock that is `offset_ms` ahead of this machine's, give or take `error`.
pub fn judge(name: &'static str, whose: &str, offset_ms: i64, error: Duration) -> Check {
    let error_ms = u64::try_from(error.as_millis()).unwrap_or(u64::MAX);
    let off = offset_ms.unsigned_abs();
    if off <= TOLERANCE_MS.saturating_add(error_ms) {
        return Check::ok(name, format!("The clock of {whose} agrees with this machine's within 1 s."));
    }
    let side = if offset_ms > 0 { "ahead of" } else { "behind" };
    Check::warn(
        name,
        format!(
            "The clock of {whose} is {} {side} this machine's: times of jobs are shown wrong.",
            seconds(off)
        ),
        "Synchronise both clocks, for example with chrony. Check: timedatectl",
    )
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

/// Compares with the first scheduler that answers; nothing where none does.
pub async fn of_scheduler(connection: &Connection) -> Option<Check> {
    for (address, channel) in connection.each() {
        let asked = SystemTime::now();
        let request = HealthCheckRequest { service: String::new() };
        let answer = tokio::time::timeout(LIMIT, HealthClient::new(channel).check(request)).await;
        let Ok(Ok(answer)) = answer else { continue };
        let waited = asked.elapsed().unwrap_or_default();
        let Some(date) = answer.metadata().get("date").and_then(|date| date.to_str().ok()) else { continue };
        let ours = asked.duration_since(UNIX_EPOCH).unwrap_or_default() + waited / 2;
        if let Some((offset_ms, error)) = offset(date, ours, waited) {
            return Some(judge("scheduler-clock", &format!("the scheduler at {address}"), offset_ms, error));
        }
    }
    None
}

/// Reads the date of an answer, which is whole seconds and therefore half a second early on average.
fn offset(date: &str, ours: Duration, waited: Duration) -> Option<(i64, Duration)> {
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_millisecond().checked_add(500)?;
    let ours = i64::try_from(ours.as_millis()).ok()?;
    Some((theirs - ours, Duration::from_millis(500) + waited / 2))
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    fn judged(offset_ms: i64, error_ms: u64) -> Check {
        judge("redis-clock", "Redis at h:6379", offset_ms, Duration::from_millis(error_ms))
    }

    #[test]
    fn a_clock_is_off_only_beyond_the_error_of_the_comparison() {
        for (offset_ms, error_ms, status) in [
            (0, 0, Status::Ok),
            (1_000, 0, Status::Ok),
            (-1_000, 0, Status::Ok),
            (1_001, 0, Status::Warn),
            (-1_400, 500, Status::Ok),
            (-1_600, 500, Status::Warn),
        ] {
            assert_eq!(judged(offset_ms, error_ms).status, status, "{offset_ms} +- {error_ms}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_told_with_its_direction() {
        let old = judged(-86_400_250, 1);
        assert!(old.message.contains("is 86400.2 s behind this machine's"), "{}", old.message);
        assert!(judged(1_500, 1).message.contains("is 1.5 s ahead of"), "{}", judged(1_500, 1).message);
        assert!(old.remedy.contains("chrony"), "{}", old.remedy);
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        let ours = Duration::from_millis(784_111_777_500);
        let read = offset("Sun, 06 Nov 1994 08:49:37 GMT", ours, Duration::from_millis(20));
        assert_eq!(read, Some((0, Duration::from_millis(510))));
        assert_eq!(offset("yesterday", ours, Duration::ZERO), None);
    }
}
