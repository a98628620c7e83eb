//! Histories as files: one JSON object a line, each with its `type`. `docs/history.md` is the format's
//! description.

mod lines;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::io;

pub use read::read;
pub use write::write;

/// Why a file is no history.
#[derive(Debug)]
pub enum FileError {
    /// It could not be read or written.
    Io(io::Error),
    /// A line is not one of a history.
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl std::fmt::Display for FileError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(formatter, "{error}"),
            Self::Line { number, reason } => write!(formatter, "line {number}: {reason}"),
        }
    }
}

impl std::error::Error for FileError {}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
