//! A scheduler replica: keeps an image of the cluster fed by the store's change log, leads while it
//! holds the lock, holds sessions with executors, and answers the gRPC services. Rooms meet only at
//! the store: sessions know nothing of leadership, and no loop calls another.

mod admission;
mod app;
mod clock;
mod config;
mod context;
mod entropy;
mod feed;
mod grpc;
mod image;
mod jobs;
mod leader;
mod logs;
mod operators;
mod ranked;
#[cfg(test)]
mod samples;
mod sessions;
mod specs;

pub use app::{Connect, Deps, Replica, TcpConnect};
pub use config::{InvalidConfig, SchedulerConfig};
pub use entropy::{Entropy, SeededEntropy};
