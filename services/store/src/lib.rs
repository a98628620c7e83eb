//! The only truth of a cluster: records of jobs and executors, the leader lock and the change log,
//! behind one trait with several implementations that pass one suite (`contract`).
//!
//! Nothing here decides what a job does next: callers hand in finished records, and the store
//! applies them only if their expectations hold.

pub mod contract;
mod cursor;
pub mod embedded;
pub mod model;
mod order;
mod record;
pub mod redis;
mod rules;
mod types;
mod validate;

pub use types::*;

use std::time::Duration;

use async_trait::async_trait;
use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId, SchedulerId, SessionId};
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;

/// The store of one cluster. Every method may be called from any number of tasks at once.
///
/// Errors tell "certainly not applied" from "outcome unknown" (`StoreError::outcome_unknown`).
/// Repeating a commit whose outcome is unknown is safe: its expectations no longer hold where it
/// was applied.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Applies up to `MAX_MUTATIONS` mutations in one atomic step. Each is checked, then written,
    /// seeing those before it, and succeeds or conflicts by itself.
    ///
    /// # Errors
    /// Fails as a whole when the call's guards do not hold, the store is full (submits only),
    /// unreachable, or the reply was lost.
    async fn commit(&self, call: Call) -> Result<Committed, StoreError>;

    /// Reads the cluster's counters, its generation and the lock. Adopts a new generation first
    /// where the server behind the store was restarted or replaced.
    ///
    /// # Errors
    /// Fails when the store is unreachable.
    async fn meta(&self) -> Result<Meta, StoreError>;

    /// Reads job records, in the order of the ids; `None` where there is no such job.
    ///
    /// # Errors
    /// Fails when the store is unreachable or a record cannot be decoded.
    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError>;

    /// Reads specs, in the order of the ids; `None` where there is no such job.
    ///
    /// # Errors
    /// Fails when the store is unreachable or a spec cannot be decoded.
    async fn specs(&self, ids: &[JobId]) -> Result<Vec<Option<JobSpec>>, StoreError>;

    /// Reads one page of job records of an index, at most `MAX_PAGE` of them. A page may be short
    /// and still have a cursor.
    ///
    /// # Errors
    /// Fails when the store is unreachable or a record cannot be decoded.
    async fn page(&self, scope: &Scope, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError>;

    /// Reads every executor's record with its reservations and lease, ordered by id.
    ///
    /// # Errors
    /// Fails when the store is unreachable or a record cannot be decoded.
    async fn executors(&self) -> Result<Vec<Executor>, StoreError>;

    /// Reads one executor's record with its reservations and lease. A store of few may read all.
    ///
    /// # Errors
    /// As `executors`.
    async fn executor(&self, id: &ExecutorId) -> Result<Option<Executor>, StoreError> {
        Ok(self.executors().await?.into_iter().find(|executor| executor.id == *id))
    }

    /// Reads the log's head: the position of the newest applied change.
    ///
    /// # Errors
    /// Fails when the store is unreachable.
    async fn head(&self) -> Result<Position, StoreError>;

    /// Reads the changes after a position, waiting up to `wait` for the first. Empty when nothing
    /// changed in that time; `Changes::Resync` when changes after the position are no longer in
    /// the log or the generation is another. Gap-free: revisions of consecutive results follow
    /// each other.
    ///
    /// # Errors
    /// Fails when the store is unreachable.
    async fn changes(&self, after: Position, wait: Duration) -> Result<Changes, StoreError>;

    /// Renews the leases of executors whose session is still the given one. Not logged. The
    /// result has `true` at the place of each that was renewed.
    ///
    /// # Errors
    /// Fails when the store is unreachable; renewing again is safe.
    async fn renew_leases(&self, renewals: &[LeaseRenewal]) -> Result<Vec<bool>, StoreError>;

    /// Takes the leader lock if it is free or expired; raises the epoch. `None` when another owner holds it.
    /// Logged as a change, so that followers of the log see who leads.
    ///
    /// # Errors
    /// Fails when the store is unreachable.
    async fn acquire_lock(&self, request: &LockRequest) -> Result<Option<LockInfo>, StoreError>;

    /// Extends the lock for `(owner, epoch)`. `false` when it is no longer theirs.
    ///
    /// # Errors
    /// Fails when the store is unreachable.
    async fn renew_lock(&self, owner: &str, epoch: u64, ttl: Duration) -> Result<bool, StoreError>;

    /// Gives the lock up for `(owner, epoch)`; logged, which wakes followers. `false` when it was not theirs.
    ///
    /// # Errors
    /// Fails when the store is unreachable.
    async fn release_lock(&self, owner: &str, epoch: u64) -> Result<bool, StoreError>;

    /// Announces a scheduler replica for `ttl`. Gives the store's time, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// Fails when the store is unreachable.
    async fn announce_scheduler(&self, scheduler: &SchedulerInfo, ttl: Duration) -> Result<u64, StoreError>;

    /// Lists the replicas whose announcement has not expired, ordered by id.
    ///
    /// # Errors
    /// Fails when the store is unreachable.
    async fn schedulers(&self) -> Result<Vec<SchedulerInfo>, StoreError>;

    /// Says what holds the truth and how durable an acknowledged write is.
    fn describe(&self) -> StoreDescription;

    /// Closes the store at the end of its process, so that the next one opens it without repair. Calls
    /// after that fail. Without it nothing is lost.
    async fn close(&self) {}
}

/// Identifies the session a message claims to come from.
pub type SessionRef = (ExecutorId, SessionId);
/// Names a replica.
pub type ReplicaId = SchedulerId;
