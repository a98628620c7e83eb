//! A cluster that exists in this process only: it plays a script for every job submitted, over real gRPC on a
//! loopback port. Knows nothing of the program under test but its protocol.

mod calls;
mod cluster_service;
mod job_service;
mod proxy;
mod server;
mod state;

pub use calls::{Left, berth, call};
pub use proxy::Proxy;
pub use server::{dead_address, serve};
pub use state::{Cluster, Step, ended, named};
