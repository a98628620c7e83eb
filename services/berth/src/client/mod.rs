//! The client commands, and how they reach a cluster.

pub mod abort;
pub mod addresses;
pub mod connection;
pub mod demo;
pub mod executors;
pub mod explain;
pub mod get;
pub mod health;
mod interrupts;
mod job_flags;
mod listing;
mod log_copy;
pub mod logs;
pub mod operate;
mod outcome;
mod patience;
mod progress;
pub mod ps;
mod resolve;
pub mod run;
pub mod status;
pub mod submit;
pub mod version;
pub mod wait;
mod watching;

pub use outcome::has_ended;
