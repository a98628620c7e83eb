//! An executor: it keeps a session with the schedulers, makes the containers what they want them to
//! be, and keeps the containers' output. It knows nothing of stores and of leadership.
//!
//! [`run`] starts one in the surroundings of [`Deps`]. Containers outlive the process: a restarted
//! executor adopts them, and learns of the exits it missed.

pub mod app;
pub mod clock;
pub mod config;
pub mod connect;
pub mod disk;
pub mod host;
pub mod identity;
mod lease;
pub mod logs;
pub mod outbox;
pub mod random;
mod readiness;
pub mod reconciler;
pub mod runtime;
pub mod session;

pub use app::{Deps, ExecutorError, run};
pub use config::ExecutorConfig;
pub use session::Ready;
