//! The output of attempts, kept on this executor's disk: bounded by size and age, and outliving
//! the containers it came from.

mod capture;
mod frame;
mod reader;
mod store;
mod writer;

pub use capture::Capture;
pub use reader::{LogBatch, LogReader};
pub use store::LogStore;
pub use writer::LogWriter;
