//! What clients were promised when they submitted.

use std::collections::BTreeMap;

use super::{Answer, Invariant, Submit, View, Violation};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    let mut keys: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for submit in &view.history.submits {
        if submit.answer == Answer::Refused {
            refused(view, submit, found);
        }
        let Some(job) = submit.job() else { continue };
        if !view.lives.contains_key(job) && !view.removed.contains(job) && !view.is_void(submit) {
            let story = format!("job {job} was acknowledged and is nowhere to be found");
            found.push(Violation::new(Invariant::DurableAck, story).of(job));
        }
        if view.removed.contains(job) && view.newest(job).is_some_and(|newest| !newest.state.is_terminal()) {
            let story = format!("job {job} was removed before its end");
            found.push(Violation::new(Invariant::DurableAck, story).of(job));
        }
        if submit.key.is_empty() || view.is_void(submit) {
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
}

/// A submit is refused only where its key stands for another spec, and not where it was acknowledged with this one.
fn refused(view: &View<'_>, submit: &Submit, found: &mut Vec<Violation>) {
    let of_key = || view.history.submits.iter().filter(|other| other.key == submit.key);
    let same = of_key().find(|other| other.spec == submit.spec && other.answer != Answer::Refused);
    let known = same.filter(|same| !view.is_void(same)).and_then(Submit::job);
    if let Some(job) = known {
        let story = format!("key {} gave {job}, and the same spec was refused under it", submit.key);
        found.push(Violation::new(Invariant::Idempotency, story).of(job));
    } else if of_key().all(|other| other.spec == submit.spec) {
        let story = format!("key {} was refused, and nobody used it for anything else", submit.key);
        found.push(Violation::new(Invariant::Idempotency, story));
    }
}
