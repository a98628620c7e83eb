//! Pure decisions of Berth: what a job is, how it moves through its life, where it is placed, when
//! it is retried, and what an executor must do next.
//!
//! Nothing here knows of a network, a store, a container engine, a clock or a source of
//! randomness: time and random numbers are arguments. Times are milliseconds since the Unix epoch
//! as the store counts them.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod backoff;
pub mod constraint;
pub mod digest;
pub mod executor;
pub mod filter;
pub mod ids;
pub mod job;
pub mod lifecycle;
pub mod placement;
pub mod quantity;
pub mod queue;
pub mod reconcile;
pub mod resources;
pub mod spec;
