//! The embedded store as a subject of the suite, on a disk whose power can be cut.

mod failures;
mod platter;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use berth_domain::executor::Executor;
use berth_domain::ids::JobId;
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;
use berth_store::contract::{Fragile, Subject};
use berth_store::embedded::{EmbeddedConfig, EmbeddedStore};
use berth_store::*;
use tokio::sync::Notify;

pub use platter::Platter;

/// A machine with a disk, and the process that has the store open; `Store` calls go to the one that
/// runs now.
pub struct Machine {
    pub platter: Platter,
    config: EmbeddedConfig,
    running: Mutex<EmbeddedStore>,
    killed: Notify,
    lose_next: AtomicBool,
}

impl Machine {
    pub fn new(config: EmbeddedConfig) -> Self {
        let platter = Platter::default();
        let running = EmbeddedStore::open_on(platter.medium(), &config).expect("an empty disk");
        Self {
            platter,
            config,
            running: Mutex::new(running),
            killed: Notify::new(),
            lose_next: AtomicBool::new(false),
        }
    }

    /// Cuts the power and starts the process again.
    pub fn restart(&self, seed: u64) {
        let mut running = self.running.lock().unwrap();
        self.platter.cut(seed);
        *running = EmbeddedStore::open_on(self.platter.medium(), &self.config).expect("a disk with a store");
        self.killed.notify_waiters();
    }

    fn now(&self) -> EmbeddedStore {
        self.running.lock().unwrap().clone()
    }
}

#[async_trait]
impl Store for Machine {
    async fn commit(&self, call: Call) -> Result<Committed, StoreError> {
        let result = self.now().commit(call).await;
        if self.lose_next.swap(false, Ordering::SeqCst) && result.is_ok() {
            return Err(StoreError::Unknown { reason: "the reply was lost".to_owned() });
        }
        result
    }
    async fn meta(&self) -> Result<Meta, StoreError> {
        self.now().meta().await
    }
    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
        self.now().jobs(ids).await
    }
    async fn specs(&self, ids: &[JobId]) -> Result<Vec<Option<JobSpec>>, StoreError> {
        self.now().specs(ids).await
    }
    async fn page(&self, scope: &Scope, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.now().page(scope, after, limit).await
    }
    async fn executors(&self) -> Result<Vec<Executor>, StoreError> {
        self.now().executors().await
    }
    async fn head(&self) -> Result<Position, StoreError> {
        self.now().head().await
    }
    async fn changes(&self, after: Position, wait: Duration) -> Result<Changes, StoreError> {
        let killed = self.killed.notified();
        let store = self.now();
        tokio::select! {
            changes = store.changes(after, wait) => changes,
            // Whoever waits in a process dies with it.
            () = killed => Err(StoreError::Unavailable { reason: "the process was killed".to_owned() }),
        }
    }
    async fn renew_leases(&self, renewals: &[LeaseRenewal]) -> Result<Vec<bool>, StoreError> {
        self.now().renew_leases(renewals).await
    }
    async fn acquire_lock(&self, request: &LockRequest) -> Result<Option<LockInfo>, StoreError> {
        self.now().acquire_lock(request).await
    }
    async fn renew_lock(&self, owner: &str, epoch: u64, ttl: Duration) -> Result<bool, StoreError> {
        self.now().renew_lock(owner, epoch, ttl).await
    }
    async fn release_lock(&self, owner: &str, epoch: u64) -> Result<bool, StoreError> {
        self.now().release_lock(owner, epoch).await
    }
    async fn announce_scheduler(&self, scheduler: &SchedulerInfo, ttl: Duration) -> Result<u64, StoreError> {
        self.now().announce_scheduler(scheduler, ttl).await
    }
    async fn schedulers(&self) -> Result<Vec<SchedulerInfo>, StoreError> {
        self.now().schedulers().await
    }
    fn describe(&self) -> StoreDescription {
        self.now().describe()
    }
}

/// Machines by the name of their cluster; the suite's own has the empty name.
#[derive(Default)]
pub struct EmbeddedSubject {
    machines: Mutex<BTreeMap<String, Arc<Machine>>>,
    cuts: AtomicU64,
}

pub fn config() -> EmbeddedConfig {
    EmbeddedConfig::new("/nowhere".into())
}

impl EmbeddedSubject {
    pub fn machine(&self, cluster: &str, config: EmbeddedConfig) -> Arc<Machine> {
        let make = || Arc::new(Machine::new(config));
        self.machines.lock().unwrap().entry(cluster.to_owned()).or_insert_with(make).clone()
    }
}

#[async_trait]
impl Subject for EmbeddedSubject {
    async fn open(&self) -> Arc<dyn Store> {
        self.machine("", config())
    }

    async fn open_cluster(&self, cluster: &str) -> Arc<dyn Store> {
        self.machine(cluster, config())
    }

    async fn open_with_small_log(&self) -> Arc<dyn Store> {
        self.machine("", EmbeddedConfig { log_max_bytes: 4_096, ..config() })
    }

    async fn open_with_short_log(&self) -> Arc<dyn Store> {
        self.machine("", EmbeddedConfig { log_max_age: Duration::from_millis(30), ..config() })
    }

    async fn open_fragile(&self) -> Fragile {
        let machine = self.machine("", config());
        let handle = machine.clone();
        Fragile {
            store: machine,
            lose_next_reply: Box::new(move || handle.lose_next.store(true, Ordering::SeqCst)),
        }
    }

    async fn restart(&self) {
        let seed = crate::seed().wrapping_add(self.cuts.fetch_add(1, Ordering::Relaxed));
        self.machines.lock().unwrap().values().for_each(|machine| machine.restart(seed));
    }

    async fn set_full(&self, full: bool) {
        self.machines.lock().unwrap().values().for_each(|machine| machine.platter.set_full(full));
    }
}
