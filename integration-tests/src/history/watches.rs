//! What a client that watches was told.

use std::collections::BTreeMap;

use berth_store::Change;

use super::{Invariant, Told, View, Violation};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    let mut revisions: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for logged in &view.history.log {
        if let Change::Job(job) = &logged.change {
            revisions.entry(job.id.as_str()).or_default().push(logged.revision);
        }
    }
    for (number, watch) in view.history.watches.iter().enumerate() {
        let stories = wrong(view, watch, &revisions);
        found.extend(stories.into_iter().map(|(job, story)| {
            Violation::new(Invariant::Watch, format!("watch {}: {story}", number + 1)).of(&job)
        }));
    }
}

/// Says what a watch left out, repeated or never told.
fn wrong(view: &View<'_>, watch: &[Told], revisions: &BTreeMap<&str, Vec<u64>>) -> Vec<(String, String)> {
    let mut stories = Vec::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for told in watch {
        let (job, revision) = match told {
            Told::Resync => {
                last.clear();
                continue;
            }
            Told::Job { job, revision } => (job.as_str(), *revision),
        };
        let before = last.insert(job, revision);
        let Some(known) = revisions.get(job).filter(|_| !view.is_excused(job)) else { continue };
        let Some(before) = before else { continue };
        let next = known.iter().copied().find(|later| *later > before);
        if next != Some(revision) {
            let story = format!("job {job} was told at revision {revision} after {before}; next is {next:?}");
            stories.push((job.to_owned(), story));
        }
    }
    if !view.history.is_quiet || watch.is_empty() {
        return stories;
    }
    for (job, known) in revisions {
        let newest = known.last().copied();
        if last.get(job).copied() != newest && !view.is_excused(job) && !view.removed.contains(job) {
            let story = format!("the last word of job {job} was {:?}, not {newest:?}", last.get(job));
            stories.push(((*job).to_owned(), story));
        }
    }
    stories
}
