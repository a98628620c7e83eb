//! A store on this machine's disk, inside one process: no server, and nothing acknowledged is lost
//! when the process is killed or the machine loses power.
//!
//! One thread owns the database and carries out what is asked in order, many calls a transaction;
//! each is answered only after its transaction is on the disk. Reads work on snapshots beside it.
//! Each opening begins a new generation: a folder may be a copy that was put back.

mod medium;
mod reads;
mod schema;
mod shared;
mod store;
mod tables;
mod task;
mod writer;

pub use medium::{FileMedium, Medium};
pub use store::{EmbeddedConfig, EmbeddedStore};
