//! Writes one attempt's output: continues where an earlier process stopped, drops what it has
//! already, and keeps within its share of the disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::frame::{self, Decoded, Frame, MAX_PAYLOAD_BYTES};
use crate::disk::Disk;
use crate::runtime::{OutputLine, OutputStream};

/// How much is read at once while an old file is looked through.
const SCAN_BYTES: usize = 256 << 10;

/// How much of an attempt's output is on disk; readers follow it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes of the file that are whole frames.
    pub file_bytes: u64,
    /// Bytes of output in them.
    pub output_bytes: u64,
    /// Bytes of output that were not kept.
    pub dropped_bytes: u64,
    /// Nothing comes any more.
    pub complete: bool,
}

/// The last line of a stream that is on disk, to tell repeated lines from new ones.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    time_ns: u64,
    /// Lines on disk with that time.
    lines: u64,
    /// Lines with that time that came since the stream was opened again.
    repeated: u64,
}

/// Writes one attempt's output. There is one writer an attempt.
pub struct LogWriter {
    disk: Arc<dyn Disk>,
    path: String,
    limit_bytes: u64,
    last: BTreeMap<OutputStream, Last>,
    extent: Arc<watch::Sender<Extent>>,
    truncated: bool,
}

impl LogWriter {
    /// Opens the file at its end, which is cut where a crash left half a frame.
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        path: String,
        limit_bytes: u64,
        extent: Arc<watch::Sender<Extent>>,
    ) -> io::Result<Self> {
        let mut writer = Self { disk, path, limit_bytes, last: BTreeMap::new(), extent, truncated: false };
        writer.recover().await?;
        Ok(writer)
    }

    async fn recover(&mut self) -> io::Result<()> {
        let mut extent = Extent::default();
        let mut scan = Scan::new(self.disk.clone(), self.path.clone(), 0);
        while let Some((frame, bytes)) = scan.next().await? {
            extent.file_bytes += bytes;
            match frame {
                Frame::Line(line) => {
                    extent.output_bytes += line.bytes.len() as u64;
                    self.truncated |= line.stream == OutputStream::System;
                    self.remember(&line);
                }
                Frame::End { dropped_bytes } => {
                    extent.dropped_bytes = dropped_bytes;
                    extent.complete = true;
                }
            }
        }
        if scan.has_rest() {
            self.disk.truncate(&self.path, extent.file_bytes).await?;
        }
        self.extent.send_replace(extent);
        Ok(())
    }

    fn remember(&mut self, line: &OutputLine) {
        let last = self.last.entry(line.stream).or_default();
        if line.time_ns == last.time_ns {
            last.lines += 1;
        } else {
            *last = Last { time_ns: line.time_ns, lines: 1, repeated: 0 };
        }
    }

    /// Says whether the output is complete already.
    pub fn is_complete(&self) -> bool {
        self.extent.borrow().complete
    }

    /// Says from when on the engine's output is needed, in whole seconds. The streams are stamped
    /// apart, so that a little more is asked for than is missing.
    pub fn since_seconds(&self) -> u64 {
        let latest = self.last.values().map(|last| last.time_ns / 1_000_000_000).max();
        latest.map_or(0, |seconds| seconds.saturating_sub(2))
    }

    /// Notes that the engine's output is read again from [`Self::since_seconds`] on.
    pub fn reopened(&mut self) {
        for last in self.last.values_mut() {
            last.repeated = 0;
        }
    }

    /// Says whether a line is new. Within a stream, times never go back.
    fn is_new(&mut self, line: &OutputLine) -> bool {
        let Some(last) = self.last.get_mut(&line.stream) else { return true };
        if line.time_ns != last.time_ns {
            return line.time_ns > last.time_ns;
        }
        last.repeated += 1;
        last.repeated > last.lines
    }

    /// Writes the lines that are new.
    ///
    /// # Errors
    /// Fails as the disk does. The file then ends where it did before, and the same lines may be
    /// written again after [`Self::reopened`].
    pub async fn append(&mut self, lines: Vec<OutputLine>) -> io::Result<()> {
        let mut extent = *self.extent.borrow();
        let mut content = Vec::new();
        let before = self.last.clone();
        for line in lines {
            if !self.is_new(&line) {
                continue;
            }
            let bytes = line.bytes.len() as u64;
            if self.truncated || extent.output_bytes + bytes > self.limit_bytes {
                extent.dropped_bytes += bytes;
                if !self.truncated {
                    self.truncated = true;
                    let note = self.truncation_note(line.time_ns);
                    extent.output_bytes += note.bytes.len() as u64;
                    frame::encode(&Frame::Line(note), &mut content);
                }
                continue;
            }
            extent.output_bytes += bytes;
            encode_in_pieces(&line, &mut content);
            self.remember(&line);
            // What was just written is no repetition of itself.
            if let Some(last) = self.last.get_mut(&line.stream) {
                last.repeated = last.lines;
            }
        }
        let written = self.write(content, &mut extent).await;
        if written.is_err() {
            self.last = before;
        }
        written
    }

    /// Ends the output: nothing comes any more. Ending it again changes nothing.
    ///
    /// # Errors
    /// Fails as the disk does; trying again is safe.
    pub async fn finish(&mut self, note: Option<OutputLine>) -> io::Result<()> {
        let mut extent = *self.extent.borrow();
        if extent.complete {
            return Ok(());
        }
        let mut content = Vec::new();
        if let Some(note) = note {
            extent.output_bytes += note.bytes.len() as u64;
            frame::encode(&Frame::Line(note), &mut content);
        }
        frame::encode(&Frame::End { dropped_bytes: extent.dropped_bytes }, &mut content);
        extent.complete = true;
        self.write(content, &mut extent).await
    }

    async fn write(&self, content: Vec<u8>, extent: &mut Extent) -> io::Result<()> {
        let before = self.extent.borrow().file_bytes;
        if !content.is_empty() {
            if let Err(error) = self.disk.append(&self.path, &content).await {
                // A part may be there; readers never look beyond the extent.
                self.disk.truncate(&self.path, before).await?;
                return Err(error);
            }
            extent.file_bytes = before + content.len() as u64;
        }
        self.extent.send_replace(*extent);
        Ok(())
    }

    fn truncation_note(&self, time_ns: u64) -> OutputLine {
        let text = format!("[berth] output beyond {} bytes is not kept\n", self.limit_bytes);
        OutputLine { stream: OutputStream::System, time_ns, bytes: Bytes::from(text) }
    }
}

fn encode_in_pieces(line: &OutputLine, content: &mut Vec<u8>) {
    let mut rest = line.bytes.clone();
    loop {
        let piece = rest.split_to(rest.len().min(MAX_PAYLOAD_BYTES));
        let piece = OutputLine { bytes: piece, ..line.clone() };
        frame::encode(&Frame::Line(piece), content);
        if rest.is_empty() {
            return;
        }
    }
}

/// Reads the frames of a file one after the other, up to the first that is not whole.
pub(crate) struct Scan {
    disk: Arc<dyn Disk>,
    path: String,
    position: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Scan {
    pub(crate) fn new(disk: Arc<dyn Disk>, path: String, position: u64) -> Self {
        Self { disk, path, position, buffer: Vec::new(), used: 0 }
    }

    /// Gives the next frame and the bytes it takes in the file.
    pub(crate) async fn next(&mut self) -> io::Result<Option<(Frame, u64)>> {
        loop {
            match frame::decode(&self.buffer[self.used..]) {
                Decoded::Frame(frame, bytes) => {
                    self.used += bytes;
                    return Ok(Some((frame, bytes as u64)));
                }
                Decoded::Damaged => return Ok(None),
                Decoded::Partial => {
                    if !self.fill().await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn fill(&mut self) -> io::Result<bool> {
        let more = match self.disk.read_at(&self.path, self.position, SCAN_BYTES).await {
            Ok(more) => more,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        self.buffer.drain(..self.used);
        self.used = 0;
        self.position += more.len() as u64;
        self.buffer.extend_from_slice(&more);
        Ok(!more.is_empty())
    }

    /// Says whether bytes are left that are no whole frame.
    pub(crate) fn has_rest(&self) -> bool {
        self.used < self.buffer.len()
    }
}
