//! The few values of a cluster beside its tables: generation, revision, counters, lock and leases,
//! and how they change.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_domain::ids::ExecutorId;
use berth_domain::job::JobState;

use super::time::Time;
use crate::{Change, LeaderGuard, LockInfo, LockRequest, Meta, Position};

/// The most pauses a lock remembers.
const MAX_PAUSES: usize = 64;

/// The values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) time: Time,
    pub(crate) generation: u64,
    pub(crate) generation_since_ms: u64,
    pub(crate) revision: u64,
    pub(crate) counts: BTreeMap<JobState, u64>,
    pub(crate) lock: LockInfo,
    /// When the leases of executors end; an executor without one is absent.
    pub(crate) leases: BTreeMap<ExecutorId, u64>,
}

impl Head {
    /// Begins a new generation: the server was started, restarted or replaced.
    pub(crate) fn begin_generation(&mut self, now_ms: u64) {
        self.generation = now_ms.max(self.generation + 1);
        self.generation_since_ms = now_ms;
        // Nobody leads in it yet: what an earlier leader assigned may be lost, and its epoch must never
        // name another assignment.
        self.give_up_lock(now_ms);
    }

    pub(crate) fn position(&self) -> Position {
        Position { generation: self.generation, revision: self.revision }
    }

    pub(crate) fn meta(&self, now_ms: u64) -> Meta {
        Meta {
            position: self.position(),
            time_ms: now_ms,
            generation_since_ms: self.generation_since_ms,
            lock: self.lock.clone(),
            counts: self.counts.iter().filter(|(_, count)| **count > 0).map(|(s, c)| (*s, *c)).collect(),
        }
    }

    pub(crate) fn raise_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    pub(crate) fn count(&mut self, state: JobState, change: i64) {
        let count = self.counts.entry(state).or_default();
        *count = count.saturating_add_signed(change);
    }

    pub(crate) fn is_leader(&self, guard: &LeaderGuard) -> bool {
        guard.epoch == self.lock.epoch && guard.owner == self.lock.owner
    }

    /// Takes the lock if it is free, expired or the owner's own; gives the change to be logged.
    pub(crate) fn acquire_lock(&mut self, request: &LockRequest, now_ms: u64) -> Option<(u64, Change)> {
        let held = !self.lock.owner.is_empty() && self.lock.expiry_ms > now_ms;
        if held && self.lock.owner != request.owner {
            return None;
        }
        self.record_pause(now_ms);
        self.lock.epoch = now_ms.max(self.lock.epoch + 1);
        self.lock.owner.clone_from(&request.owner);
        self.lock.scheduler_id.clone_from(&request.scheduler_id);
        self.lock.expiry_ms = after(now_ms, request.ttl);
        Some(self.leader_change())
    }

    /// Extends the lock of its owner; says whether it was theirs.
    pub(crate) fn renew_lock(&mut self, guard: &LeaderGuard, ttl: Duration, now_ms: u64) -> bool {
        let ours = self.is_leader(guard);
        if ours {
            self.record_pause(now_ms);
            self.lock.expiry_ms = after(now_ms, ttl);
        }
        ours
    }

    /// Gives the lock of its owner up; gives the change to be logged, if it was theirs.
    pub(crate) fn release_lock(&mut self, guard: &LeaderGuard, now_ms: u64) -> Option<(u64, Change)> {
        self.is_leader(guard).then(|| {
            self.give_up_lock(now_ms);
            self.leader_change()
        })
    }

    fn give_up_lock(&mut self, now_ms: u64) {
        self.lock.owner.clear();
        self.lock.scheduler_id.clear();
        // An expired lock was given up when it expired, not now.
        self.lock.expiry_ms = self.lock.expiry_ms.min(now_ms);
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

    fn leader_change(&mut self) -> (u64, Change) {
        let revision = self.raise_revision();
        let scheduler_id = self.lock.scheduler_id.clone();
        (revision, Change::Leader { epoch: self.lock.epoch, scheduler_id })
    }
}

/// Adds a duration to a time.
pub(crate) fn after(now_ms: u64, duration: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
