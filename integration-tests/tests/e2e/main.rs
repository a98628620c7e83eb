//! Promises kept from end to end: real processes, a real Redis, a real Docker Engine. Every
//! process runs with a safety pass of an hour, so that no poll is on any path.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

mod bad_input;
mod bulk;
mod clients;
mod command_line;
mod containers;
mod dev;
mod doctor;
mod failpoints;
mod gpus;
mod health;
mod lifecycle;
mod lost_executor;
mod operators;
mod placement;
mod recipes;
mod reload;
mod replicas;
mod restarts;
mod settings;
mod slots;
mod truth;
mod warm;

use berth_integration_tests::cluster::{Cluster, Size};

/// An executor's size in most tests.
const MEDIUM: Size<'static> = Size { cpus: "2", memory: "1g", gpus: "" };

/// A cluster with one executor of medium size.
fn small_cluster() -> Cluster {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", MEDIUM, &[]);
    cluster
}
