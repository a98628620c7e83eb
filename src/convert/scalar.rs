//! Times, durations, identifiers and attempts.

use berth_domain::ids::{AttemptRef, JobId};
use prost_types::{Duration, Timestamp};

use crate::status::{Problem, Violation};
use crate::v1;

/// Makes a timestamp of milliseconds since the Unix epoch.
pub fn timestamp(ms: u64) -> Timestamp {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000;
    Timestamp { seconds, nanos }
}

/// The last time that a protobuf timestamp may say, the end of the year 9999; what is later is taken for this.
const LAST_MS: u64 = 253_402_300_799_999;

/// Reads a timestamp as milliseconds since the Unix epoch; what lies before is 0.
pub fn timestamp_ms(timestamp: &Timestamp) -> u64 {
    let seconds = u64::try_from(timestamp.seconds).unwrap_or(0);
    let millis = u64::try_from(timestamp.nanos / 1_000_000).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(millis).min(LAST_MS)
}

/// Makes a duration of milliseconds.
pub fn duration(ms: u64) -> Duration {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000;
    Duration { seconds, nanos }
}

/// Reads a duration as milliseconds, rounded up, so that a positive one never becomes 0.
///
/// # Errors
/// Refuses negative, denormal and unreasonable (over 100 years) durations.
pub fn duration_ms(field: &str, duration: &Duration) -> Result<u64, Violation> {
    const MAX_SECONDS: i64 = 100 * 366 * 86_400;
    let refuse =
        |description: &str| Violation { field: field.to_owned(), description: description.to_owned() };
    if duration.seconds < 0 || duration.nanos < 0 {
        return Err(refuse("must not be negative"));
    }
    if duration.seconds > MAX_SECONDS || duration.nanos > 999_999_999 {
        return Err(refuse("must be at most 100 years, with less than 1e9 nanoseconds"));
    }
    let seconds = u64::try_from(duration.seconds).unwrap_or(0);
    let millis = u64::try_from(duration.nanos).unwrap_or(0).div_ceil(1_000_000);
    Ok(seconds * 1_000 + millis)
}

/// Reads a job id from a request.
///
/// # Errors
/// Refuses what cannot be an id.
pub fn job_id(field: &str, id: &str) -> Result<JobId, Problem> {
    if id.is_empty() {
        return Err(Problem::field(field, "must not be empty; give the id that submit returned"));
    }
    JobId::parse(id).map_err(|_| Problem::no_job(id.chars().take(80).collect::<String>()))
}

/// Names an attempt on the wire.
pub fn attempt_to_wire(attempt: &AttemptRef) -> v1::JobRef {
    v1::JobRef {
        job_id: attempt.job.to_string(),
        attempt: i32::try_from(attempt.number).unwrap_or(i32::MAX),
        epoch: i64::try_from(attempt.epoch).unwrap_or(i64::MAX),
    }
}

/// Reads the attempt a message speaks of.
///
/// # Errors
/// Refuses a missing or malformed reference.
pub fn attempt_from_wire(reference: Option<&v1::JobRef>) -> Result<AttemptRef, Problem> {
    let reference = reference.ok_or_else(|| Problem::field("ref", "must be set"))?;
    let job = JobId::parse(&reference.job_id).map_err(|e| Problem::field("ref.job_id", e.to_string()))?;
    let number = u32::try_from(reference.attempt)
        .map_err(|_| Problem::field("ref.attempt", "must not be negative"))?;
    let epoch =
        u64::try_from(reference.epoch).map_err(|_| Problem::field("ref.epoch", "must not be negative"))?;
    Ok(AttemptRef { job, number, epoch })
}

/// Makes a signed wire number of an amount.
pub fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
