//! Reads one attempt's output from an offset, and follows it while it grows.

use std::io;

use tokio::sync::watch;

use super::frame::Frame;
use super::writer::{Extent, Scan};
use crate::runtime::OutputLine;

/// The most output in one batch, in bytes.
const BATCH_BYTES: usize = 64 << 10;
/// The most pieces in one batch.
const BATCH_LINES: usize = 512;

/// Pieces of output that follow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogBatch {
    /// Each piece with the offset of its first byte in the attempt's whole output.
    pub lines: Vec<(u64, OutputLine)>,
    /// Bytes of the attempt's output that were not kept.
    pub dropped_bytes: u64,
}

/// Reads one attempt's output.
pub struct LogReader {
    scan: Scan,
    extent: watch::Receiver<Extent>,
    /// Where the reader stands in the file.
    file_bytes: u64,
    /// Where the reader stands in the output.
    output_bytes: u64,
    /// Output before this offset is passed over.
    from_bytes: u64,
    follow: bool,
    ended: bool,
}

impl LogReader {
    pub(crate) fn new(scan: Scan, extent: watch::Receiver<Extent>, from_bytes: u64, follow: bool) -> Self {
        Self { scan, extent, file_bytes: 0, output_bytes: 0, from_bytes, follow, ended: false }
    }

    /// Gives the next batch; `None` at the end. With nothing new, a following reader waits. The
    /// last batch may be empty: it carries the count of dropped bytes.
    ///
    /// # Errors
    /// Fails as the disk does.
    pub async fn next(&mut self) -> io::Result<Option<LogBatch>> {
        if self.ended {
            return Ok(None);
        }
        loop {
            let extent = *self.extent.borrow_and_update();
            let lines = self.read(extent).await?;
            let drained = self.file_bytes >= extent.file_bytes;
            self.ended = drained && (extent.complete || !self.follow);
            if !lines.is_empty() || self.ended {
                return Ok(Some(LogBatch { lines, dropped_bytes: extent.dropped_bytes }));
            }
            // A writer that is gone without an end left what it had: there is no more to follow.
            if drained && self.extent.changed().await.is_err() {
                self.follow = false;
            }
        }
    }

    async fn read(&mut self, extent: Extent) -> io::Result<Vec<(u64, OutputLine)>> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        while self.file_bytes < extent.file_bytes && bytes < BATCH_BYTES && lines.len() < BATCH_LINES {
            let Some((frame, frame_bytes)) = self.scan.next().await? else {
                // The file was removed under the reader.
                self.file_bytes = extent.file_bytes;
                self.follow = false;
                break;
            };
            self.file_bytes += frame_bytes;
            let Frame::Line(mut line) = frame else { continue };
            let start = self.output_bytes;
            self.output_bytes += line.bytes.len() as u64;
            if self.output_bytes <= self.from_bytes {
                continue;
            }
            let skipped = self.from_bytes.saturating_sub(start);
            line.bytes = line.bytes.slice(usize::try_from(skipped).unwrap_or(0)..);
            bytes += line.bytes.len();
            lines.push((start + skipped, line));
        }
        Ok(lines)
    }
}
