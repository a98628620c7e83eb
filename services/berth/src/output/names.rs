//! Names of enum values, without their prefixes.

use berth_api::v1::{EndReason, Executor, Job, JobPhase, JobState};

/// Names a job's state.
pub fn state(job: &Job) -> &'static str {
    name_of_state(job.state())
}

/// Names a state.
pub fn name_of_state(state: JobState) -> &'static str {
    state.as_str_name().trim_start_matches("JOB_STATE_")
}

/// Names why a job ended; empty until it has.
pub fn end_reason(job: &Job) -> &'static str {
    name_of_reason(job.end_reason())
}

/// Names a reason; empty for none.
pub fn name_of_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Unspecified => "",
        reason => reason.as_str_name().trim_start_matches("END_REASON_"),
    }
}

/// Names how far an assigned job is; empty when not known.
pub fn phase(job: &Job) -> &'static str {
    match job.phase() {
        JobPhase::Unspecified => "",
        phase => phase.as_str_name().trim_start_matches("JOB_PHASE_"),
    }
}

/// Names an executor's state.
pub fn executor_state(executor: &Executor) -> &'static str {
    executor.state().as_str_name().trim_start_matches("EXECUTOR_STATE_")
}
