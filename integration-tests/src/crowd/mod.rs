//! Many executors without containers in one process, each with a session of its own over gRPC, and what processes use.

mod executor;
mod usage;

pub use executor::{Executor, Witness};
pub use usage::{Usage, rss_bytes};
