//! What every store promises, as tests. One suite, run against each store through a `Subject`;
//! each public function of the modules below is one promise, and its name says which.
//!
//! A store's own crate or test binary lists the promises once and runs them (see
//! `tests/conformance.rs`). Nothing here knows which store it talks to.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "these are tests, and their names are their documentation"
)]

pub mod capacity;
pub mod failures;
pub mod fencing;
pub mod histories;
pub mod leadership;
pub mod log;
pub mod reading;
mod support;
pub mod verdicts;

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Call, Store};

/// A handle through which one reply can be lost on purpose.
pub struct Fragile {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Has the reply to the handle's next commit lost after the commit was applied.
    pub lose_next_reply: Box<dyn Fn() + Send + Sync>,
}

/// A fresh, empty store with its server, as the suite needs it.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Makes another client of the store's cluster.
    async fn open(&self) -> Arc<dyn Store>;

    /// Makes a client of another cluster on the same server.
    async fn open_cluster(&self, cluster: &str) -> Arc<dyn Store>;

    /// Makes a client that keeps at most about 4 KiB of changes in the log.
    async fn open_with_small_log(&self) -> Arc<dyn Store>;

    /// Makes a client that keeps changes in the log for at most about 30 ms.
    async fn open_with_short_log(&self) -> Arc<dyn Store>;

    /// Makes a client whose replies can be lost.
    async fn open_fragile(&self) -> Fragile;

    /// Kills the server without warning and starts it again with what it had made durable.
    async fn restart(&self);

    /// Leaves the server without room for new records, or gives it room again.
    async fn set_full(&self, full: bool);
}

/// A call that submits one job without a key.
pub fn a_submit(id: &str) -> Call {
    Call { mutations: vec![support::submit(support::job(id))], ..Call::default() }
}
