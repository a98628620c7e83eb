//! Reads of the model.

use std::ops::Bound;

use berth_domain::executor::Executor;
use berth_domain::ids::JobId;
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;

use super::state::State;
use super::tables::Ordered;
use crate::cursor::Place;
use crate::{Cursor, MAX_PAGE, Page, Scope, StoreError};

impl State {
    pub(super) fn jobs(&self, ids: &[JobId]) -> Vec<Option<Job>> {
        ids.iter().map(|id| self.tables.jobs.get(id).map(|stored| stored.job.clone())).collect()
    }

    pub(super) fn specs(&self, ids: &[JobId]) -> Vec<Option<JobSpec>> {
        ids.iter().map(|id| self.tables.specs.get(id).cloned()).collect()
    }

    pub(super) fn executors(&self) -> Vec<Executor> {
        let lease = |executor: &Executor| self.head.leases.get(&executor.id).copied().unwrap_or(0);
        let with_lease =
            |executor: &Executor| Executor { lease_expiry_ms: lease(executor), ..executor.clone() };
        self.tables.executors.values().map(with_lease).collect()
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
            Scope::All => descending(&self.tables.all, after, limit),
            Scope::Pending => ascending(&self.tables.pending, after, limit),
            Scope::Delayed => ascending(&self.tables.delayed, after, limit),
            Scope::Finished => ascending(&self.tables.finished, after, limit),
            Scope::Assigned(executor) => {
                self.tables.assigned.get(executor).map_or_else(Vec::new, |ids| ascending(ids, after, limit))
            }
        };
        let next = if places.len() == limit {
            places.last().map(|(score, id)| Place { score: *score, id: id.to_string() }.to_cursor())
        } else {
            None
        };
        let jobs =
            places.iter().filter_map(|(_, id)| self.tables.jobs.get(id)).map(|stored| stored.job.clone());
        Ok(Page { jobs: jobs.collect(), next })
    }
}

fn key(place: Place) -> (u64, JobId) {
    (place.score, JobId::trusted(place.id))
}

fn ascending(index: &Ordered, after: Option<Place>, limit: usize) -> Vec<(u64, JobId)> {
    let start = after.map_or(Bound::Unbounded, |place| Bound::Excluded(key(place)));
    index.range((start, Bound::Unbounded)).take(limit).cloned().collect()
}

fn descending(index: &Ordered, after: Option<Place>, limit: usize) -> Vec<(u64, JobId)> {
    let end = after.map_or(Bound::Unbounded, |place| Bound::Excluded(key(place)));
    index.range((Bound::Unbounded, end)).rev().take(limit).cloned().collect()
}
