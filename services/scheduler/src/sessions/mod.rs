//! Sessions with executors: registration, the stream of heartbeats and reports up and assignments
//! down, and the demands for logs that go through it. Knows nothing of leadership.

mod leases;
mod register;
mod registry;
mod reports;
mod stream;

pub use leases::{LeaseBatcher, LeaseClient};
pub use register::register;
pub use registry::{LogSink, Sessions, no_session};
pub use stream::serve;
