//! The tables of the model: maps in memory.

use std::collections::{BTreeMap, BTreeSet};

use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::spec::JobSpec;

use crate::StoreError;
use crate::rules::{Index, StoredJob, StoredKey, Tables};

/// An index that is ordered by score and then by id.
pub(super) type Ordered = BTreeSet<(u64, JobId)>;

/// The tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) jobs: BTreeMap<JobId, StoredJob>,
    pub(super) specs: BTreeMap<JobId, JobSpec>,
    pub(super) executors: BTreeMap<ExecutorId, Executor>,
    pub(super) all: Ordered,
    pub(super) pending: Ordered,
    pub(super) delayed: Ordered,
    pub(super) finished: Ordered,
    pub(super) assigned: BTreeMap<ExecutorId, Ordered>,
    keys: BTreeMap<String, StoredKey>,
}

impl Memory {
    fn index(&mut self, index: &Index) -> &mut Ordered {
        match index {
            Index::All => &mut self.all,
            Index::Pending => &mut self.pending,
            Index::Delayed => &mut self.delayed,
            Index::Finished => &mut self.finished,
            Index::Assigned(executor) => self.assigned.entry(executor.clone()).or_default(),
        }
    }
}

impl Tables for Memory {
    fn job(&self, id: &JobId) -> Result<Option<StoredJob>, StoreError> {
        Ok(self.jobs.get(id).cloned())
    }

    fn put_job(&mut self, stored: StoredJob) -> Result<(), StoreError> {
        self.jobs.insert(stored.job.id.clone(), stored);
        Ok(())
    }

    fn remove_job(&mut self, id: &JobId) -> Result<(), StoreError> {
        self.jobs.remove(id);
        self.specs.remove(id);
        Ok(())
    }

    fn put_spec(&mut self, id: &JobId, spec: &JobSpec) -> Result<(), StoreError> {
        self.specs.insert(id.clone(), spec.clone());
        Ok(())
    }

    fn key(&self, key: &str) -> Result<Option<StoredKey>, StoreError> {
        Ok(self.keys.get(key).cloned())
    }

    fn put_key(&mut self, key: &str, stored: StoredKey) -> Result<(), StoreError> {
        self.keys.insert(key.to_owned(), stored);
        Ok(())
    }

    fn executor(&self, id: &ExecutorId) -> Result<Option<Executor>, StoreError> {
        Ok(self.executors.get(id).cloned())
    }

    fn put_executor(&mut self, executor: Executor) -> Result<(), StoreError> {
        self.executors.insert(executor.id.clone(), executor);
        Ok(())
    }

    fn place(&mut self, index: &Index, score: u64, id: &JobId) -> Result<(), StoreError> {
        self.index(index).insert((score, id.clone()));
        Ok(())
    }

    fn displace(&mut self, index: &Index, score: u64, id: &JobId) -> Result<(), StoreError> {
        self.index(index).remove(&(score, id.clone()));
        Ok(())
    }
}
