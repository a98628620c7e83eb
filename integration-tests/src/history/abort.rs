//! What an abort was answered with.

use berth_domain::job::JobState;

use super::{Invariant, View, Violation, life, witnessed};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    for abort in &view.history.aborts {
        let Some(state) = abort.state.filter(|state| state.is_terminal()) else { continue };
        let id = abort.job.as_str();
        let is_lost = view.has_lost_submit(id) || view.lost_ends.contains(&(id, state));
        let Some(records) = view.lives.get(id).filter(|_| !is_lost) else { continue };
        let Some(newest) = records.last() else { continue };
        if newest.state != state {
            let story = format!("the abort of job {id} was answered {}: {}", state.name(), life(records));
            found.push(Violation::new(Invariant::Abort, story).of(id));
        }
        let runs = view.runs_of(id);
        let is_after = |run: &&super::Run| run.ended.is_none_or(|(end, _)| end > abort.at_ms);
        let is_confirmed = newest.state == JobState::Aborted && !newest.stop_unconfirmed;
        // An attempt that was given up before the abort runs on until its executor hears of it.
        let is_last = |run: &&&super::Run| run.attempt == newest.last_attempt();
        if is_confirmed && runs.iter().filter(is_last).any(is_after) {
            let story =
                format!("job {id} ran after its abort was answered at {}: {}", abort.at_ms, witnessed(runs));
            found.push(Violation::new(Invariant::Abort, story).of(id));
        }
    }
}
