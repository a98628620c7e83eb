//! The harness of the end-to-end tests: a real Redis, real scheduler and executor processes, and a
//! real Docker Engine. Every cluster has a name of its own; what a test started, and only that, is
//! gone when the test ends.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

pub mod chart;
pub mod clients;
pub mod cluster;
pub mod crowd;
pub mod dev;
pub mod docker;
pub mod dockerd;
pub mod door;
pub mod engine;
pub mod failpoints;
pub mod history;
pub mod http;
pub mod load;
pub mod mutants;
pub mod process;
pub mod protocol;
pub mod recipe;
pub mod redis;
pub mod registry;
pub mod replicas;
pub mod seen;
pub mod simulation;
pub mod tools;
pub mod wait;
