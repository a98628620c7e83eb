//! Whether a job's end is the one its command has, unless something that may end it did.

use std::collections::BTreeSet;

use berth_domain::job::{EndReason, Job, JobState};
use berth_domain::spec::{MAX_INFRASTRUCTURE_RETRIES, OnLost};

use super::{Invariant, View, Violation, life, witnessed};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    let asked: BTreeSet<&str> = view.history.aborts.iter().map(|abort| abort.job.as_str()).collect();
    for submit in &view.history.submits {
        let Some(id) = submit.job() else { continue };
        // Under a key that the store has lost, another job may have been made.
        let Some(job) = view.newest(id).filter(|job| job.state.is_terminal() && !view.is_void(submit)) else {
            continue;
        };
        let was_aborted = job.state == JobState::Aborted && asked.contains(id);
        let end = submit.end.filter(|end| job.state != *end && !may_end_so(job) && !was_aborted);
        let has_exited = job.end_reason == Some(EndReason::ExitCode);
        let code = submit.code.filter(|code| has_exited && job.exit_code != Some(*code));
        let must = match (end, code) {
            (Some(end), _) => format!("end as {}", end.name()),
            (None, Some(code)) => format!("exit with {code} if it exits"),
            (None, None) => continue,
        };
        let records = view.lives.get(id).map(Vec::as_slice).unwrap_or_default();
        let story = format!(
            "job {id} must {must}: {} ({}); {}",
            life(records),
            job.message,
            witnessed(view.runs_of(id))
        );
        found.push(Violation::new(Invariant::Outcome, story).of(id));
    }
}

/// Says whether a job may have been given up, whatever its command does.
fn may_end_so(job: &Job) -> bool {
    if job.state != JobState::Failed {
        return false;
    }
    match job.end_reason {
        Some(EndReason::QueueTimeout) => job.queue_timeout_ms.is_some_and(|limit_ms| {
            // Where the clock was set back, a job may be ready again at an earlier time than it was submitted.
            let since_ms = job.create_time_ms.min(job.ready_time_ms);
            job.end_time_ms.is_none_or(|end_ms| end_ms >= since_ms.saturating_add(limit_ms))
        }),
        Some(EndReason::ExecutorLost | EndReason::ExecutorFault | EndReason::ImagePullFailed) => {
            job.on_lost == OnLost::Fail || job.infrastructure_retries >= MAX_INFRASTRUCTURE_RETRIES
        }
        Some(
            EndReason::ExitCode
            | EndReason::OomKilled
            | EndReason::ImageNotFound
            | EndReason::RunTimeout
            | EndReason::AbortedByUser
            | EndReason::RefusedByPolicy,
        )
        | None => false,
    }
}
