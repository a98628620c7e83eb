//! The store between points.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;
use berth_store::{
    Call, Changes, Committed, Cursor, LeaseRenewal, LockInfo, LockRequest, Meta, Page, Position,
    SchedulerInfo, Scope, Store, StoreDescription, StoreError,
};

use super::{Points, between};

/// A store whose calls pass points.
pub struct FaultyStore {
    /// The store itself.
    pub inner: Arc<dyn Store>,
    /// The points of the process.
    pub points: Arc<Points>,
}

#[async_trait]
impl Store for FaultyStore {
    async fn commit(&self, call: Call) -> Result<Committed, StoreError> {
        between!(self.points, "store.commit", self.inner.commit(call))
    }

    async fn meta(&self) -> Result<Meta, StoreError> {
        between!(self.points, "store.meta", self.inner.meta())
    }

    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
        between!(self.points, "store.jobs", self.inner.jobs(ids))
    }

    async fn specs(&self, ids: &[JobId]) -> Result<Vec<Option<JobSpec>>, StoreError> {
        between!(self.points, "store.specs", self.inner.specs(ids))
    }

    async fn page(&self, scope: &Scope, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        between!(self.points, "store.page", self.inner.page(scope, after, limit))
    }

    async fn executors(&self) -> Result<Vec<Executor>, StoreError> {
        between!(self.points, "store.executors", self.inner.executors())
    }

    async fn executor(&self, id: &ExecutorId) -> Result<Option<Executor>, StoreError> {
        between!(self.points, "store.executor", self.inner.executor(id))
    }

    async fn head(&self) -> Result<Position, StoreError> {
        between!(self.points, "store.head", self.inner.head())
    }

    async fn changes(&self, after: Position, wait: Duration) -> Result<Changes, StoreError> {
        between!(self.points, "store.changes", self.inner.changes(after, wait))
    }

    async fn renew_leases(&self, renewals: &[LeaseRenewal]) -> Result<Vec<bool>, StoreError> {
        between!(self.points, "store.renew_leases", self.inner.renew_leases(renewals))
    }

    async fn acquire_lock(&self, request: &LockRequest) -> Result<Option<LockInfo>, StoreError> {
        between!(self.points, "store.acquire_lock", self.inner.acquire_lock(request))
    }

    async fn renew_lock(&self, owner: &str, epoch: u64, ttl: Duration) -> Result<bool, StoreError> {
        between!(self.points, "store.renew_lock", self.inner.renew_lock(owner, epoch, ttl))
    }

    async fn release_lock(&self, owner: &str, epoch: u64) -> Result<bool, StoreError> {
        between!(self.points, "store.release_lock", self.inner.release_lock(owner, epoch))
    }

    async fn announce_scheduler(&self, scheduler: &SchedulerInfo, ttl: Duration) -> Result<u64, StoreError> {
        between!(self.points, "store.announce_scheduler", self.inner.announce_scheduler(scheduler, ttl))
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerInfo>, StoreError> {
        between!(self.points, "store.schedulers", self.inner.schedulers())
    }

    fn describe(&self) -> StoreDescription {
        self.inner.describe()
    }
}
