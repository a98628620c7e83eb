//! Copies a job's log, attempt by attempt, to where it belongs. A broken stream is resumed at the byte where it
//! broke, at another scheduler if need be, so that nothing is missing and nothing comes twice.

use std::time::Duration;

use berth_api::v1::log_entry::Stream;
use berth_api::v1::{EndReason, Job, JobState, LogEntry, StreamJobLogsRequest, StreamJobLogsResponse};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use super::connection::{CallError, Connection, is_passing, jobs};
use super::outcome::has_ended;
use crate::output::LogSink;

/// Once its attempt is over, a stream this long without a word is taken to be stuck and the rest is read anew.
const QUIET_LIMIT: Duration = Duration::from_secs(3);
/// The log of an executor that is lost is given up sooner.
const LOST_LIMIT: Duration = Duration::from_secs(3);
/// The wait before a log that is not there yet is asked for again.
pub const PAUSE: Duration = Duration::from_millis(250);
/// How long one opening is tried before the job's state is looked at again.
const OPEN_LIMIT: Duration = Duration::from_secs(2);

/// Where to begin in the log of the first attempt that is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At its beginning.
    Beginning,
    /// This many lines before its end.
    Tail(i32),
}

/// Copies logs of one job.
#[derive(Debug)]
pub struct LogCopy {
    connection: Connection,
    limit: Duration,
    jobs: watch::Receiver<Job>,
    sink: LogSink,
}

impl LogCopy {
    /// `jobs` holds the job as last seen; `limit` is how long the log of an attempt that is over may be out of reach.
    pub fn new(connection: &Connection, limit: Duration, jobs: watch::Receiver<Job>, sink: LogSink) -> Self {
        Self { connection: connection.retrying_for(OPEN_LIMIT.min(limit)), limit, jobs, sink }
    }

    /// Copies from attempt `first` on until the job has ended and all its output is written.
    ///
    /// # Errors
    /// Fails when the output of the last attempt cannot be read to its end, or be written.
    pub async fn follow(mut self, first: i32, start: Start) -> anyhow::Result<()> {
        let mut next = first;
        let mut start = start;
        loop {
            let job = self.jobs.borrow_and_update().clone();
            if next <= latest_started(&job) {
                match self.attempt(next, start, true).await {
                    Err(error) if is_unreadable(&error) && self.is_superseded(next) => {
                        tracing::debug!(attempt = next, %error, "an earlier attempt left no log");
                    }
                    other => other?,
                }
                next += 1;
                start = Start::Beginning;
            } else if has_ended(&job) || self.jobs.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Copies the log of one attempt: with `live` until it is over, else what there is.
    ///
    /// # Errors
    /// Fails when it cannot be read to its end, or be written.
    pub async fn attempt(&mut self, attempt: i32, start: Start, live: bool) -> anyhow::Result<()> {
        let mut reading = Reading { attempt, start, offset: None, live };
        let mut over_since = None;
        loop {
            let end = self.read(&mut reading).await?;
            let over = !live || self.is_over(attempt);
            match end {
                End::Complete if over || !reading.live => return Ok(()),
                // The stream ended although the attempt goes on: open it again.
                End::Complete => {}
                End::Stuck => {
                    reading.live = false;
                    continue;
                }
                End::Refused(error) if over || !may_appear(&error) => return Err(error.into()),
                End::Refused(_) => {}
                End::Broke(error) => {
                    tracing::debug!(%error, "the stream of the log broke");
                    self.connection.move_on();
                    if over {
                        let since = *over_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= self.limit_of(attempt) {
                            return Err(error.into());
                        }
                    }
                }
            }
            self.rest().await;
        }
    }

    async fn read(&mut self, reading: &mut Reading) -> anyhow::Result<End> {
        let request = reading.request(&self.jobs.borrow().id);
        let opened = self
            .connection
            .call(|channel| {
                let request = request.clone();
                async move { jobs(channel).stream_job_logs(request).await }
            })
            .await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(error @ CallError::Answered(_)) => return Ok(End::Refused(error)),
            Err(error @ CallError::Unreachable { .. }) => return Ok(End::Broke(error)),
        };
        loop {
            match self.next(&mut stream, reading).await {
                None => return Ok(End::Stuck),
                Some(Ok(Some(response))) => reading.write(response, &mut self.sink)?,
                Some(Ok(None)) => return Ok(End::Complete),
                Some(Err(status)) if is_passing(&status) => {
                    return Ok(End::Broke(self.connection.unreachable(&status)));
                }
                Some(Err(status)) => return Ok(End::Refused(CallError::Answered(status))),
            }
        }
    }

    /// Waits for the next piece; `None` when the attempt is over and the stream says nothing more.
    async fn next(
        &mut self,
        stream: &mut Streaming<StreamJobLogsResponse>,
        reading: &Reading,
    ) -> Option<Result<Option<StreamJobLogsResponse>, Status>> {
        if !reading.live {
            return Some(stream.message().await);
        }
        while !self.is_over(reading.attempt) {
            tokio::select! {
                message = stream.message() => return Some(message),
                changed = self.jobs.changed() => if changed.is_err() { break },
            }
        }
        tokio::time::timeout(QUIET_LIMIT, stream.message()).await.ok()
    }

    /// Pauses before another try; a change of the job ends the pause.
    async fn rest(&mut self) {
        let pause = tokio::time::sleep(PAUSE);
        tokio::select! {
            () = pause => {}
            Ok(()) = self.jobs.changed() => {}
        }
    }

    fn is_over(&self, attempt: i32) -> bool {
        let job = self.jobs.borrow();
        has_ended(&job) || self.jobs.has_changed().is_err() || job.attempt > attempt || {
            job.attempt == attempt && job.state() == JobState::Pending
        }
    }

    fn is_superseded(&self, attempt: i32) -> bool {
        let job = self.jobs.borrow();
        job.attempt > attempt || !has_ended(&job)
    }

    fn limit_of(&self, attempt: i32) -> Duration {
        let lost = self.jobs.borrow().end_reason() == EndReason::ExecutorLost;
        if lost || self.is_superseded(attempt) { LOST_LIMIT.min(self.limit) } else { self.limit }
    }
}

enum End {
    Complete,
    Stuck,
    Broke(CallError),
    Refused(CallError),
}

/// How far one attempt's log has been read.
struct Reading {
    attempt: i32,
    start: Start,
    /// Byte to go on at; `None` before the first piece.
    offset: Option<i64>,
    live: bool,
}

impl Reading {
    fn request(&self, id: &str) -> StreamJobLogsRequest {
        let tail_lines = match (self.offset, self.start) {
            (None, Start::Tail(lines)) => Some(lines),
            (Some(_), _) | (None, Start::Beginning) => None,
        };
        StreamJobLogsRequest {
            id: id.to_owned(),
            follow: self.live,
            tail_lines,
            attempt: self.attempt,
            streams: Vec::new(),
            offset_bytes: self.offset.unwrap_or(0),
        }
    }

    fn write(&mut self, response: StreamJobLogsResponse, sink: &mut LogSink) -> anyhow::Result<()> {
        if response.dropped_bytes > 0 && (self.offset.is_some() || self.start == Start::Beginning) {
            sink.gap(response.dropped_bytes);
        }
        for entry in response.entries {
            self.entry(entry, sink)?;
        }
        sink.flush()
    }

    fn entry(&mut self, mut entry: LogEntry, sink: &mut LogSink) -> anyhow::Result<()> {
        if has_length(&entry) {
            // A piece that begins before the byte we asked for was seen in part.
            let seen = self.offset.map_or(0, |offset| offset.saturating_sub(entry.offset_bytes));
            let seen = usize::try_from(seen).unwrap_or(0).min(entry.data.len());
            let end = entry.offset_bytes.saturating_add(i64::try_from(entry.data.len()).unwrap_or(i64::MAX));
            self.offset = Some(self.offset.map_or(end, |offset| offset.max(end)));
            drop(entry.data.split_to(seen));
        }
        sink.write(&entry)
    }
}

/// Gives the number of the latest attempt that may have output; 0 for none.
pub fn latest_started(job: &Job) -> i32 {
    match job.state() {
        JobState::Running | JobState::Pending => job.attempt,
        JobState::Unspecified | JobState::Assigned => job.attempt - 1,
        JobState::Succeeded | JobState::Failed | JobState::Aborted => {
            if job.start_time.is_some() {
                job.attempt
            } else {
                job.attempt - 1
            }
        }
    }
}

/// Says whether a piece counts in the offsets of its log.
fn has_length(entry: &LogEntry) -> bool {
    match entry.stream() {
        Stream::Stdout | Stream::Stderr => true,
        Stream::System | Stream::Unspecified => false,
    }
}

/// The log of a job that has just started may not be there yet.
pub fn may_appear(error: &CallError) -> bool {
    matches!(error.code(), Code::NotFound | Code::FailedPrecondition)
}

fn is_unreadable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<CallError>().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_attempts_that_may_have_output_are_read() {
        let job = |state: JobState, attempt, started: bool| Job {
            state: state.into(),
            attempt,
            start_time: started.then(Default::default),
            ..Default::default()
        };
        assert_eq!(latest_started(&job(JobState::Pending, 0, false)), 0);
        assert_eq!(latest_started(&job(JobState::Assigned, 1, false)), 0);
        assert_eq!(latest_started(&job(JobState::Running, 1, true)), 1);
        assert_eq!(latest_started(&job(JobState::Pending, 1, true)), 1, "to be retried");
        assert_eq!(latest_started(&job(JobState::Succeeded, 2, true)), 2);
        assert_eq!(latest_started(&job(JobState::Failed, 1, false)), 0, "an image that is not there");
    }

    #[test]
    fn a_resumed_reading_asks_for_the_next_byte() {
        let mut reading = Reading { attempt: 2, start: Start::Tail(10), offset: None, live: true };
        let first = reading.request("j");
        assert_eq!((first.tail_lines, first.offset_bytes, first.attempt), (Some(10), 0, 2));
        reading.offset = Some(7);
        let resumed = reading.request("j");
        assert_eq!((resumed.tail_lines, resumed.offset_bytes), (None, 7));
    }
}
