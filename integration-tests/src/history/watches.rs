//! What a client that watches was told.

use std::collections::{BTreeMap, BTreeSet};

use berth_store::Change;

use super::{Invariant, Logged, Told, View, Violation};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    let mut revisions: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (job, revision) in view.history.log.iter().filter_map(place) {
        revisions.entry(job).or_default().push(revision);
    }
    for (number, watch) in view.history.watches.iter().enumerate() {
        let stories = wrong(view, watch, &revisions);
        found.extend(stories.into_iter().map(|(job, story)| {
            Violation::new(Invariant::Watch, format!("watch {}: {story}", number + 1)).of(&job)
        }));
    }
}

/// The job that a change is one of, and its revision.
fn place(logged: &Logged) -> Option<(&str, u64)> {
    match &logged.change {
        Change::Job(job) => Some((job.id.as_str(), logged.revision)),
        Change::JobDeleted(_) | Change::Executor(_) | Change::Leader { .. } => None,
    }
}

/// Says what a watch left out, repeated or never told.
fn wrong(view: &View<'_>, watch: &[Told], revisions: &BTreeMap<&str, Vec<u64>>) -> Vec<(String, String)> {
    let lost: BTreeSet<(&str, u64)> = view.history.tail.iter().filter_map(place).collect();
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
        let (Some(known), Some(before)) = (revisions.get(job), before) else { continue };
        if lost.contains(&(job, before)) || lost.contains(&(job, revision)) {
            continue;
        }
        let next = known.iter().copied().find(|later| *later > before);
        if next != Some(revision) {
            let story = format!("job {job} was told at revision {revision} after {before}; next is {next:?}");
            stories.push((job.to_owned(), story));
        }
    }
    if !view.history.is_quiet {
        return stories;
    }
    for (job, known) in revisions {
        let newest = known.last().copied();
        if last.get(job).copied() != newest && !view.removed.contains(job) {
            let story = format!("the last word of job {job} was {:?}, not {newest:?}", last.get(job));
            stories.push(((*job).to_owned(), story));
        }
    }
    stories
}
