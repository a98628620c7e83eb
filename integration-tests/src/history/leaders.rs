//! Whose word counts: leaders by epoch, executors by session.

use std::collections::BTreeMap;

use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::SessionId;
use berth_domain::job::{EndReason, Job, JobState};
use berth_store::Change;

use super::{Invariant, View, Violation};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    let mut epoch = 0;
    let mut executors: BTreeMap<&str, &Executor> = BTreeMap::new();
    let mut jobs: BTreeMap<&str, &Job> = BTreeMap::new();
    let mut registered_ms: BTreeMap<&str, (Option<&SessionId>, u64)> = BTreeMap::new();
    for logged in &view.history.log {
        let mut violated = |invariant, story: String| {
            let story = format!("revision {}: {story}", logged.revision);
            found.push(Violation::new(invariant, story).of_change(&logged.change).at(logged));
        };
        match &logged.change {
            Change::Leader { epoch: next, scheduler_id } if !scheduler_id.is_empty() => {
                if *next <= epoch {
                    violated(
                        Invariant::LeaderFence,
                        format!("{scheduler_id} leads with epoch {next} after {epoch}"),
                    );
                }
                epoch = *next;
            }
            Change::Leader { .. } | Change::JobDeleted(_) => {}
            Change::Executor(executor) => {
                let id = executor.id.as_str();
                executors.insert(id, executor);
                let (session, since_ms) = registered_ms.get(id).copied().unwrap_or_default();
                if executor.session.is_some() && executor.session.as_ref() != session {
                    registered_ms.insert(id, (executor.session.as_ref(), logged.at_ms));
                }
                let due_ms = since_ms + view.history.lost_after_ms;
                let is_judged = executor.state == ExecutorState::Lost && !executor.fenced;
                if is_judged && session.is_some() && logged.at_ms > 0 && logged.at_ms < due_ms {
                    let after_ms = logged.at_ms - since_ms;
                    violated(
                        Invariant::ExecutorFence,
                        format!("{id} was judged lost {after_ms} ms after it had registered"),
                    );
                }
            }
            Change::Job(job) => {
                let before = jobs.insert(job.id.as_str(), job);
                if view.is_excused(job.id.as_str()) {
                    continue;
                }
                let is_assigned = job.state == JobState::Assigned
                    && before.is_some_and(|before| before.state == JobState::Pending);
                if is_assigned && job.attempt_epoch != epoch {
                    violated(
                        Invariant::LeaderFence,
                        format!(
                            "job {} was assigned with epoch {} while {epoch} leads",
                            job.id, job.attempt_epoch
                        ),
                    );
                }
                let executor =
                    before.filter(|_| is_report(before, job)).and_then(|before| before.executor.as_ref());
                let lost = executor.and_then(|id| executors.get(id.as_str()));
                if let Some(lost) = lost.filter(|executor| executor.state == ExecutorState::Lost) {
                    violated(
                        Invariant::ExecutorFence,
                        format!(
                            "job {} became {} by a report of {}, which is lost",
                            job.id,
                            job.state.name(),
                            lost.id
                        ),
                    );
                }
            }
        }
    }
}

/// Only a report of the executor makes such a step.
fn is_report(before: Option<&Job>, after: &Job) -> bool {
    let was_current = before.is_some_and(|before| before.current_attempt().is_some());
    let started =
        after.state == JobState::Running && before.is_some_and(|before| before.state != JobState::Running);
    let exited = after.state.is_terminal() && after.end_reason == Some(EndReason::ExitCode);
    was_current && (started || exited)
}
