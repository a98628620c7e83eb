//! What goes in and out of a store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId, SchedulerId, SessionId};
use berth_domain::job::{Job, JobState};
use berth_domain::spec::JobSpec;
use thiserror::Error;

/// The most mutations one call may hold.
pub const MAX_MUTATIONS: usize = 100;
/// The most records one page holds.
pub const MAX_PAGE: usize = 1_000;

/// A point in the history of a cluster. Ordered: a later generation is later whatever its revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Counts the lives of the store: raised when its server was restarted or replaced.
    pub generation: u64,
    /// Counts the applied mutations of the cluster.
    pub revision: u64,
}

/// What a leader's commit is fenced with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderGuard {
    /// The epoch of the lock, as acquired.
    pub epoch: u64,
    /// The owner of the lock, as acquired.
    pub owner: String,
}

/// One atomic step.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Set for a leader's writes: the lock must still be exactly this.
    pub leader: Option<LeaderGuard>,
    /// The generation that the decisions were made in, and by whose clock they are dated; the store must still be in
    /// it. `None` for any.
    pub generation: Option<u64>,
    /// At most `MAX_MUTATIONS`.
    pub mutations: Vec<Mutation>,
}

impl Call {
    /// Says whether the call only brings new jobs: such calls are refused when the store is full.
    pub(crate) fn is_submit_only(&self) -> bool {
        !self.mutations.is_empty()
            && self.mutations.iter().all(|mutation| match mutation {
                Mutation::Submit { .. } => true,
                Mutation::Update { .. } | Mutation::Delete { .. } | Mutation::PutExecutor { .. } => false,
            })
    }
}

/// A key under which a repeated submit finds the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The client's key, made unique within the namespace by the caller.
    pub key: String,
    /// Names what was asked; the same key with another hash is a conflict.
    pub request_hash: String,
    /// How long the key is kept.
    pub ttl: Duration,
}

/// One conditional change of one record.
#[derive(Debug, Clone)]
pub enum Mutation {
    /// Stores a new job; expects that the id is free and the key unused.
    Submit {
        /// The record, in state PENDING.
        job: Arc<Job>,
        /// Its spec, written once.
        spec: Arc<JobSpec>,
        /// The submit's idempotency key, if it has one.
        idempotency: Option<IdempotencyKey>,
    },
    /// Stores the next record of a job; expects the stored one at `job.revision`. Reservations
    /// follow the record: taken (within the executor's capacity, devices free, executor ACTIVE)
    /// when it becomes assigned, given back when it no longer is.
    Update {
        /// The next record; its `revision` is the one it was decided from.
        job: Arc<Job>,
        /// Expects the executor's session to be this one.
        session: Option<(ExecutorId, SessionId)>,
        /// Expects the stored record to have this as its current attempt (number, epoch).
        attempt: Option<(u32, u64)>,
    },
    /// Removes a finished job and its spec; expects the stored record at `revision`.
    Delete {
        /// The job.
        job_id: JobId,
        /// The revision the decision was made from.
        revision: u64,
    },
    /// Stores an executor's record; expects the stored one at `executor.revision` (0: none stored).
    /// `executor.reserved` and `executor.lease_expiry_ms` are ignored: the store keeps them. A
    /// record without a session loses its lease.
    PutExecutor {
        /// The next record.
        executor: Box<Executor>,
        /// The lease granted with the record, from the store's time at commit.
        lease: Option<Duration>,
    },
}

/// What became of one mutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Written, at this revision.
    Applied(u64),
    /// The idempotency key is known with the same hash: this is the job of the first submit.
    Existing(JobId),
    /// Not written.
    Conflict(Conflict),
}

/// Why a mutation was not written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Conflict {
    /// A job with this id exists.
    #[error("a job with this id exists")]
    JobExists,
    /// No such job or executor.
    #[error("no such record")]
    Missing,
    /// The record changed since the decision; holds the stored revision.
    #[error("the record is at revision {0}")]
    Revision(u64),
    /// The session is not the executor's current one.
    #[error("the session is not the executor's current one")]
    Session,
    /// The attempt is not the job's current one.
    #[error("the attempt is not the job's current one")]
    Attempt,
    /// The executor takes no jobs.
    #[error("the executor takes no jobs")]
    ExecutorNotActive,
    /// The reservation would exceed the executor's capacity.
    #[error("the reservation would exceed the executor's capacity")]
    Capacity,
    /// A GPU device is in use or not the executor's.
    #[error("a GPU device is in use or not the executor's")]
    Device,
    /// The idempotency key was used with another request; holds the job of the first one.
    #[error("the idempotency key was used with another request, for job {0}")]
    Idempotency(JobId),
}

/// The reply to a commit.
#[derive(Debug, Clone)]
pub struct Committed {
    /// One verdict a mutation, in order.
    pub verdicts: Vec<Verdict>,
    /// The position after the call.
    pub position: Position,
    /// The store's clock at the call.
    pub time_ms: u64,
}

/// Why a call failed as a whole.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// Another leader holds the lock, or nobody does. Nothing was applied.
    #[error("the leader lock is no longer held with this epoch")]
    Fenced,
    /// The store is in another generation than the decisions. Nothing was applied; read again.
    #[error("the store is in another generation ({current})")]
    Generation {
        /// The store's generation.
        current: u64,
    },
    /// The store has no room for new jobs. Nothing was applied.
    #[error("the store is full")]
    Full,
    /// The store cannot be used now. Nothing was applied; retrying is safe.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// What went wrong, for people.
        reason: String,
    },
    /// Another process works on it. Nothing was applied.
    #[error("another process uses {place}")]
    InUse {
        /// Where it is.
        place: String,
    },
    /// The connection broke or timed out after the request was sent: it may or may not have been applied.
    #[error("the outcome is unknown: {reason}")]
    Unknown {
        /// What went wrong, for people.
        reason: String,
    },
    /// A stored record cannot be read by this version.
    #[error("a stored record cannot be read: {reason}")]
    Corrupt {
        /// Which record, and why.
        reason: String,
    },
    /// The call itself is malformed (too many mutations, for example). Nothing was applied.
    #[error("the call is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    /// Says whether the call may have been applied.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Unknown { .. } => true,
            Self::Fenced
            | Self::Generation { .. }
            | Self::Full
            | Self::Unavailable { .. }
            | Self::InUse { .. }
            | Self::Corrupt { .. }
            | Self::Malformed { .. } => false,
        }
    }
}

/// Who holds the leader lock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LockInfo {
    /// Raised by every acquisition; 0 before the first.
    pub epoch: u64,
    /// SCHEDULER_ID and a nonce of the process; empty when nobody holds it.
    pub owner: String,
    /// The replica's own name.
    pub scheduler_id: String,
    /// When it expires, by the store's clock.
    pub expiry_ms: u64,
    /// Periods without a leader: (from, to) by the store's clock, oldest first, at most 64.
    pub pauses: Vec<(u64, u64)>,
}

/// An attempt to take the lock.
#[derive(Debug, Clone)]
pub struct LockRequest {
    /// Owner to be stored.
    pub owner: String,
    /// The replica's own name.
    pub scheduler_id: String,
    /// How long it is held without a renewal.
    pub ttl: Duration,
}

/// The cluster's counters.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    /// The newest applied change.
    pub position: Position,
    /// The store's clock.
    pub time_ms: u64,
    /// When the current generation began, by the store's clock.
    pub generation_since_ms: u64,
    /// The lock.
    pub lock: LockInfo,
    /// Jobs by state; states without jobs are absent.
    pub counts: BTreeMap<JobState, u64>,
}

/// A renewal of one executor's lease.
#[derive(Debug, Clone)]
pub struct LeaseRenewal {
    /// The executor.
    pub executor: ExecutorId,
    /// The session that must be its current one.
    pub session: SessionId,
    /// The lease from the store's time at the renewal.
    pub lease: Duration,
}

/// Which index a page is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every job, newest submit first.
    All,
    /// Ready jobs: highest priority first, then in the order of submission.
    Pending,
    /// Jobs held back, earliest due first.
    Delayed,
    /// Jobs of an executor, by id.
    Assigned(ExecutorId),
    /// Ended jobs, earliest end first.
    Finished,
}

/// Where the next page starts; opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// One page of records.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The records.
    pub jobs: Vec<Job>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<Cursor>,
}

/// One change of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A job's new record.
    Job(Arc<Job>),
    /// A job was removed at this revision.
    JobDeleted(JobId),
    /// An executor's new record; `reserved` and `lease_expiry_ms` are not part of it.
    Executor(Box<Executor>),
    /// The lock was taken (epoch, scheduler id) or, with an empty id, released.
    Leader {
        /// The epoch of the acquisition or of the release.
        epoch: u64,
        /// Who leads now; empty after a release.
        scheduler_id: String,
    },
}

/// What `Store::changes` read.
#[derive(Debug, Clone)]
pub enum Changes {
    /// Changes with their revisions, oldest first, and the position after the last.
    Entries {
        /// (revision, change), each revision one above the one before.
        entries: Vec<(u64, Change)>,
        /// The position to go on from.
        position: Position,
    },
    /// What follows the position is gone: read a snapshot again.
    Resync,
}

/// A scheduler replica as it announces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerInfo {
    /// Its name.
    pub id: SchedulerId,
    /// Where other replicas reach it, host:port.
    pub address: String,
    /// Its version.
    pub version: String,
    /// When it last announced itself, by the store's clock.
    pub heartbeat_time_ms: u64,
}

/// What holds the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDescription {
    /// `redis`, `embedded` or `model`.
    pub kind: &'static str,
    /// How durable an acknowledged write is, for people.
    pub durability: String,
    /// What is true when new jobs find no room, as a part of a sentence.
    pub when_full: String,
}
