//! What clients read of single jobs.

use std::collections::{BTreeMap, BTreeSet};

use berth_store::Change;

use super::{Answer, Invariant, Logged, Read, View, Violation};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    if view.history.reads.iter().all(Vec::is_empty) {
        return;
    }
    let mut stored: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for (job, revision, at_ms) in view.history.log.iter().filter_map(record) {
        stored.entry(job).or_default().push((revision, at_ms));
    }
    let lost: BTreeSet<(&str, u64)> =
        view.history.tail.iter().filter_map(record).map(|(job, revision, _)| (job, revision)).collect();
    let judge = Reads { view, stored, lost };
    for reads in &view.history.reads {
        let mut before: BTreeMap<&str, u64> = BTreeMap::new();
        for read in reads {
            if let Some((invariant, story)) = judge.wrong(read, before.get(read.job.as_str()).copied()) {
                found.push(Violation::new(invariant, format!("job {} {story}", read.job)).of(&read.job));
            }
            match read.revision {
                Some(revision) => before.insert(&read.job, revision),
                None => before.remove(read.job.as_str()),
            };
        }
    }
}

/// The job of a record, its revision and when it was stored.
fn record(logged: &Logged) -> Option<(&str, u64, u64)> {
    match &logged.change {
        Change::Job(job) => Some((job.id.as_str(), logged.revision, logged.at_ms)),
        Change::JobDeleted(_) | Change::Executor(_) | Change::Leader { .. } => None,
    }
}

struct Reads<'a, 'b> {
    view: &'b View<'a>,
    /// The revisions of each job, with when they were stored.
    stored: BTreeMap<&'a str, Vec<(u64, u64)>>,
    /// Revisions that the store has lost.
    lost: BTreeSet<(&'a str, u64)>,
}

impl Reads<'_, '_> {
    /// Says what is wrong with a read, given what the same client read of the job before.
    fn wrong(&self, read: &Read, before: Option<u64>) -> Option<(Invariant, String)> {
        let job = read.job.as_str();
        let Some(revision) = read.revision else {
            let acknowledged = self.view.history.submits.iter().any(|submit| {
                submit.answer == Answer::Job(read.job.clone())
                    && submit.answered_ms > 0
                    && submit.answered_ms <= read.began_ms
            });
            let may_be_gone = self.view.has_lost_submit(job) || self.view.removed.contains(job);
            let story = format!("was acknowledged, and not to be found at {}", read.began_ms);
            return (acknowledged && !may_be_gone).then_some((Invariant::DurableAck, story));
        };
        if self.lost.contains(&(job, revision)) {
            return None;
        }
        let stored = self.stored.get(job).map(Vec::as_slice).unwrap_or_default();
        if !stored.iter().any(|(known, _)| *known == revision) {
            return Some((Invariant::Read, format!("was read at revision {revision}, which it never had")));
        }
        if let Some(before) =
            before.filter(|before| *before > revision && !self.lost.contains(&(job, *before)))
        {
            return Some((Invariant::Read, format!("was read at revision {revision} after {before}")));
        }
        // Of changes of one moment nobody knows which was first.
        let newest =
            stored.iter().filter(|(_, at_ms)| *at_ms > 0 && *at_ms < read.began_ms).map(|(known, _)| known);
        let newest = newest.max().copied().filter(|newest| *newest > revision)?;
        let story =
            format!("was read at revision {revision} at {}, and was at {newest} before", read.began_ms);
        Some((Invariant::Read, story))
    }
}
