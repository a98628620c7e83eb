//! A store in memory with the semantics of the others, for simulation and tests: it runs on
//! tokio's clock alone (paused or simulated too), is deterministic, and fails on request.

mod apply;
mod faults;
mod log;
mod reads;
mod state;
mod store;

pub use faults::Faults;
pub use store::{ModelClock, ModelStore, Snapshot};
