//! Docker Engine, through its API: the only place that names it. Containers are made from typed
//! fields only, and only those with this cluster's and executor's labels are ever touched.

mod client;
mod create;
mod engine;
mod errors;
mod output;
mod probe;
mod pull;
mod reach;
mod runtime;
mod seen;
mod slots;
mod warm;

pub use engine::DockerSettings;
pub use probe::{BridgeFacts, EngineFacts, probe_docker};
pub use runtime::DockerRuntime;
