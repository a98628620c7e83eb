//! How records may follow each other.

use std::collections::BTreeMap;

use berth_domain::job::{Job, JobState};

use super::{Invariant, View, Violation, life};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    for logged in &view.history.log {
        let last = newest.entry(logged.generation).or_default();
        if logged.revision <= *last {
            let story = format!("revision {} of the log follows {last}", logged.revision);
            found.push(Violation::new(Invariant::LegalTransitions, story).at(logged));
        }
        *last = logged.revision;
    }
    for (id, records) in &view.lives {
        let ends = records.iter().position(|job| job.state.is_terminal());
        if let Some(end) = ends.filter(|end| end + 1 < records.len()) {
            let story = format!("job {id} was changed after its end: {}", life(&records[end..]));
            let violation = Violation::new(Invariant::OneTerminal, story).of(id);
            found.push(violation.at_revision(records[end + 1].revision));
        }
        if let Some(first) = records.first().filter(|first| !is_new(first)) {
            let story = format!("job {id} began as {}, attempt {}", first.state.name(), first.attempt);
            let violation = Violation::new(Invariant::LegalTransitions, story).of(id);
            found.push(violation.at_revision(first.revision));
        }
        for pair in records.windows(2) {
            if pair[0].abort_requested && !pair[1].abort_requested && !pair[1].state.is_terminal() {
                let story = format!("the wish to abort job {id} is forgotten: {}", life(pair));
                let violation = Violation::new(Invariant::Abort, story).of(id);
                found.push(violation.at_revision(pair[1].revision));
            }
            // What an attempt did of whose assignment the store knows nothing is told to it by the executor.
            let after = pair[1].last_attempt();
            let is_adopted = after != pair[0].last_attempt() && view.has_lost_assignment(&after);
            if let Some(wrong) = wrong_step(pair[0], pair[1]).filter(|_| !is_adopted) {
                let story = format!("job {id} {wrong}: {}", life(pair));
                let violation = Violation::new(Invariant::LegalTransitions, story).of(id);
                found.push(violation.at_revision(pair[1].revision));
            }
        }
    }
}

pub(super) fn is_new(job: &Job) -> bool {
    (job.state, job.attempt) == (JobState::Pending, 0)
}

/// Says what is wrong with a step; ends are judged apart.
fn wrong_step(before: &Job, after: &Job) -> Option<&'static str> {
    if before.state.is_terminal() {
        return None;
    }
    if !before.state.may_become(after.state) {
        return Some("made a step that does not exist");
    }
    let is_assigned = before.state == JobState::Pending && after.state == JobState::Assigned;
    let attempt = if is_assigned { before.attempt + 1 } else { before.attempt };
    if after.attempt != attempt {
        return Some("has another attempt than it should");
    }
    let same_epoch = before.attempt_epoch == after.attempt_epoch;
    (!is_assigned && !same_epoch).then_some("changed the epoch of its attempt")
}
