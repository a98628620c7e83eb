//! The record of an executor: what it registered with, and whether it is in touch.

use std::collections::BTreeMap;

use crate::ids::{ExecutorId, SchedulerId, SessionId};
use crate::resources::{Capacity, Reserved};

/// How long an executor that announced its restart is waited for.
pub const RESTART_LEASE_MS: u64 = 120_000;

/// Whether an executor is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExecutorState {
    /// It is there.
    Active,
    /// Judged lost: its session is void, and its jobs are being dealt with.
    Lost,
}

/// An operator's wish that it finishes what it has and takes nothing new. It outlives restarts and
/// verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drain {
    /// When its jobs are stopped and put back; `None` lets them end.
    pub deadline_ms: Option<u64>,
}

/// The record of an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executor {
    /// The operator's name for it.
    pub id: ExecutorId,
    /// Persisted identity of the machine's data folder.
    pub node_id: String,
    /// Identity of the machine's current boot.
    pub boot_id: String,
    /// Identity of its process; empty for one that has none.
    pub instance_id: String,
    /// The current registration; `None` after a LOST verdict.
    pub session: Option<SessionId>,
    /// What verdicts have made of it.
    pub state: ExecutorState,
    /// Why it can run no jobs at the moment, in its own words; `None` when it can.
    pub not_ready: Option<String>,
    /// It has announced a stop, and is waited for.
    pub restarting: bool,
    /// Set while it is to be emptied.
    pub drain: Option<Drain>,
    /// An operator has declared it dead: nothing of it runs any more.
    pub fenced: bool,
    /// What it has in all.
    pub capacity: Capacity,
    /// What its jobs hold; kept by the store, not by whoever writes the record.
    pub reserved: Reserved,
    /// Operator's labels.
    pub labels: BTreeMap<String, String>,
    /// Version of its program.
    pub version: String,
    /// Version of the protocol it speaks.
    pub protocol_version: u32,
    /// Where its session comes from, host:port.
    pub peer_address: String,
    /// The replica that holds its session.
    pub scheduler: SchedulerId,
    /// Where other replicas reach that replica, host:port.
    pub scheduler_address: String,
    /// When it registered.
    pub register_time_ms: u64,
    /// When it was last heard of, where the end of its lease does not tell.
    pub seen_ms: Option<u64>,
    /// When its lease ends; 0 without one. Kept by the store.
    pub lease_expiry_ms: u64,
    /// The store's revision that last changed this record; 0 before the first commit.
    pub revision: u64,
}

impl Executor {
    /// Makes the record of one that registers now, by way of a replica, with nothing known of it but what it has.
    pub fn new(id: ExecutorId, scheduler: SchedulerId, capacity: Capacity, now_ms: u64) -> Self {
        Self {
            id,
            node_id: String::new(),
            boot_id: String::new(),
            instance_id: String::new(),
            session: None,
            state: ExecutorState::Active,
            not_ready: None,
            restarting: false,
            drain: None,
            fenced: false,
            capacity,
            reserved: Reserved::default(),
            labels: BTreeMap::new(),
            version: String::new(),
            protocol_version: 1,
            peer_address: String::new(),
            scheduler,
            scheduler_address: String::new(),
            register_time_ms: now_ms,
            seen_ms: None,
            lease_expiry_ms: 0,
            revision: 0,
        }
    }

    /// Says whether it may be given jobs.
    pub fn takes_jobs(&self) -> bool {
        match self.state {
            ExecutorState::Active => self.not_ready.is_none() && !self.restarting && self.drain.is_none(),
            ExecutorState::Lost => false,
        }
    }

    /// When it was last heard of.
    pub fn last_seen_ms(&self, lease_ms: u64, now_ms: u64) -> u64 {
        let by_lease_ms = self.lease_expiry_ms.saturating_sub(lease_ms);
        self.seen_ms.unwrap_or(by_lease_ms).min(now_ms).max(self.register_time_ms)
    }
}
