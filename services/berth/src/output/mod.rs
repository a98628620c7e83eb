//! What a person or a program gets to see. stdout carries results only; everything else goes to stderr.

pub mod age;
pub mod executors;
pub mod explain;
mod format;
pub mod jobs;
pub mod json;
mod log_sink;
pub mod names;
mod streams;
mod table;

pub use format::{Format, Forms, print_items, print_list, print_one};
pub use log_sink::LogSink;
pub use streams::{note, plain, print, print_bytes, print_line};
pub use table::{fields, table};
