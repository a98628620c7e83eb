//! Everything the model holds: the head, the tables and the log under the shared rules, with the
//! adoption of generations that a restart asks for.

use std::time::Duration;

use super::tables::Memory;
use crate::rules::{self, Announced, Head, Log, Outcome, Tables};
use crate::{
    Call, Change, Committed, LeaderGuard, LeaseRenewal, LockInfo, LockRequest, Meta, Position, StoreError,
};

/// The whole store.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// False after a restart, until the next call adopts a new generation.
    pub(super) adopted: bool,
    pub(super) full: bool,
    pub(super) head: Head,
    pub(super) tables: Memory,
    pub(super) schedulers: Announced,
    pub(super) log: Log,
}

impl State {
    pub(super) fn new(now_ms: u64, log: Log) -> Self {
        let mut state = Self {
            adopted: false,
            full: false,
            head: Head::default(),
            tables: Memory::default(),
            schedulers: Announced::default(),
            log,
        };
        state.adopt(now_ms);
        state
    }

    /// Starts a new generation if the server was restarted or replaced.
    fn adopt(&mut self, now_ms: u64) {
        if !self.adopted {
            self.head.begin_generation(now_ms);
            self.adopted = true;
            self.log.clear();
        }
    }

    /// Has a new generation begin where a newer one was seen already: this is a copy that knows nothing of it.
    pub(super) fn outgrow(&mut self, seen: u64) {
        if self.head.generation < seen {
            self.head.generation = seen;
            self.adopted = false;
        }
    }

    pub(super) fn position(&self) -> Position {
        self.head.position()
    }

    pub(super) fn meta(&mut self, now_ms: u64) -> Meta {
        self.adopt(now_ms);
        self.head.meta(now_ms)
    }

    pub(super) fn commit(&mut self, call: &Call, now_ms: u64) -> Result<Committed, StoreError> {
        self.adopt(now_ms);
        let Outcome { verdicts, changes } =
            rules::commit(&mut self.head, &mut self.tables, call, now_ms, self.full)?;
        self.log.append(changes, now_ms);
        Ok(Committed { verdicts, position: self.position(), time_ms: now_ms })
    }

    pub(super) fn renew_leases(
        &mut self,
        renewals: &[LeaseRenewal],
        now_ms: u64,
    ) -> Result<Vec<bool>, StoreError> {
        self.adopt(now_ms);
        let tables = &self.tables;
        let session =
            |renewal: &LeaseRenewal| Ok(tables.executor(&renewal.executor)?.and_then(|e| e.session));
        rules::renew_leases(&mut self.head, renewals, now_ms, session)
    }

    pub(super) fn acquire_lock(&mut self, request: &LockRequest, now_ms: u64) -> Option<LockInfo> {
        self.adopt(now_ms);
        let change = self.head.acquire_lock(request, now_ms)?;
        self.log_leader(change, now_ms);
        Some(self.head.lock.clone())
    }

    pub(super) fn renew_lock(&mut self, guard: &LeaderGuard, ttl: Duration, now_ms: u64) -> bool {
        self.adopt(now_ms);
        self.head.renew_lock(guard, ttl, now_ms)
    }

    pub(super) fn release_lock(&mut self, guard: &LeaderGuard, now_ms: u64) -> bool {
        self.adopt(now_ms);
        let change = self.head.release_lock(guard, now_ms);
        let ours = change.is_some();
        change.into_iter().for_each(|change| self.log_leader(change, now_ms));
        ours
    }

    fn log_leader(&mut self, change: (u64, Change), now_ms: u64) {
        self.log.append(vec![change], now_ms);
    }
}
