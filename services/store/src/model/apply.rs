//! One mutation of the model: all checks first, then the writes.

use std::time::Duration;

use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::{ExecutorId, JobId, SessionId};
use berth_domain::job::{Job, JobIndex};
use berth_domain::spec::JobSpec;

use super::state::{Reservation, State, StoredJob, StoredKey, after};
use crate::order::priority_base;
use crate::{Change, Conflict, IdempotencyKey, Mutation};

/// What a mutation that did not conflict did.
pub(super) enum Applied {
    /// It was written at the new revision.
    Change(Change),
    /// The first submit under its key made this job.
    Existing(JobId),
}

/// What an update expects beside the revision.
struct Expected<'a> {
    session: Option<&'a (ExecutorId, SessionId)>,
    attempt: Option<(u32, u64)>,
}

impl State {
    pub(super) fn apply(&mut self, mutation: &Mutation, now_ms: u64) -> Result<Applied, Conflict> {
        match mutation {
            Mutation::Submit { job, spec, idempotency } => {
                self.submit(job, spec, idempotency.as_ref(), now_ms)
            }
            Mutation::Update { job, session, attempt } => {
                self.update(job, &Expected { session: session.as_ref(), attempt: *attempt })
            }
            Mutation::Delete { job_id, revision } => self.delete(job_id, *revision),
            Mutation::PutExecutor { executor, lease } => self.put_executor(executor, *lease, now_ms),
        }
    }

    fn submit(
        &mut self,
        job: &Job,
        spec: &JobSpec,
        idempotency: Option<&IdempotencyKey>,
        now_ms: u64,
    ) -> Result<Applied, Conflict> {
        if let Some(key) = idempotency
            && let Some(first) = self.keys.get(&key.key).filter(|first| first.expiry_ms > now_ms)
        {
            if first.request_hash == key.request_hash {
                return Ok(Applied::Existing(first.job_id.clone()));
            }
            return Err(Conflict::Idempotency(first.job_id.clone()));
        }
        if self.jobs.contains_key(&job.id) {
            return Err(Conflict::JobExists);
        }
        self.revision += 1;
        if let Some(key) = idempotency {
            let stored = StoredKey {
                job_id: job.id.clone(),
                request_hash: key.request_hash.clone(),
                expiry_ms: after(now_ms, key.ttl),
            };
            self.keys.insert(key.key.clone(), stored);
        }
        let job = Job { revision: self.revision, ..job.clone() };
        self.indexes.all.insert((self.revision, job.id.clone()));
        *self.counts.entry(job.state).or_default() += 1;
        self.put_in_index(&job, self.revision);
        self.specs.insert(job.id.clone(), spec.clone());
        let stored = StoredJob { job: job.clone(), submit_revision: self.revision, reservation: None };
        self.jobs.insert(job.id.clone(), stored);
        Ok(Applied::Change(Change::Job(Box::new(job))))
    }

    fn update(&mut self, job: &Job, expected: &Expected<'_>) -> Result<Applied, Conflict> {
        let stored = self.jobs.get(&job.id).ok_or(Conflict::Missing)?.clone();
        self.check_session(expected.session)?;
        check_attempt(&stored.job, expected.attempt)?;
        if stored.job.revision != job.revision {
            return Err(Conflict::Revision(stored.job.revision));
        }
        let held = assigned_to(&stored.job);
        let wanted = assigned_to(job);
        if let Some(executor) = wanted.as_ref().filter(|wanted| held.as_ref() != Some(wanted)) {
            self.check_reservation(job, executor)?;
        }

        self.revision += 1;
        let mut reservation = stored.reservation;
        if held != wanted {
            self.release(reservation.take().as_ref());
            reservation = wanted.map(|executor| self.reserve(job, executor));
        }
        self.take_from_index(&stored.job, stored.submit_revision);
        let count = self.counts.entry(stored.job.state).or_default();
        *count = count.saturating_sub(1);
        *self.counts.entry(job.state).or_default() += 1;
        let job = Job { revision: self.revision, ..job.clone() };
        self.put_in_index(&job, stored.submit_revision);
        let stored = StoredJob { job: job.clone(), submit_revision: stored.submit_revision, reservation };
        self.jobs.insert(job.id.clone(), stored);
        Ok(Applied::Change(Change::Job(Box::new(job))))
    }

    fn delete(&mut self, job_id: &JobId, revision: u64) -> Result<Applied, Conflict> {
        let stored = self.jobs.get(job_id).ok_or(Conflict::Missing)?.clone();
        if stored.job.revision != revision {
            return Err(Conflict::Revision(stored.job.revision));
        }
        self.revision += 1;
        self.release(stored.reservation.as_ref());
        self.take_from_index(&stored.job, stored.submit_revision);
        self.indexes.all.remove(&(stored.submit_revision, job_id.clone()));
        let count = self.counts.entry(stored.job.state).or_default();
        *count = count.saturating_sub(1);
        self.jobs.remove(job_id);
        self.specs.remove(job_id);
        Ok(Applied::Change(Change::JobDeleted(job_id.clone())))
    }

    fn put_executor(
        &mut self,
        executor: &Executor,
        lease: Option<Duration>,
        now_ms: u64,
    ) -> Result<Applied, Conflict> {
        let stored = self.executors.get(&executor.id);
        match stored {
            None if executor.revision != 0 => return Err(Conflict::Missing),
            Some(stored) if stored.revision != executor.revision => {
                return Err(Conflict::Revision(stored.revision));
            }
            None | Some(_) => {}
        }
        let reserved = stored.map(|stored| stored.reserved.clone()).unwrap_or_default();
        let kept_lease = stored.map_or(0, |stored| stored.lease_expiry_ms);
        self.revision += 1;
        let lease_expiry_ms = match (&executor.session, lease) {
            (None, _) => 0,
            (Some(_), Some(lease)) => after(now_ms, lease),
            (Some(_), None) => kept_lease,
        };
        let next = Executor { reserved, lease_expiry_ms, revision: self.revision, ..executor.clone() };
        let logged = Executor { reserved: Default::default(), lease_expiry_ms: 0, ..next.clone() };
        self.executors.insert(next.id.clone(), next);
        Ok(Applied::Change(Change::Executor(Box::new(logged))))
    }

    fn check_session(&self, expected: Option<&(ExecutorId, SessionId)>) -> Result<(), Conflict> {
        let Some((executor, session)) = expected else { return Ok(()) };
        let current = self.executors.get(executor).and_then(|executor| executor.session.as_ref());
        if current == Some(session) { Ok(()) } else { Err(Conflict::Session) }
    }

    fn check_reservation(&self, job: &Job, executor: &ExecutorId) -> Result<(), Conflict> {
        let executor = self.executors.get(executor).ok_or(Conflict::Missing)?;
        match executor.state {
            ExecutorState::Active => {}
            ExecutorState::Draining | ExecutorState::Lost => return Err(Conflict::ExecutorNotActive),
        }
        let fits = |reserved: u64, demand: u64, capacity: u64| reserved.saturating_add(demand) <= capacity;
        let (demand, reserved, capacity) = (&job.demand, &executor.reserved, &executor.capacity);
        if !fits(reserved.cpu_millis, demand.cpu_millis, capacity.cpu_millis)
            || !fits(reserved.memory_bytes, demand.memory_bytes, capacity.memory_bytes)
        {
            return Err(Conflict::Capacity);
        }
        for (at, id) in job.gpu_device_ids.iter().enumerate() {
            let is_theirs = capacity.gpus.iter().any(|gpu| gpu.id == *id);
            let is_twice = job.gpu_device_ids.iter().take(at).any(|earlier| earlier == id);
            if !is_theirs || is_twice || reserved.gpu_ids.contains(id) {
                return Err(Conflict::Device);
            }
        }
        Ok(())
    }

    fn reserve(&mut self, job: &Job, executor: ExecutorId) -> Reservation {
        if let Some(stored) = self.executors.get_mut(&executor) {
            stored.reserved.add(&job.demand, &job.gpu_device_ids);
        }
        Reservation {
            executor,
            cpu_millis: job.demand.cpu_millis,
            memory_bytes: job.demand.memory_bytes,
            gpu_ids: job.gpu_device_ids.clone(),
        }
    }

    fn release(&mut self, reservation: Option<&Reservation>) {
        let Some(held) = reservation else { return };
        let Some(executor) = self.executors.get_mut(&held.executor) else { return };
        let reserved = &mut executor.reserved;
        reserved.cpu_millis = reserved.cpu_millis.saturating_sub(held.cpu_millis);
        reserved.memory_bytes = reserved.memory_bytes.saturating_sub(held.memory_bytes);
        for id in &held.gpu_ids {
            reserved.gpu_ids.remove(id);
        }
    }

    fn put_in_index(&mut self, job: &Job, submit_revision: u64) {
        let id = job.id.clone();
        match job.index() {
            JobIndex::Pending => {
                self.indexes.pending.insert((priority_base(job.priority) + submit_revision, id));
            }
            JobIndex::Delayed(due) => {
                self.indexes.delayed.insert((due, id));
            }
            JobIndex::Assigned(executor) => {
                self.indexes.assigned.entry(executor).or_default().insert(id);
            }
            JobIndex::Finished(end) => {
                self.indexes.finished.insert((end, id));
            }
        }
    }

    fn take_from_index(&mut self, job: &Job, submit_revision: u64) {
        let id = job.id.clone();
        match job.index() {
            JobIndex::Pending => {
                self.indexes.pending.remove(&(priority_base(job.priority) + submit_revision, id));
            }
            JobIndex::Delayed(due) => {
                self.indexes.delayed.remove(&(due, id));
            }
            JobIndex::Assigned(executor) => {
                if let Some(jobs) = self.indexes.assigned.get_mut(&executor) {
                    jobs.remove(&id);
                }
            }
            JobIndex::Finished(end) => {
                self.indexes.finished.remove(&(end, id));
            }
        }
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
