//! One mutation: all checks first, then the writes.

use std::sync::Arc;
use std::time::Duration;

use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId, SessionId};
use berth_domain::job::{Job, JobIndex};
use berth_domain::spec::JobSpec;

use super::head::{Head, after};
use super::tables::{Index, Reservation, StoredJob, StoredKey, Tables};
use crate::order::priority_base;
use crate::{Change, Conflict, IdempotencyKey, Mutation, StoreError};

/// What a mutation that did not conflict did.
pub(super) enum Applied {
    /// It was written at the new revision.
    Change(Change),
    /// The first submit under its key made this job.
    Existing(JobId),
}

/// Why a mutation was not written.
pub(super) enum Refusal {
    /// An expectation does not hold; the call goes on.
    Conflict(Conflict),
    /// The tables failed; the call ends, and none of it may stand.
    Broken(StoreError),
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Broken(error)
    }
}

/// What an update expects beside the revision.
struct Expected<'a> {
    session: Option<&'a (ExecutorId, SessionId)>,
    attempt: Option<(u32, u64)>,
}

/// The rules at work on one call.
pub(super) struct Rules<'a, T> {
    pub(super) head: &'a mut Head,
    pub(super) tables: &'a mut T,
    pub(super) now_ms: u64,
}

impl<T: Tables> Rules<'_, T> {
    pub(super) fn apply(&mut self, mutation: &Mutation) -> Result<Applied, Refusal> {
        match mutation {
            Mutation::Submit { job, spec, idempotency } => self.submit(job, spec, idempotency.as_ref()),
            Mutation::Update { job, session, attempt } => {
                self.update(job, &Expected { session: session.as_ref(), attempt: *attempt })
            }
            Mutation::Delete { job_id, revision } => self.delete(job_id, *revision),
            Mutation::PutExecutor { executor, lease } => self.put_executor(executor, *lease),
        }
    }

    fn submit(
        &mut self,
        job: &Job,
        spec: &JobSpec,
        idempotency: Option<&IdempotencyKey>,
    ) -> Result<Applied, Refusal> {
        if let Some(key) = idempotency
            && let Some(first) = self.tables.key(&key.key)?.filter(|first| first.expiry_ms > self.now_ms)
        {
            if first.request_hash == key.request_hash {
                return Ok(Applied::Existing(first.job_id));
            }
            return Err(Conflict::Idempotency(first.job_id).into());
        }
        if self.tables.job(&job.id)?.is_some() {
            return Err(Conflict::JobExists.into());
        }
        let revision = self.head.raise_revision();
        if let Some(key) = idempotency {
            let stored = StoredKey {
                job_id: job.id.clone(),
                request_hash: key.request_hash.clone(),
                expiry_ms: after(self.now_ms, key.ttl),
            };
            self.tables.put_key(&key.key, stored)?;
        }
        let job = Job { revision, ..job.clone() };
        self.tables.place(&Index::All, revision, &job.id)?;
        self.head.count(job.state, 1);
        self.put_in_index(&job, revision)?;
        self.tables.put_spec(&job.id, spec)?;
        self.tables.put_job(StoredJob { job: job.clone(), submit_revision: revision, reservation: None })?;
        Ok(Applied::Change(Change::Job(Arc::new(job))))
    }

    fn update(&mut self, job: &Job, expected: &Expected<'_>) -> Result<Applied, Refusal> {
        let stored = self.tables.job(&job.id)?.ok_or(Conflict::Missing)?;
        self.check_session(expected.session)?;
        check_attempt(&stored.job, expected.attempt)?;
        if stored.job.revision != job.revision {
            return Err(Conflict::Revision(stored.job.revision).into());
        }
        let held = assigned_to(&stored.job);
        let wanted = assigned_to(job);
        if let Some(executor) = wanted.as_ref().filter(|wanted| held.as_ref() != Some(wanted)) {
            self.check_reservation(job, executor)?;
        }

        let revision = self.head.raise_revision();
        let mut reservation = stored.reservation;
        if held != wanted {
            self.release(reservation.take())?;
            reservation = wanted.map(|executor| self.reserve(job, executor)).transpose()?;
        }
        self.take_from_index(&stored.job, stored.submit_revision)?;
        self.head.count(stored.job.state, -1);
        self.head.count(job.state, 1);
        let job = Job { revision, ..job.clone() };
        self.put_in_index(&job, stored.submit_revision)?;
        let submit_revision = stored.submit_revision;
        self.tables.put_job(StoredJob { job: job.clone(), submit_revision, reservation })?;
        Ok(Applied::Change(Change::Job(Arc::new(job))))
    }

    fn delete(&mut self, job_id: &JobId, revision: u64) -> Result<Applied, Refusal> {
        let stored = self.tables.job(job_id)?.ok_or(Conflict::Missing)?;
        if stored.job.revision != revision {
            return Err(Conflict::Revision(stored.job.revision).into());
        }
        self.head.raise_revision();
        self.release(stored.reservation)?;
        self.take_from_index(&stored.job, stored.submit_revision)?;
        self.tables.displace(&Index::All, stored.submit_revision, job_id)?;
        self.head.count(stored.job.state, -1);
        self.tables.remove_job(job_id)?;
        Ok(Applied::Change(Change::JobDeleted(job_id.clone())))
    }

    fn put_executor(&mut self, executor: &Executor, lease: Option<Duration>) -> Result<Applied, Refusal> {
        let stored = self.tables.executor(&executor.id)?;
        match &stored {
            None if executor.revision != 0 => return Err(Conflict::Missing.into()),
            Some(stored) if stored.revision != executor.revision => {
                return Err(Conflict::Revision(stored.revision).into());
            }
            None | Some(_) => {}
        }
        let reserved = stored.map(|stored| stored.reserved).unwrap_or_default();
        let revision = self.head.raise_revision();
        let lease_expiry_ms = lease.map(|lease| after(self.now_ms, lease));
        match (&executor.session, lease_expiry_ms) {
            (None, _) => self.head.leases.remove(&executor.id),
            (Some(_), Some(expiry_ms)) => self.head.leases.insert(executor.id.clone(), expiry_ms),
            (Some(_), None) => None,
        };
        let next = Executor { reserved, lease_expiry_ms: 0, revision, ..executor.clone() };
        let logged = Executor { reserved: Default::default(), ..next.clone() };
        self.tables.put_executor(next)?;
        Ok(Applied::Change(Change::Executor(Box::new(logged))))
    }

    fn check_session(&self, expected: Option<&(ExecutorId, SessionId)>) -> Result<(), Refusal> {
        let Some((executor, session)) = expected else { return Ok(()) };
        let current = self.tables.executor(executor)?.and_then(|executor| executor.session);
        if current.as_ref() == Some(session) { Ok(()) } else { Err(Conflict::Session.into()) }
    }

    fn check_reservation(&self, job: &Job, executor: &ExecutorId) -> Result<(), Refusal> {
        let executor = self.tables.executor(executor)?.ok_or(Conflict::Missing)?;
        if !executor.takes_jobs() {
            return Err(Conflict::ExecutorNotActive.into());
        }
        let fits = |reserved: u64, demand: u64, capacity: u64| reserved.saturating_add(demand) <= capacity;
        let (demand, reserved, capacity) = (&job.demand, &executor.reserved, &executor.capacity);
        if !fits(reserved.cpu_millis, demand.cpu_millis, capacity.cpu_millis)
            || !fits(reserved.memory_bytes, demand.memory_bytes, capacity.memory_bytes)
        {
            return Err(Conflict::Capacity.into());
        }
        for (at, id) in job.gpu_device_ids.iter().enumerate() {
            let is_theirs = capacity.gpus.iter().any(|gpu| gpu.id == *id);
            let is_twice = job.gpu_device_ids.iter().take(at).any(|earlier| earlier == id);
            if !is_theirs || is_twice || reserved.gpu_ids.contains(id) {
                return Err(Conflict::Device.into());
            }
        }
        Ok(())
    }

    fn reserve(&mut self, job: &Job, executor: ExecutorId) -> Result<Reservation, StoreError> {
        if let Some(mut stored) = self.tables.executor(&executor)? {
            stored.reserved.add(&job.demand, &job.gpu_device_ids);
            self.tables.put_executor(stored)?;
        }
        Ok(Reservation {
            executor,
            cpu_millis: job.demand.cpu_millis,
            memory_bytes: job.demand.memory_bytes,
            gpu_ids: job.gpu_device_ids.clone(),
        })
    }

    fn release(&mut self, reservation: Option<Reservation>) -> Result<(), StoreError> {
        let Some(held) = reservation else { return Ok(()) };
        let Some(mut executor) = self.tables.executor(&held.executor)? else { return Ok(()) };
        let reserved = &mut executor.reserved;
        reserved.cpu_millis = reserved.cpu_millis.saturating_sub(held.cpu_millis);
        reserved.memory_bytes = reserved.memory_bytes.saturating_sub(held.memory_bytes);
        for id in &held.gpu_ids {
            reserved.gpu_ids.remove(id);
        }
        self.tables.put_executor(executor)
    }

    fn put_in_index(&mut self, job: &Job, submit_revision: u64) -> Result<(), StoreError> {
        let (index, score) = place_of(job, submit_revision);
        self.tables.place(&index, score, &job.id)
    }

    fn take_from_index(&mut self, job: &Job, submit_revision: u64) -> Result<(), StoreError> {
        let (index, score) = place_of(job, submit_revision);
        self.tables.displace(&index, score, &job.id)
    }
}

/// The one index beside `All` in which a job stands, and its score there.
fn place_of(job: &Job, submit_revision: u64) -> (Index, u64) {
    match job.index() {
        JobIndex::Pending => (Index::Pending, priority_base(job.priority) + submit_revision),
        JobIndex::Delayed(due_ms) => (Index::Delayed, due_ms),
        JobIndex::Assigned(executor) => (Index::Assigned(executor), 0),
        JobIndex::Finished(end_ms) => (Index::Finished, end_ms),
    }
}

fn check_attempt(stored: &Job, expected: Option<(u32, u64)>) -> Result<(), Conflict> {
    let Some(expected) = expected else { return Ok(()) };
    let current = stored.current_attempt().map(|attempt| (attempt.number, attempt.epoch));
    if current == Some(expected) { Ok(()) } else { Err(Conflict::Attempt) }
}

/// The executor a job is assigned to, if it is.
fn assigned_to(job: &Job) -> Option<ExecutorId> {
    match job.index() {
        JobIndex::Assigned(executor) => Some(executor),
        JobIndex::Pending | JobIndex::Delayed(_) | JobIndex::Finished(_) => None,
    }
}
