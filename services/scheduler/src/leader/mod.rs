//! Leadership: who holds the lock, and what only its holder does.

mod decide;
mod lead;
mod liveness;
mod lock;
mod retention;

pub use lock::compete;
