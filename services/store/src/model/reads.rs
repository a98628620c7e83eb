//! Reads of the model.

use std::collections::BTreeSet;
use std::ops::Bound;

use berth_domain::executor::Executor;
use berth_domain::ids::JobId;
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;

use super::state::State;
use crate::cursor::Place;
use crate::{Cursor, MAX_PAGE, Page, SchedulerInfo, Scope, StoreError};

impl State {
    pub(super) fn jobs(&self, ids: &[JobId]) -> Vec<Option<Job>> {
        ids.iter().map(|id| self.jobs.get(id).map(|stored| stored.job.clone())).collect()
    }

    pub(super) fn specs(&self, ids: &[JobId]) -> Vec<Option<JobSpec>> {
        ids.iter().map(|id| self.specs.get(id).cloned()).collect()
    }

    pub(super) fn executors(&self) -> Vec<Executor> {
        self.executors.values().cloned().collect()
    }

    pub(super) fn schedulers(&self, now_ms: u64) -> Vec<SchedulerInfo> {
        let alive = self.schedulers.values().filter(|(_, expiry_ms)| *expiry_ms > now_ms);
        alive.map(|(info, _)| info.clone()).collect()
    }

    pub(super) fn page(
        &self,
        scope: &Scope,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let after = after.map(Place::parse).transpose()?;
        let limit = limit.clamp(1, MAX_PAGE);
        let places = match scope {
            Scope::All => descending(&self.indexes.all, after, limit),
            Scope::Pending => ascending(&self.indexes.pending, after, limit),
            Scope::Delayed => ascending(&self.indexes.delayed, after, limit),
            Scope::Finished => ascending(&self.indexes.finished, after, limit),
            Scope::Assigned(executor) => {
                let ids = self.indexes.assigned.get(executor).into_iter().flatten();
                let start = after.map(|place| JobId::trusted(place.id));
                let rest = ids.filter(|id| start.as_ref().is_none_or(|start| *id > start));
                rest.take(limit).map(|id| (0, id.clone())).collect()
            }
        };
        let next = if places.len() == limit {
            places.last().map(|(score, id)| Place { score: *score, id: id.to_string() }.to_cursor())
        } else {
            None
        };
        let jobs = places.iter().filter_map(|(_, id)| self.jobs.get(id)).map(|stored| stored.job.clone());
        Ok(Page { jobs: jobs.collect(), next })
    }
}

fn key(place: Place) -> (u64, JobId) {
    (place.score, JobId::trusted(place.id))
}

fn ascending(index: &BTreeSet<(u64, JobId)>, after: Option<Place>, limit: usize) -> Vec<(u64, JobId)> {
    let start = after.map_or(Bound::Unbounded, |place| Bound::Excluded(key(place)));
    index.range((start, Bound::Unbounded)).take(limit).cloned().collect()
}

fn descending(index: &BTreeSet<(u64, JobId)>, after: Option<Place>, limit: usize) -> Vec<(u64, JobId)> {
    let end = after.map_or(Bound::Unbounded, |place| Bound::Excluded(key(place)));
    index.range((Bound::Unbounded, end)).rev().take(limit).cloned().collect()
}
