//! The output of one job between the engine and whoever writes it down: cut into lines as Docker's own log is,
//! and bounded. What was given stays until more is asked for, so that nothing is lost where it could not be
//! written.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::runtime::{MOST_LINES, OutputLine, OutputStream};

/// The longest piece of a line, as in Docker's own log.
const MOST_LINE_BYTES: usize = 16 << 10;
/// Bytes that wait to be written; more waits in the engine, and the job with it.
const MOST_BYTES: usize = 1 << 20;

/// What a line takes of memory.
fn taken(bytes: &Bytes) -> usize {
    bytes.len() + size_of::<OutputLine>()
}

/// Output on its way.
#[derive(Debug, Default)]
pub(in crate::runtime::docker) struct Output {
    /// Held for moments only.
    waiting: Mutex<Waiting>,
    room: Notify,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<OutputLine>,
    bytes: usize,
    /// The lines at the front that were given, and may not have been written yet.
    given: usize,
    is_closed: bool,
    last_ns: u64,
}

impl Output {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, once there is room. Times are made to rise, so that no two lines are taken for one.
    async fn push(&self, stream: OutputStream, bytes: Bytes, time_ns: u64) {
        loop {
            {
                let mut waiting = self.waiting();
                if waiting.lines.is_empty() || waiting.bytes + taken(&bytes) <= MOST_BYTES {
                    waiting.last_ns = time_ns.max(waiting.last_ns + 1);
                    waiting.bytes += taken(&bytes);
                    let line = OutputLine { stream, time_ns: waiting.last_ns, bytes };
                    waiting.lines.push_back(line);
                    break;
                }
            }
            self.room.notified().await;
        }
        self.more.notify_one();
    }

    /// Nothing more comes.
    pub fn close(&self) {
        self.waiting().is_closed = true;
        self.more.notify_one();
    }

    /// Begins again with the first line that may not have been written.
    pub fn rewind(&self) {
        self.waiting().given = 0;
    }

    /// Gives the next lines, and lets go of those given before. `None` at the end; where nobody follows, also
    /// once all that has come was given.
    pub async fn next(&self, follow: bool) -> Option<Vec<OutputLine>> {
        loop {
            {
                let mut waiting = self.waiting();
                waiting.forget_given();
                let lines: Vec<OutputLine> = waiting.lines.iter().take(MOST_LINES).cloned().collect();
                waiting.given = lines.len();
                self.room.notify_one();
                if !lines.is_empty() {
                    return Some(lines);
                }
                if waiting.is_closed || !follow {
                    return None;
                }
            }
            self.more.notified().await;
        }
    }
}

impl Waiting {
    fn forget_given(&mut self) {
        let given = std::mem::take(&mut self.given);
        self.bytes -= self.lines.drain(..given).map(|line| taken(&line.bytes)).sum::<usize>();
    }
}

/// Cuts what comes of the two streams into lines.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    stdout: BytesMut,
    stderr: BytesMut,
}

impl Cutter {
    /// Takes a piece of a stream, and hands every whole line on.
    pub async fn take(&mut self, output: &Output, stream: OutputStream, piece: &[u8], time_ns: u64) {
        let rest = match stream {
            OutputStream::Stderr => &mut self.stderr,
            OutputStream::Stdout | OutputStream::System => &mut self.stdout,
        };
        rest.extend_from_slice(piece);
        while let Some(line) = next_line(rest) {
            output.push(stream, line, time_ns).await;
        }
    }

    /// Hands on what has no end of a line.
    pub async fn finish(self, output: &Output, time_ns: u64) {
        for (stream, rest) in [(OutputStream::Stdout, self.stdout), (OutputStream::Stderr, self.stderr)] {
            if !rest.is_empty() {
                output.push(stream, rest.freeze(), time_ns).await;
            }
        }
    }
}

fn next_line(rest: &mut BytesMut) -> Option<Bytes> {
    let end = rest.iter().take(MOST_LINE_BYTES).position(|byte| *byte == b'\n').map(|index| index + 1);
    let end = end.or_else(|| (rest.len() >= MOST_LINE_BYTES).then_some(MOST_LINE_BYTES))?;
    Some(rest.split_to(end).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[OutputLine]) -> Vec<&str> {
        lines.iter().map(|line| std::str::from_utf8(&line.bytes).expect("it is text")).collect()
    }

    async fn of(pieces: &[(OutputStream, &str)]) -> Output {
        let (output, mut cutter) = (Output::default(), Cutter::default());
        for (stream, piece) in pieces {
            cutter.take(&output, *stream, piece.as_bytes(), 5).await;
        }
        cutter.finish(&output, 6).await;
        output.close();
        output
    }

    #[tokio::test]
    async fn pieces_become_lines_of_their_streams_at_rising_times() {
        use OutputStream::{Stderr, Stdout};
        let output = of(&[(Stdout, "a\nb"), (Stderr, "x"), (Stdout, "c\n"), (Stderr, "y")]).await;
        let lines = output.next(true).await.expect("there are some");
        assert_eq!(texts(&lines), ["a\n", "bc\n", "xy"]);
        assert_eq!(lines.iter().map(|line| line.stream).collect::<Vec<_>>(), [Stdout, Stdout, Stderr]);
        assert_eq!(lines.iter().map(|line| line.time_ns).collect::<Vec<_>>(), [5, 6, 7]);
        assert_eq!(output.next(true).await, None);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let output = of(&[(OutputStream::Stdout, &"z".repeat(MOST_LINE_BYTES + 3))]).await;
        let lines = output.next(false).await.expect("there are some");
        assert_eq!(lines.iter().map(|line| line.bytes.len()).collect::<Vec<_>>(), [MOST_LINE_BYTES, 3]);
    }

    #[tokio::test]
    async fn what_was_given_and_not_written_is_given_again() {
        let output = of(&[(OutputStream::Stdout, &"line\n".repeat(MOST_LINES + 1))]).await;
        let first = output.next(true).await.expect("there are some");
        assert_eq!(first.len(), MOST_LINES);
        output.rewind();
        assert_eq!(output.next(true).await.as_ref(), Some(&first));
        assert_eq!(output.next(true).await.map(|lines| lines.len()), Some(1));
        assert_eq!(output.next(true).await, None);
        assert_eq!(output.waiting().bytes, 0, "nothing is kept once all was written");
    }

    #[tokio::test]
    async fn a_job_waits_for_whoever_writes_its_output() {
        let output = Output::default();
        let line = Bytes::from(vec![b'x'; MOST_BYTES]);
        output.push(OutputStream::Stdout, line.clone(), 1).await;
        let waits = output.push(OutputStream::Stdout, line, 2);
        let mut waits = std::pin::pin!(waits);
        assert!(futures::poll!(waits.as_mut()).is_pending());
        output.next(true).await.expect("there is one");
        assert!(futures::poll!(waits.as_mut()).is_pending(), "it may not have been written");
        assert_eq!(output.next(false).await, None);
        waits.await;
    }
}
