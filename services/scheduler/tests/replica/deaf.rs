//! A store whose change log can fall silent: what happens is stored, and nobody is told.

use std::time::Duration;

use berth_domain::executor::Executor;
use berth_domain::ids::JobId;
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;
use berth_store::model::ModelStore;
use berth_store::{
    Call, Changes, Committed, Cursor, LeaseRenewal, LockInfo, LockRequest, Meta, Page, Position,
    SchedulerInfo, Scope, Store, StoreDescription, StoreError,
};
use tokio::sync::watch;

pub struct Deaf {
    inner: ModelStore,
    listening: watch::Sender<bool>,
}

impl Deaf {
    pub fn new(inner: ModelStore) -> Self {
        Self { inner, listening: watch::channel(true).0 }
    }

    /// From now on no change is told any more.
    pub fn stop_listening(&self) {
        self.listening.send_replace(false);
    }
}

#[tonic::async_trait]
impl Store for Deaf {
    async fn changes(&self, after: Position, wait: Duration) -> Result<Changes, StoreError> {
        let mut listening = self.listening.subscribe();
        let changes = tokio::select! {
            biased;
            () = async { drop(listening.wait_for(|listening| !listening).await) } => None,
            changes = self.inner.changes(after, wait) => Some(changes),
        };
        match changes {
            Some(changes) => changes,
            None => std::future::pending().await,
        }
    }

    async fn commit(&self, call: Call) -> Result<Committed, StoreError> {
        self.inner.commit(call).await
    }

    async fn meta(&self) -> Result<Meta, StoreError> {
        self.inner.meta().await
    }

    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
        self.inner.jobs(ids).await
    }

    async fn specs(&self, ids: &[JobId]) -> Result<Vec<Option<JobSpec>>, StoreError> {
        self.inner.specs(ids).await
    }

    async fn page(&self, scope: &Scope, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.inner.page(scope, after, limit).await
    }

    async fn executors(&self) -> Result<Vec<Executor>, StoreError> {
        self.inner.executors().await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.inner.head().await
    }

    async fn renew_leases(&self, renewals: &[LeaseRenewal]) -> Result<Vec<bool>, StoreError> {
        self.inner.renew_leases(renewals).await
    }

    async fn acquire_lock(&self, request: &LockRequest) -> Result<Option<LockInfo>, StoreError> {
        self.inner.acquire_lock(request).await
    }

    async fn renew_lock(&self, owner: &str, epoch: u64, ttl: Duration) -> Result<bool, StoreError> {
        self.inner.renew_lock(owner, epoch, ttl).await
    }

    async fn release_lock(&self, owner: &str, epoch: u64) -> Result<bool, StoreError> {
        self.inner.release_lock(owner, epoch).await
    }

    async fn announce_scheduler(&self, scheduler: &SchedulerInfo, ttl: Duration) -> Result<u64, StoreError> {
        self.inner.announce_scheduler(scheduler, ttl).await
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerInfo>, StoreError> {
        self.inner.schedulers().await
    }

    fn describe(&self) -> StoreDescription {
        self.inner.describe()
    }
}
