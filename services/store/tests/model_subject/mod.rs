//! The model store as a subject of the suite.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use berth_store::Store;
use berth_store::contract::{Fragile, Subject};
use berth_store::model::{ModelClock, ModelStore};
use tokio::time::Instant;

const BASE_MS: u64 = 1_700_000_000_000;

/// Clusters by name; the suite's own has the empty name.
pub struct ModelSubject(Mutex<BTreeMap<String, ModelStore>>);

impl ModelSubject {
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    fn cluster(&self, name: &str, make: impl FnOnce() -> ModelStore) -> ModelStore {
        self.0.lock().unwrap().entry(name.to_owned()).or_insert_with(make).replica()
    }
}

#[async_trait]
impl Subject for ModelSubject {
    async fn open(&self) -> Arc<dyn Store> {
        self.open_cluster("").await
    }

    async fn open_cluster(&self, cluster: &str) -> Arc<dyn Store> {
        Arc::new(self.cluster(cluster, || ModelStore::new(BASE_MS)))
    }

    async fn open_with_small_log(&self) -> Arc<dyn Store> {
        let small = || ModelStore::with_clock(tokio_clock(), Duration::from_secs(60), 4_096);
        Arc::new(self.cluster("", small))
    }

    async fn open_with_short_log(&self) -> Arc<dyn Store> {
        let short = || ModelStore::with_clock(tokio_clock(), Duration::from_millis(30), 1 << 20);
        Arc::new(self.cluster("", short))
    }

    async fn open_fragile(&self) -> Fragile {
        let store = self.cluster("", || ModelStore::new(BASE_MS));
        let handle = store.clone();
        Fragile { store: Arc::new(store), lose_next_reply: Box::new(move || handle.lose_next_reply()) }
    }

    async fn restart(&self) {
        for store in self.0.lock().unwrap().values() {
            store.restart();
        }
    }

    async fn set_full(&self, full: bool) {
        for store in self.0.lock().unwrap().values() {
            store.set_full(full);
        }
    }
}

fn tokio_clock() -> ModelClock {
    let start = Instant::now();
    Arc::new(move || BASE_MS + u64::try_from(start.elapsed().as_millis()).expect("a short test"))
}
