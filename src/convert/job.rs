//! Jobs on the wire, and how an attempt ended.

use berth_domain::ids::AttemptRef;
use berth_domain::job::{EndReason, Job, JobState};
use berth_domain::lifecycle::{AttemptEnd, EndCause, shorten_message};
use berth_domain::spec::JobSpec;

use super::scalar::{attempt_from_wire, signed, timestamp, timestamp_ms};
use super::spec::spec_to_wire;
use crate::status::Problem;
use crate::v1;

/// What is known of a job beside its record.
#[derive(Debug, Clone, Default)]
pub struct JobContext {
    /// Why a pending job waits.
    pub pending_reason: Option<v1::PendingReason>,
    /// Where an assigned job is on its executor.
    pub phase: v1::JobPhase,
    /// Its executor is out of touch: the state is the last known.
    pub unreachable: bool,
    /// The store's generation.
    pub generation: u64,
}

/// Shows a job on the wire. `spec` is `None` where it was removed meanwhile or not asked for.
pub fn job_to_wire(job: &Job, spec: Option<&JobSpec>, context: JobContext) -> v1::Job {
    v1::Job {
        id: job.id.to_string(),
        display_name: job.display_name.clone(),
        spec: spec.map(spec_to_wire),
        state: i32::from(state_to_wire(job.state)),
        pending_reason: context.pending_reason,
        exit_code: job.exit_code,
        end_reason: i32::from(job.end_reason.map_or(v1::EndReason::Unspecified, reason_to_wire)),
        executor_id: job.executor.as_ref().map(ToString::to_string).unwrap_or_default(),
        attempt: i32::try_from(job.attempt).unwrap_or(i32::MAX),
        create_time: Some(timestamp(job.create_time_ms)),
        start_time: job.start_time_ms.map(timestamp),
        end_time: job.end_time_ms.map(timestamp),
        array_id: String::new(),
        array_index: 0,
        revision: signed(job.revision),
        message: job.message.clone(),
        phase: i32::from(context.phase),
        unreachable: context.unreachable,
        gpu_device_ids: job.gpu_device_ids.clone(),
        attempt_epoch: signed(job.attempt_epoch),
        abort_requested: job.abort_requested,
        retry_of: job.retry_of.as_ref().map(ToString::to_string).unwrap_or_default(),
        namespace: job.namespace.to_string(),
        array: None,
        generation: signed(context.generation),
        spec_hash: job.spec_hash.to_string(),
        stop_unconfirmed: job.stop_unconfirmed,
    }
}

/// Shows a state on the wire.
pub fn state_to_wire(state: JobState) -> v1::JobState {
    match state {
        JobState::Pending => v1::JobState::Pending,
        JobState::Assigned => v1::JobState::Assigned,
        JobState::Running => v1::JobState::Running,
        JobState::Succeeded => v1::JobState::Succeeded,
        JobState::Failed => v1::JobState::Failed,
        JobState::Aborted => v1::JobState::Aborted,
    }
}

/// Shows a reason on the wire.
pub fn reason_to_wire(reason: EndReason) -> v1::EndReason {
    match reason {
        EndReason::ExitCode => v1::EndReason::ExitCode,
        EndReason::OomKilled => v1::EndReason::OomKilled,
        EndReason::ImageNotFound => v1::EndReason::ImageNotFound,
        EndReason::ImagePullFailed => v1::EndReason::ImagePullFailed,
        EndReason::QueueTimeout => v1::EndReason::QueueTimeout,
        EndReason::RunTimeout => v1::EndReason::RunTimeout,
        EndReason::AbortedByUser => v1::EndReason::AbortedByUser,
        EndReason::ExecutorLost => v1::EndReason::ExecutorLost,
        EndReason::ExecutorFault => v1::EndReason::ExecutorFault,
        EndReason::RefusedByPolicy => v1::EndReason::RefusedByPolicy,
    }
}

/// Reads how an attempt ended from an executor's report. `jitter` is a random number of the full
/// range, for the backoff of a retry.
///
/// # Errors
/// Refuses a report without an attempt, or with an end that no executor can see.
pub fn attempt_end_from_wire(result: &v1::AttemptResult, jitter: u32) -> Result<AttemptEnd, Problem> {
    let reason = v1::EndReason::try_from(result.end_reason)
        .map_err(|_| Problem::field("result.end_reason", "is not known to this version"))?;
    let code = || result.exit_code.ok_or_else(|| Problem::field("result.exit_code", "must be set"));
    let cause = match reason {
        v1::EndReason::ExitCode => EndCause::Exited { code: code()?, oom: result.oom_seen },
        v1::EndReason::OomKilled => EndCause::Exited { code: code()?, oom: true },
        v1::EndReason::ImageNotFound => EndCause::ImageNotFound,
        v1::EndReason::ImagePullFailed => EndCause::ImagePullFailed,
        v1::EndReason::RunTimeout => EndCause::RunTimeout { code: result.exit_code },
        v1::EndReason::AbortedByUser => EndCause::Aborted { code: result.exit_code },
        v1::EndReason::ExecutorFault => EndCause::ExecutorFault,
        v1::EndReason::RefusedByPolicy => EndCause::Refused,
        v1::EndReason::Unspecified | v1::EndReason::QueueTimeout | v1::EndReason::ExecutorLost => {
            return Err(Problem::field("result.end_reason", "is not an end that an executor can see"));
        }
    };
    Ok(AttemptEnd {
        attempt: attempt_from_wire(result.r#ref.as_ref())?,
        cause,
        message: shorten_message(&result.message),
        start_time_ms: result.start_time.as_ref().map(timestamp_ms),
        end_time_ms: result.end_time.as_ref().map_or(0, timestamp_ms),
        jitter,
    })
}

/// Makes an executor's report of how an attempt ended.
pub fn attempt_end_to_wire(end: &AttemptEnd) -> v1::AttemptResult {
    let (reason, exit_code, oom_seen) = match end.cause {
        EndCause::Exited { code, oom: true } if code == 137 => (v1::EndReason::OomKilled, Some(code), true),
        EndCause::Exited { code, oom } => (v1::EndReason::ExitCode, Some(code), oom),
        EndCause::Aborted { code } => (v1::EndReason::AbortedByUser, code, false),
        EndCause::RunTimeout { code } => (v1::EndReason::RunTimeout, code, false),
        EndCause::ImageNotFound => (v1::EndReason::ImageNotFound, None, false),
        EndCause::ImagePullFailed => (v1::EndReason::ImagePullFailed, None, false),
        EndCause::ExecutorFault => (v1::EndReason::ExecutorFault, None, false),
        EndCause::Refused => (v1::EndReason::RefusedByPolicy, None, false),
    };
    v1::AttemptResult {
        r#ref: Some(attempt_ref(&end.attempt)),
        exit_code,
        end_reason: i32::from(reason),
        message: end.message.clone(),
        start_time: end.start_time_ms.map(timestamp),
        end_time: Some(timestamp(end.end_time_ms)),
        cpu_micros: 0,
        peak_memory_bytes: 0,
        oom_seen,
    }
}

fn attempt_ref(attempt: &AttemptRef) -> v1::JobRef {
    super::scalar::attempt_to_wire(attempt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_domain::ids::JobId;

    #[test]
    fn an_end_survives_the_wire() {
        let causes = [
            EndCause::Exited { code: 0, oom: false },
            EndCause::Exited { code: 3, oom: true },
            EndCause::Exited { code: 137, oom: true },
            EndCause::Aborted { code: Some(143) },
            EndCause::RunTimeout { code: None },
            EndCause::ImageNotFound,
            EndCause::ImagePullFailed,
            EndCause::ExecutorFault,
            EndCause::Refused,
        ];
        for cause in causes {
            let attempt = AttemptRef { job: JobId::trusted("j"), number: 2, epoch: 7 };
            let end = AttemptEnd {
                attempt,
                cause,
                message: "m".into(),
                start_time_ms: Some(1_001),
                end_time_ms: 2_002,
                jitter: 5,
            };
            assert_eq!(attempt_end_from_wire(&attempt_end_to_wire(&end), 5), Ok(end));
        }
    }
}
