//! Writes pieces of a job's log to where they belong: stdout to stdout, all else to stderr, bytes as they are.

use std::io::{self, ErrorKind, Write};

use berth_api::v1::LogEntry;
use berth_api::v1::log_entry::Stream;

use super::{note, plain};

/// Takes the log of a job.
#[derive(Debug, Default)]
pub struct LogSink {
    /// True goes on without stdout once its reader is gone.
    outlives_reader: bool,
}

impl LogSink {
    /// Makes a sink for which a reader that is gone is no failure: the job goes on all the same.
    pub fn that_outlives_its_reader() -> Self {
        Self { outlives_reader: true }
    }

    /// Writes one piece.
    ///
    /// # Errors
    /// Fails when stdout cannot be written.
    pub fn write(&mut self, entry: &LogEntry) -> anyhow::Result<()> {
        match entry.stream() {
            Stream::Stdout => self.checked(io::stdout().lock().write_all(&entry.data)),
            Stream::Stderr => {
                // As with notes: there is nobody to tell of a stderr that is gone.
                let _ = io::stderr().lock().write_all(&entry.data);
                Ok(())
            }
            Stream::System | Stream::Unspecified => {
                note(format!("berth: {}", plain(String::from_utf8_lossy(&entry.data).trim_end())));
                Ok(())
            }
        }
    }

    /// Says that bytes of the log are no longer kept.
    pub fn gap(&mut self, dropped_bytes: i64) {
        note(format!("berth: {dropped_bytes} bytes of the output before this are no longer kept"));
    }

    /// Makes what was written visible.
    ///
    /// # Errors
    /// Fails when stdout cannot be written.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.checked(io::stdout().lock().flush())
    }

    fn checked(&self, written: io::Result<()>) -> anyhow::Result<()> {
        match written {
            Err(error) if self.outlives_reader && error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }
}
