//! Between the session's messages and what the executor works with. A message that makes no sense
//! is logged and left out: it must never stop the rest.

use berth_api::convert::{
    attempt_end_to_wire, attempt_from_wire, attempt_to_wire, duration_ms, spec_from_wire, timestamp,
};
use berth_api::v1;
use berth_api::v1::session_request::{Progress as WireProgress, Report};
use berth_api::v1::session_response::{Start, Stop};
use berth_domain::ids::AttemptRef;
use prost_types::Timestamp;

use super::ledger::Numbered;
use crate::reconciler::{LiveAttempt, Order, Orders, Phase, Progress, Reportable};
use crate::runtime::{OutputLine, OutputStream};

/// Reads an assignment message; `None` when it changes nothing.
pub(super) fn orders(message: &v1::SessionResponse) -> Option<Orders> {
    if !message.full_set && message.starts.is_empty() && message.stops.is_empty() {
        return None;
    }
    Some(Orders {
        full_set: message.full_set,
        starts: message.starts.iter().filter(|start| start.spec.is_some()).filter_map(start).collect(),
        confirmed: message.starts.iter().filter(|start| start.spec.is_none()).filter_map(confirmed).collect(),
        stops: message.stops.iter().filter_map(stop).collect(),
    })
}

/// A start without a spec, as in a whole set: the attempt is wanted as it was told before.
fn confirmed(start: &Start) -> Option<AttemptRef> {
    attempt(start.r#ref.as_ref())
}

fn start(start: &Start) -> Option<(AttemptRef, Order)> {
    let attempt = attempt(start.r#ref.as_ref())?;
    let order = Order {
        // The queue's clock is none of an executor's business.
        spec: spec_from_wire(start.spec.as_ref(), 0).map_err(|problem| problem.to_string()),
        gpu_device_ids: start.gpu_device_ids.clone(),
        array_index: u32::try_from(start.array_index).ok().filter(|index| *index > 0),
        traceparent: start.traceparent.clone(),
    };
    Some((attempt, order))
}

fn stop(stop: &Stop) -> Option<(AttemptRef, Option<u64>)> {
    let grace = stop.grace_period.as_ref().map(|grace| duration_ms("grace_period", grace));
    Some((attempt(stop.r#ref.as_ref())?, grace.and_then(Result::ok)))
}

/// Reads an attempt; `None` when it is none.
pub(super) fn attempt(reference: Option<&v1::JobRef>) -> Option<AttemptRef> {
    attempt_from_wire(reference)
        .inspect_err(|problem| tracing::warn!(reason = %problem, "a message names no attempt"))
        .ok()
}

/// Shows a report.
pub(super) fn report(numbered: &Numbered) -> Report {
    let (state, result) = match &numbered.report {
        Reportable::Running => (v1::JobState::Running, None),
        Reportable::Ended(end) => {
            let result = attempt_end_to_wire(end);
            (end_state(&result), Some(result))
        }
    };
    Report {
        number: numbered.number,
        r#ref: Some(attempt_to_wire(&numbered.attempt)),
        state: i32::from(state),
        result,
    }
}

/// The state that the end amounts to for this attempt; whether the job is tried again is for the
/// schedulers to say.
fn end_state(result: &v1::AttemptResult) -> v1::JobState {
    let reason = v1::EndReason::try_from(result.end_reason).unwrap_or(v1::EndReason::Unspecified);
    if reason == v1::EndReason::ExitCode && result.exit_code == Some(0) {
        v1::JobState::Succeeded
    } else if reason == v1::EndReason::AbortedByUser {
        v1::JobState::Aborted
    } else {
        v1::JobState::Failed
    }
}

/// Shows an attempt that has not ended.
pub(super) fn live(live: &LiveAttempt) -> v1::RunningAttempt {
    let state = if live.started_ms.is_some() { v1::JobState::Running } else { v1::JobState::Assigned };
    v1::RunningAttempt {
        r#ref: Some(attempt_to_wire(&live.attempt)),
        state: i32::from(state),
        start_time: live.started_ms.map(timestamp),
        gpu_device_ids: live.gpu_device_ids.clone(),
        spec_known: live.spec_known,
    }
}

/// Shows a sign of progress.
pub(super) fn progress(progress: &Progress) -> WireProgress {
    let phase = match progress.phase {
        Phase::Accepted => v1::JobPhase::Accepted,
        Phase::Pulling => v1::JobPhase::Pulling,
        Phase::Creating => v1::JobPhase::Creating,
        Phase::Starting => v1::JobPhase::Starting,
    };
    WireProgress {
        r#ref: Some(attempt_to_wire(&progress.attempt)),
        phase: i32::from(phase),
        pulled_bytes: i64::try_from(progress.pulled_bytes).unwrap_or(i64::MAX),
        total_bytes: i64::try_from(progress.total_bytes).unwrap_or(i64::MAX),
    }
}

/// Shows a piece of output.
pub(super) fn log_entry(attempt: &AttemptRef, offset_bytes: u64, line: OutputLine) -> v1::LogEntry {
    let stream = match line.stream {
        OutputStream::Stdout => v1::log_entry::Stream::Stdout,
        OutputStream::Stderr => v1::log_entry::Stream::Stderr,
        OutputStream::System => v1::log_entry::Stream::System,
    };
    v1::LogEntry {
        job_id: attempt.job.to_string(),
        attempt: i32::try_from(attempt.number).unwrap_or(i32::MAX),
        stream: i32::from(stream),
        data: line.bytes,
        time: Some(Timestamp {
            seconds: i64::try_from(line.time_ns / 1_000_000_000).unwrap_or(i64::MAX),
            nanos: i32::try_from(line.time_ns % 1_000_000_000).unwrap_or(0),
        }),
        offset_bytes: i64::try_from(offset_bytes).unwrap_or(i64::MAX),
    }
}
