//! What containers say of it.

use std::collections::BTreeSet;

use berth_domain::ids::AttemptRef;
use berth_domain::job::{EndReason, JobState};
use berth_domain::spec::OnLost;
use berth_store::Change;

use super::{Invariant, Logged, View, Violation, life, witnessed};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    authority(view, found);
    for (id, records) in &view.lives {
        let runs = view.runs_of(id);
        let is_lost = |run: &super::Run| view.has_lost_assignment(&run.attempt);
        let Some(newest) = records.last() else { continue };
        let mut violated = |invariant, story: String| found.push(Violation::new(invariant, story).of(id));
        // Where the store has lost an assignment, its number may be given again, to another executor.
        let place = |run: &&&super::Run| if is_lost(run) { run.executor.clone() } else { String::new() };
        let starts: BTreeSet<(&AttemptRef, String)> =
            runs.iter().map(|run| (&run.attempt, place(&run))).collect();
        if starts.len() < runs.len() {
            violated(
                Invariant::NoOverlap,
                format!("an attempt of job {id} started twice: {}", witnessed(runs)),
            );
        }
        match newest.on_lost {
            OnLost::Fail if runs.iter().filter(|run| !is_lost(run)).count() > 1 => {
                violated(Invariant::NoOverlap, format!("job {id} may start once: {}", witnessed(runs)));
            }
            OnLost::Hold => {
                let known: Vec<_> = runs.iter().filter(|run| !is_lost(run)).collect();
                let lasts = |run: &super::Run, until: u64| run.ended.is_none_or(|(end, _)| end > until);
                let overlaps = |(index, later): (usize, &&&super::Run)| {
                    known[..index].iter().any(|earlier| lasts(earlier, later.started_ms))
                };
                if known.iter().enumerate().any(overlaps) {
                    violated(
                        Invariant::NoOverlap,
                        format!("job {id} ran twice at once: {}", witnessed(runs)),
                    );
                }
            }
            OnLost::Fail | OnLost::Retry => {}
        }
        let code = match (newest.state, newest.end_reason) {
            (JobState::Succeeded, _) => Some(0),
            (JobState::Failed, Some(EndReason::ExitCode)) => newest.exit_code,
            _ => None,
        };
        if let Some(code) = newest.exit_code.filter(|code| newest.state == JobState::Succeeded && *code != 0)
        {
            violated(Invariant::Truth, format!("job {id} succeeded with {code}: {}", life(records)));
        }
        let attempt = newest.last_attempt();
        let saw =
            |code| runs.iter().any(|run| run.attempt == attempt && run.ended.is_some_and(|(_, c)| c == code));
        // A command that cannot be run is told by the engine; nothing of it ever started. Under a key that
        // the store has lost, another job may have run before.
        let never_ran =
            |code: i32| matches!(code, 126 | 127) && (runs.is_empty() || view.has_lost_submit(id));
        if let Some(code) = code.filter(|code| !saw(*code) && !never_ran(*code)) {
            let story =
                format!("nobody saw job {id} exit with {code}: {}; {}", life(records), witnessed(runs));
            violated(Invariant::Truth, story);
        }
    }
}

/// Every start follows an assignment, and what is not current is stopped.
fn authority(view: &View<'_>, found: &mut Vec<Violation>) {
    let attempts = |logged: &Logged| match &logged.change {
        Change::Job(job) => job.current_attempt().zip(job.executor.as_ref().map(ToString::to_string)),
        Change::JobDeleted(_) | Change::Executor(_) | Change::Leader { .. } => None,
    };
    for run in view.history.neighbours.iter().filter(|run| run.ended.is_some()) {
        let story = format!("a container of somebody else was ended: {}", witnessed(&[run]));
        found.push(Violation::new(Invariant::Authority, story));
    }
    let logged = view.history.log.iter().chain(&view.history.tail);
    let assigned: BTreeSet<(AttemptRef, String)> = logged.filter_map(attempts).collect();
    for run in &view.history.runs {
        let id = run.attempt.job.as_str();
        if !assigned.contains(&(run.attempt.clone(), run.executor.clone())) {
            let story = format!("job {id} ran without an assignment: {}", witnessed(&[run]));
            found.push(Violation::new(Invariant::Authority, story).of(id));
        }
        let current = view.newest(id).and_then(|job| job.current_attempt());
        if view.history.is_quiet && run.ended.is_none() && current.as_ref() != Some(&run.attempt) {
            let story = format!("nobody stopped a container of job {id}: {}", witnessed(&[run]));
            found.push(Violation::new(Invariant::Authority, story).of(id));
        }
    }
}
