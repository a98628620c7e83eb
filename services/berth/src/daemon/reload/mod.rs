//! SCHEDULER_RELOAD: a daemon whose program was replaced stops in order and becomes the new program,
//! in the same process and on the same ports.
//!
//! Which program a process runs is a matter of the whole process, as signals are: so the state is
//! one for the process, and every daemon that stops by `stop_on_signal` and listens by
//! `listen::open` takes part without knowing.

mod heritage;
mod process;
mod program;
mod setting;

pub use process::{bind, exec_if_changed, forget, watch};
