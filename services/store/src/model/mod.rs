//! A store in memory with the semantics of the others, for simulation and tests: it runs on
//! tokio's clock alone (paused or simulated too), is deterministic, and fails on request.

mod faults;
mod reads;
mod state;
mod store;
mod tables;

pub use faults::Faults;
pub use store::{ModelClock, ModelStore, Snapshot, Tapped};
