//! Sessions with executors: registration, the stream of heartbeats and reports up and assignments
//! down, and the demands for logs that go through it. Knows nothing of leadership.

mod assignments;
mod condition;
mod leases;
mod recovery;
mod register;
mod registry;
mod reports;
mod starts;
mod stream;
mod updates;

pub use leases::LeaseBatcher;
pub use register::register;
pub use registry::{LogSink, Routes, Sessions, no_session};
pub use stream::{Batched, serve};
pub use updates::UpdateBatcher;
