//! What clients were promised when they submitted.

use std::collections::BTreeMap;

use super::{Invariant, View, Violation};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    let mut keys: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for submit in &view.history.submits {
        let Some(job) = submit.job.as_deref() else { continue };
        if !view.lives.contains_key(job) && !view.removed.contains(job) && !view.is_excused(job) {
            let story = format!("job {job} was acknowledged and is nowhere to be found");
            found.push(Violation::new(Invariant::DurableAck, story).of(job));
        }
        if view.removed.contains(job) && view.newest(job).is_some_and(|newest| !newest.state.is_terminal()) {
            let story = format!("job {job} was removed before its end");
            found.push(Violation::new(Invariant::DurableAck, story).of(job));
        }
        if submit.key.is_empty() || view.is_excused(job) {
            continue;
        }
        let (spec, known) = *keys.entry(&submit.key).or_insert((&submit.spec, job));
        if spec != submit.spec {
            let story = format!(
                "key {} was used for {known}, and taken again with another spec for {job}",
                submit.key
            );
            found.push(Violation::new(Invariant::Idempotency, story).of(job));
        } else if known != job {
            let story = format!("key {} with the same spec gave {known}, and then {job}", submit.key);
            found.push(Violation::new(Invariant::Idempotency, story).of(job));
        }
    }
    if !view.history.is_quiet {
        return;
    }
    for call in &view.history.unanswered {
        found.push(Violation::new(Invariant::Liveness, format!("nobody answered: {call}")));
    }
    for (id, records) in &view.lives {
        if records.last().is_some_and(|job| !job.state.is_terminal()) && !view.removed.contains(id) {
            let story = format!("job {id} never ended: {}", super::life(records));
            found.push(Violation::new(Invariant::Liveness, story).of(id));
        }
    }
}
