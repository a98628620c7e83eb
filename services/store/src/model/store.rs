//! The handle of a model store: time, faults and waiting around the state.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use berth_domain::executor::Executor;
use berth_domain::ids::JobId;
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::faults::{Fate, FaultState, Faults};
use super::state::State;
use super::tables::Ordered;
use crate::rules::{Log, after};
use crate::validate::check_call;
use crate::{
    Call, Change, Changes, Committed, Cursor, LeaderGuard, LeaseRenewal, LockInfo, LockRequest, Meta, Page,
    Position, SchedulerInfo, Scope, Store, StoreDescription, StoreError,
};

/// Time between two looks whether a stall is over.
const STALL_LOOK: Duration = Duration::from_millis(20);

/// What was changed at one moment.
#[derive(Debug)]
pub struct Tapped<'a> {
    /// The store's generation.
    pub generation: u64,
    /// The commit that made the changes; `None` where none did.
    pub call: Option<&'a Call>,
    /// The changes, with their revisions.
    pub entries: Vec<(u64, Change)>,
}

/// Is told every change at the moment it is made.
type Tap = Box<dyn Fn(Tapped<'_>) + Send + Sync>;

/// Tells the store's time in milliseconds since the Unix epoch.
pub type ModelClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A store in memory. Clones are the same handle; `replica` gives another handle to the same
/// state, with faults of its own: one a simulated process.
#[derive(Clone)]
pub struct ModelStore {
    shared: Arc<Shared>,
    faults: Arc<Mutex<FaultState>>,
    /// The newest generation that this handle has read: none that is older may follow it.
    seen_generation: Arc<AtomicU64>,
}

/// A state of the whole store, to be returned to by `ModelStore::fail_over`.
#[derive(Clone)]
pub struct Snapshot(State);

impl Snapshot {
    /// Shows how far it goes.
    pub fn position(&self) -> Position {
        self.0.position()
    }

    /// Lists the jobs of every index beside that of all.
    pub fn sets(&self) -> Vec<(Scope, BTreeSet<JobId>)> {
        let tables = &self.0.tables;
        let ids = |ordered: &Ordered| ordered.iter().map(|(_, id)| id.clone()).collect();
        let assigned = tables.assigned.iter().map(|(id, jobs)| (Scope::Assigned(id.clone()), ids(jobs)));
        let single = [
            (Scope::Pending, &tables.pending),
            (Scope::Delayed, &tables.delayed),
            (Scope::Finished, &tables.finished),
        ];
        single.into_iter().map(|(scope, jobs)| (scope, ids(jobs))).chain(assigned).collect()
    }

    /// Lists the executors with what is reserved on them.
    pub fn executors(&self) -> Vec<Executor> {
        self.0.tables.executors.values().cloned().collect()
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    clock: ModelClock,
    tap: Mutex<Option<Tap>>,
}

impl fmt::Debug for ModelStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelStore").field("position", &self.state().position()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(&self.0.position()).finish()
    }
}

impl Shared {
    /// Tells the tap what follows a position.
    fn tell(&self, state: &State, before: Position, call: Option<&Call>) {
        let head = state.position();
        let before = Position { generation: head.generation, ..before };
        if let (Some(tap), Changes::Entries { entries, .. }) =
            (self.tap.lock().unwrap_or_else(PoisonError::into_inner).as_ref(), state.log.after(before, head))
        {
            tap(Tapped { generation: head.generation, call, entries });
        }
    }
}

impl ModelStore {
    /// How long changes are kept, unless told otherwise.
    pub const LOG_AGE: Duration = Duration::from_secs(60);
    /// How many encoded bytes of changes are kept, unless told otherwise.
    pub const LOG_BYTES: usize = 64 * 1024 * 1024;

    /// Makes an empty store whose clock shows `base_ms` now and goes on with tokio's.
    pub fn new(base_ms: u64) -> Self {
        let start = Instant::now();
        let clock = move || after(base_ms, start.elapsed());
        Self::with_clock(Arc::new(clock), Self::LOG_AGE, Self::LOG_BYTES)
    }

    /// Makes an empty store with a clock of the caller's and a log of the given bounds.
    ///
    /// Needed in a simulation whose hosts have runtimes of their own: instants of one tokio
    /// runtime mean nothing in another.
    pub fn with_clock(clock: ModelClock, log_age: Duration, log_bytes: usize) -> Self {
        let state = State::new(clock(), Log::new(log_age, log_bytes));
        let shared =
            Shared { state: Mutex::new(state), changed: Notify::new(), clock, tap: Mutex::default() };
        Self { shared: Arc::new(shared), faults: Arc::default(), seen_generation: Arc::default() }
    }

    /// Makes another handle to the same state, without faults.
    pub fn replica(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared, faults: Arc::default(), seen_generation: Arc::default() }
    }

    /// Sets the repeating faults of this handle; their counting goes on.
    pub fn set_faults(&self, faults: Faults) {
        self.fault_state().faults = faults;
    }

    /// Has the next commit of this handle applied and reported as unknown.
    pub fn lose_next_reply(&self) {
        self.fault_state().next = Some(Fate::ReplyLost);
    }

    /// Has the next commit of this handle not applied and reported as unknown.
    pub fn lose_next_request(&self) {
        self.fault_state().next = Some(Fate::RequestLost);
    }

    /// Has every change told at the moment it is made, by whatever handle: no reader of the log sees what
    /// is lost before it is read.
    pub fn set_tap(&self, tap: impl Fn(Tapped<'_>) + Send + Sync + 'static) {
        *self.shared.tap.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(tap));
    }

    /// Makes the store full, for all handles, or gives it room again.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// Restarts the server without a loss: the next call that may write adopts a new generation.
    pub fn restart(&self) {
        self.state().adopted = false;
    }

    /// Keeps the present state for a later `fail_over`.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.state().clone())
    }

    /// Replaces the server by a copy that stopped at the snapshot: what came after it is lost, and
    /// the next call that may write adopts a new generation.
    pub fn fail_over(&self, snapshot: Snapshot) {
        let mut state = self.state();
        *state = snapshot.0;
        state.adopted = false;
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Shows the cluster's time.
    pub fn now_ms(&self) -> u64 {
        self.state().head.time.at((self.shared.clock)())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault_state(&self) -> MutexGuard<'_, FaultState> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one call against the state, under this handle's latency and outages.
    async fn run<T>(&self, act: impl FnOnce(&mut State, u64) -> T) -> Result<T, StoreError> {
        let latency = self.fault_state().faults.latency / 2;
        self.delay(latency).await;
        while self.fault_state().faults.stalled {
            tokio::time::sleep(STALL_LOOK).await;
        }
        self.check_reachable()?;
        let result = {
            let mut state = self.state();
            let now_ms = state.head.time.tell((self.shared.clock)());
            act(&mut state, now_ms)
        };
        self.delay(latency).await;
        Ok(result)
    }

    /// Like `run`, and wakes those who wait for changes.
    async fn write<T>(&self, act: impl FnOnce(&mut State, u64) -> T) -> Result<T, StoreError> {
        self.write_for(None, act).await
    }

    /// Like `write`, for a commit.
    async fn write_for<T>(
        &self,
        call: Option<&Call>,
        act: impl FnOnce(&mut State, u64) -> T,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.run(move |state, now_ms| {
            let before = state.position();
            let result = act(state, now_ms);
            if state.position() != before {
                shared.tell(state, before, call);
                shared.changed.notify_waiters();
            }
            result
        })
        .await
    }

    async fn delay(&self, duration: Duration) {
        if !duration.is_zero() {
            tokio::time::sleep(duration).await;
        }
    }

    fn check_reachable(&self) -> Result<(), StoreError> {
        if self.fault_state().faults.unavailable {
            return Err(StoreError::Unavailable { reason: "the model is told to be unavailable".to_owned() });
        }
        Ok(())
    }
}

#[async_trait]
impl Store for ModelStore {
    async fn commit(&self, call: Call) -> Result<Committed, StoreError> {
        check_call(&call)?;
        let fate = self.fault_state().fate();
        let unknown = || StoreError::Unknown { reason: "the model is told to lose this commit".to_owned() };
        match fate {
            Fate::Normal => self.write_for(Some(&call), |state, now_ms| state.commit(&call, now_ms)).await?,
            Fate::ReplyLost => {
                let _ = self.write_for(Some(&call), |state, now_ms| state.commit(&call, now_ms)).await?;
                Err(unknown())
            }
            Fate::RequestLost => {
                self.run(|_, _| ()).await?;
                Err(unknown())
            }
            Fate::Refused => {
                Err(StoreError::Unavailable { reason: "the model is told to refuse this commit".to_owned() })
            }
        }
    }

    async fn meta(&self) -> Result<Meta, StoreError> {
        let seen = self.seen_generation.load(Ordering::SeqCst);
        let meta = self
            .write(|state, now_ms| {
                state.outgrow(seen);
                state.meta(now_ms)
            })
            .await?;
        self.seen_generation.fetch_max(meta.position.generation, Ordering::SeqCst);
        Ok(meta)
    }

    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
        self.run(|state, _| state.jobs(ids)).await
    }

    async fn specs(&self, ids: &[JobId]) -> Result<Vec<Option<JobSpec>>, StoreError> {
        self.run(|state, _| state.specs(ids)).await
    }

    async fn page(&self, scope: &Scope, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.run(|state, _| state.page(scope, after, limit)).await?
    }

    async fn executors(&self) -> Result<Vec<Executor>, StoreError> {
        self.run(|state, _| state.executors()).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.run(|state, _| state.position()).await
    }

    async fn changes(&self, after: Position, wait: Duration) -> Result<Changes, StoreError> {
        let deadline = Instant::now() + wait;
        loop {
            // Made before the log is read: it is woken by every change from here on.
            let changed = self.shared.changed.notified();
            let changes = self.run(|state, _| state.log.after(after, state.position())).await?;
            let is_idle = matches!(&changes, Changes::Entries { entries, .. } if entries.is_empty());
            if !is_idle || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Ok(changes);
            }
        }
    }

    async fn renew_leases(&self, renewals: &[LeaseRenewal]) -> Result<Vec<bool>, StoreError> {
        self.write(|state, now_ms| state.renew_leases(renewals, now_ms)).await?
    }

    async fn acquire_lock(&self, request: &LockRequest) -> Result<Option<LockInfo>, StoreError> {
        self.write(|state, now_ms| state.acquire_lock(request, now_ms)).await
    }

    async fn renew_lock(&self, owner: &str, epoch: u64, ttl: Duration) -> Result<bool, StoreError> {
        let guard = LeaderGuard { epoch, owner: owner.to_owned() };
        self.write(|state, now_ms| state.renew_lock(&guard, ttl, now_ms)).await
    }

    async fn release_lock(&self, owner: &str, epoch: u64) -> Result<bool, StoreError> {
        let guard = LeaderGuard { epoch, owner: owner.to_owned() };
        self.write(|state, now_ms| state.release_lock(&guard, now_ms)).await
    }

    async fn announce_scheduler(&self, scheduler: &SchedulerInfo, ttl: Duration) -> Result<u64, StoreError> {
        self.run(|state, now_ms| {
            state.schedulers.announce(scheduler, ttl, now_ms);
            now_ms
        })
        .await
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerInfo>, StoreError> {
        self.run(|state, now_ms| state.schedulers.alive(now_ms)).await
    }

    fn describe(&self) -> StoreDescription {
        StoreDescription {
            kind: "model",
            durability: "in memory: gone with the process".to_owned(),
            when_full: "a test says so".to_owned(),
        }
    }
}
