//! Sessions with executors: registration, the stream of heartbeats and reports up and assignments
//! down, and the demands for logs that go through it. Knows nothing of leadership.

mod assignments;
mod condition;
mod leases;
mod recovery;
mod register;
mod registry;
mod reports;
mod stream;

pub use leases::{LeaseBatcher, LeaseClient};
pub use register::register;
pub use registry::{LogSink, Sessions, no_session};
pub use stream::serve;
