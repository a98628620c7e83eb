//! The record of an executor: what it registered with, and whether it is in touch.

use std::collections::BTreeMap;

use crate::ids::{ExecutorId, SchedulerId, SessionId};
use crate::resources::{Capacity, Reserved};

/// Whether an executor may be given jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExecutorState {
    /// Takes jobs.
    Active,
    /// Finishes what it has and takes nothing new.
    Draining,
    /// Judged lost: its session is void, and its jobs are being dealt with.
    Lost,
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
    /// What operators and verdicts have made of it.
    pub state: ExecutorState,
    /// Why it can run no jobs at the moment, in its own words; `None` when it can.
    pub not_ready: Option<String>,
    /// When the jobs of a draining executor are put back; `None` lets them end.
    pub drain_deadline_ms: Option<u64>,
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
    /// When its lease ends; 0 without one. Kept by the store.
    pub lease_expiry_ms: u64,
    /// The store's revision that last changed this record; 0 before the first commit.
    pub revision: u64,
}

impl Executor {
    /// Says whether it may be given jobs.
    pub fn takes_jobs(&self) -> bool {
        match self.state {
            ExecutorState::Active => self.not_ready.is_none(),
            ExecutorState::Draining | ExecutorState::Lost => false,
        }
    }
}
