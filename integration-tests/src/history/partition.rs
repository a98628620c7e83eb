//! Where the store keeps each job, beside its record.

use std::collections::{BTreeMap, BTreeSet};

use berth_domain::ids::JobId;
use berth_domain::job::{Job, JobIndex};
use berth_domain::resources::Reserved;
use berth_store::{Change, Scope};

use super::{Invariant, Sets, View, Violation};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    let mut jobs: BTreeMap<&str, &Job> = BTreeMap::new();
    let mut log = view.history.log.iter().peekable();
    for sets in &view.history.sets {
        while let Some(logged) = log.next_if(|logged| logged.revision <= sets.revision) {
            match &logged.change {
                Change::Job(job) => {
                    jobs.insert(job.id.as_str(), job);
                }
                Change::JobDeleted(id) => {
                    jobs.remove(id.as_str());
                }
                Change::Executor(_) | Change::Leader { .. } => {}
            }
        }
        found.extend(wrong(sets, &jobs).into_iter().map(|(job, story)| {
            let story = format!("at revision {}: {story}", sets.revision);
            let violation = Violation::new(Invariant::Partition, story);
            job.iter().fold(violation, |violation, job| violation.of(job.as_str()))
        }));
    }
}

/// Says where sets and reservations differ from the records.
fn wrong(sets: &Sets, jobs: &BTreeMap<&str, &Job>) -> Vec<(Option<JobId>, String)> {
    let mut expected: Vec<(Scope, BTreeSet<JobId>)> = Vec::new();
    let mut reserved: BTreeMap<String, Reserved> = BTreeMap::new();
    for job in jobs.values() {
        let scope = match job.index() {
            JobIndex::Pending => Scope::Pending,
            JobIndex::Delayed(_) => Scope::Delayed,
            JobIndex::Finished(_) => Scope::Finished,
            JobIndex::Assigned(executor) => {
                let held = reserved.entry(executor.to_string()).or_default();
                held.add(&job.demand, &job.gpu_device_ids);
                Scope::Assigned(executor)
            }
        };
        match expected.iter_mut().find(|(known, _)| *known == scope) {
            Some((_, ids)) => {
                ids.insert(job.id.clone());
            }
            None => expected.push((scope, BTreeSet::from([job.id.clone()]))),
        }
    }
    let nothing = BTreeSet::new();
    let ids_of = |all: &[(Scope, BTreeSet<JobId>)], scope: &Scope| {
        all.iter().find(|(known, _)| known == scope).map_or_else(|| nothing.clone(), |(_, ids)| ids.clone())
    };
    let scopes = sets.sets.iter().chain(&expected).map(|(scope, _)| scope);
    let mut stories = Vec::new();
    for scope in scopes {
        let (there, by_records) = (ids_of(&sets.sets, scope), ids_of(&expected, scope));
        for id in there.symmetric_difference(&by_records) {
            let word = if there.contains(id) { "stands in" } else { "is missing in" };
            let story = (Some(id.clone()), format!("job {id} {word} {scope:?}, against its record"));
            if !stories.contains(&story) {
                stories.push(story);
            }
        }
    }
    for (executor, held) in &sets.reserved {
        let by_records = reserved.get(executor.as_str()).cloned().unwrap_or_default();
        if *held != by_records {
            let story = format!("{executor} is reserved {held:?}, and holds {by_records:?} by the records");
            stories.push((None, story));
        }
    }
    stories
}
