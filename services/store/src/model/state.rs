//! Everything the model holds, with its guards, lock, leases and generations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId, SchedulerId};
use berth_domain::job::{Job, JobState};
use berth_domain::spec::JobSpec;

use super::log::Log;
use crate::{
    Call, Change, Committed, LeaderGuard, LeaseRenewal, LockInfo, LockRequest, Meta, Position, SchedulerInfo,
    StoreError, Verdict,
};

/// The most pauses a lock remembers.
const MAX_PAUSES: usize = 64;

/// What a job holds on an executor, exactly as it was taken.
#[derive(Debug, Clone)]
pub(super) struct Reservation {
    pub(super) executor: ExecutorId,
    pub(super) cpu_millis: u64,
    pub(super) memory_bytes: u64,
    pub(super) gpu_ids: Vec<String>,
}

/// A job's record and what stands beside it.
#[derive(Debug, Clone)]
pub(super) struct StoredJob {
    pub(super) job: Job,
    pub(super) submit_revision: u64,
    pub(super) reservation: Option<Reservation>,
}

/// The first submit under an idempotency key.
#[derive(Debug, Clone)]
pub(super) struct StoredKey {
    pub(super) job_id: JobId,
    pub(super) request_hash: String,
    pub(super) expiry_ms: u64,
}

/// The indexes: each job stands in `all` and in exactly one other.
#[derive(Debug, Clone, Default)]
pub(super) struct Indexes {
    pub(super) all: BTreeSet<(u64, JobId)>,
    pub(super) pending: BTreeSet<(u64, JobId)>,
    pub(super) delayed: BTreeSet<(u64, JobId)>,
    pub(super) finished: BTreeSet<(u64, JobId)>,
    pub(super) assigned: BTreeMap<ExecutorId, BTreeSet<JobId>>,
}

/// The whole store.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) generation: u64,
    pub(super) generation_since_ms: u64,
    /// False after a restart, until the next call adopts a new generation.
    pub(super) adopted: bool,
    pub(super) full: bool,
    pub(super) revision: u64,
    pub(super) jobs: BTreeMap<JobId, StoredJob>,
    pub(super) specs: BTreeMap<JobId, JobSpec>,
    pub(super) keys: BTreeMap<String, StoredKey>,
    pub(super) indexes: Indexes,
    pub(super) counts: BTreeMap<JobState, u64>,
    pub(super) executors: BTreeMap<ExecutorId, Executor>,
    pub(super) lock: LockInfo,
    pub(super) schedulers: BTreeMap<SchedulerId, (SchedulerInfo, u64)>,
    pub(super) log: Log,
}

impl State {
    pub(super) fn new(now_ms: u64, log: Log) -> Self {
        let mut state = Self {
            generation: 0,
            generation_since_ms: 0,
            adopted: false,
            full: false,
            revision: 0,
            jobs: BTreeMap::new(),
            specs: BTreeMap::new(),
            keys: BTreeMap::new(),
            indexes: Indexes::default(),
            counts: BTreeMap::new(),
            executors: BTreeMap::new(),
            lock: LockInfo::default(),
            schedulers: BTreeMap::new(),
            log,
        };
        state.adopt(now_ms);
        state
    }

    /// Starts a new generation if the server was restarted or replaced.
    pub(super) fn adopt(&mut self, now_ms: u64) {
        if !self.adopted {
            self.generation = now_ms.max(self.generation + 1);
            self.generation_since_ms = now_ms;
            self.adopted = true;
            self.log.clear();
        }
    }

    pub(super) fn position(&self) -> Position {
        Position { generation: self.generation, revision: self.revision }
    }

    pub(super) fn meta(&mut self, now_ms: u64) -> Meta {
        self.adopt(now_ms);
        Meta {
            position: self.position(),
            time_ms: now_ms,
            generation_since_ms: self.generation_since_ms,
            lock: self.lock.clone(),
            counts: self.counts.iter().filter(|(_, count)| **count > 0).map(|(s, c)| (*s, *c)).collect(),
        }
    }

    pub(super) fn commit(&mut self, call: &Call, now_ms: u64) -> Result<Committed, StoreError> {
        self.adopt(now_ms);
        if call.generation.is_some_and(|generation| generation != self.generation) {
            return Err(StoreError::Generation { current: self.generation });
        }
        if call.leader.as_ref().is_some_and(|guard| !self.is_leader(guard)) {
            return Err(StoreError::Fenced);
        }
        if self.full && call.is_submit_only() {
            return Err(StoreError::Full);
        }
        let mut changes = Vec::new();
        let mut verdicts = Vec::with_capacity(call.mutations.len());
        for mutation in &call.mutations {
            verdicts.push(match self.apply(mutation, now_ms) {
                Ok(super::apply::Applied::Change(change)) => {
                    changes.push((self.revision, change));
                    Verdict::Applied(self.revision)
                }
                Ok(super::apply::Applied::Existing(job_id)) => Verdict::Existing(job_id),
                Err(conflict) => Verdict::Conflict(conflict),
            });
        }
        self.log.append(changes, now_ms);
        Ok(Committed { verdicts, position: self.position(), time_ms: now_ms })
    }

    fn is_leader(&self, guard: &LeaderGuard) -> bool {
        guard.epoch == self.lock.epoch && guard.owner == self.lock.owner
    }

    pub(super) fn renew_leases(&mut self, renewals: &[LeaseRenewal], now_ms: u64) -> Vec<bool> {
        self.adopt(now_ms);
        let renew = |renewal: &LeaseRenewal| match self.executors.get_mut(&renewal.executor) {
            Some(executor) if executor.session.as_ref() == Some(&renewal.session) => {
                executor.lease_expiry_ms = after(now_ms, renewal.lease);
                true
            }
            Some(_) | None => false,
        };
        renewals.iter().map(renew).collect()
    }

    pub(super) fn acquire_lock(&mut self, request: &LockRequest, now_ms: u64) -> Option<LockInfo> {
        self.adopt(now_ms);
        let held = !self.lock.owner.is_empty() && self.lock.expiry_ms > now_ms;
        if held && self.lock.owner != request.owner {
            return None;
        }
        self.record_pause(now_ms);
        self.lock.epoch = now_ms.max(self.lock.epoch + 1);
        self.lock.owner.clone_from(&request.owner);
        self.lock.scheduler_id.clone_from(&request.scheduler_id);
        self.lock.expiry_ms = after(now_ms, request.ttl);
        self.log_leader(now_ms);
        Some(self.lock.clone())
    }

    pub(super) fn renew_lock(&mut self, guard: &LeaderGuard, ttl: Duration, now_ms: u64) -> bool {
        self.adopt(now_ms);
        let ours = self.is_leader(guard);
        if ours {
            self.record_pause(now_ms);
            self.lock.expiry_ms = after(now_ms, ttl);
        }
        ours
    }

    pub(super) fn release_lock(&mut self, guard: &LeaderGuard, now_ms: u64) -> bool {
        self.adopt(now_ms);
        let ours = self.is_leader(guard);
        if ours {
            self.lock.owner.clear();
            self.lock.scheduler_id.clear();
            // An expired lock was given up when it expired, not now.
            self.lock.expiry_ms = self.lock.expiry_ms.min(now_ms);
            self.log_leader(now_ms);
        }
        ours
    }

    /// Remembers the time since the lock ended; before the first one, since the generation began.
    fn record_pause(&mut self, now_ms: u64) {
        let from = if self.lock.epoch == 0 { self.generation_since_ms } else { self.lock.expiry_ms };
        if from < now_ms {
            self.lock.pauses.push((from, now_ms));
            let excess = self.lock.pauses.len().saturating_sub(MAX_PAUSES);
            self.lock.pauses.drain(..excess);
        }
    }

    fn log_leader(&mut self, now_ms: u64) {
        self.revision += 1;
        let change = Change::Leader { epoch: self.lock.epoch, scheduler_id: self.lock.scheduler_id.clone() };
        self.log.append(vec![(self.revision, change)], now_ms);
    }
}

/// Adds a duration to a time.
pub(super) fn after(now_ms: u64, duration: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
