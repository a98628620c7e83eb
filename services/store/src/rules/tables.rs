//! The tables that the rules read and write.

use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;

use crate::StoreError;

/// What a job holds on an executor, exactly as it was taken.
#[derive(Debug, Clone)]
pub(crate) struct Reservation {
    pub(crate) executor: ExecutorId,
    pub(crate) cpu_millis: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) gpu_ids: Vec<String>,
}

/// A job's record and what stands beside it.
#[derive(Debug, Clone)]
pub(crate) struct StoredJob {
    pub(crate) job: Job,
    pub(crate) submit_revision: u64,
    pub(crate) reservation: Option<Reservation>,
}

/// The first submit under an idempotency key.
#[derive(Debug, Clone)]
pub(crate) struct StoredKey {
    pub(crate) job_id: JobId,
    pub(crate) request_hash: String,
    pub(crate) expiry_ms: u64,
}

/// The indexes: each job stands in `All` and in exactly one other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Index {
    /// Every job, by the revision of its submit.
    All,
    /// Ready jobs, by priority and then submit revision.
    Pending,
    /// Jobs held back, by due time.
    Delayed,
    /// Ended jobs, by end.
    Finished,
    /// Jobs of an executor, by id alone.
    Assigned(ExecutorId),
}

/// Tables as the rules see them: reads see the writes before them. An error ends the call, and then
/// none of its writes may stand.
pub(crate) trait Tables {
    /// Reads a job's record.
    fn job(&self, id: &JobId) -> Result<Option<StoredJob>, StoreError>;
    /// Writes a job's record.
    fn put_job(&mut self, stored: StoredJob) -> Result<(), StoreError>;
    /// Removes a job's record and its spec.
    fn remove_job(&mut self, id: &JobId) -> Result<(), StoreError>;
    /// Writes a job's spec.
    fn put_spec(&mut self, id: &JobId, spec: &JobSpec) -> Result<(), StoreError>;
    /// Reads an idempotency key, expired or not.
    fn key(&self, key: &str) -> Result<Option<StoredKey>, StoreError>;
    /// Writes an idempotency key.
    fn put_key(&mut self, key: &str, stored: StoredKey) -> Result<(), StoreError>;
    /// Reads an executor's record with its reservations; its lease is in the head.
    fn executor(&self, id: &ExecutorId) -> Result<Option<Executor>, StoreError>;
    /// Writes an executor's record with its reservations.
    fn put_executor(&mut self, executor: Executor) -> Result<(), StoreError>;
    /// Puts a job in an index.
    fn place(&mut self, index: &Index, score: u64, id: &JobId) -> Result<(), StoreError>;
    /// Takes a job from an index.
    fn displace(&mut self, index: &Index, score: u64, id: &JobId) -> Result<(), StoreError>;
}
