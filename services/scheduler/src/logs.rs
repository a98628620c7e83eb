//! Reads a job's output: finds the replica that holds its executor's session, asks the executor
//! there, and pipes the upload back. Nothing is stored on the way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use berth_api::convert::{attempt_from_wire, attempt_to_wire, job_id};
use berth_api::status::Problem;
use berth_api::v1;
use berth_api::v1::upload_logs_request::End;
use berth_domain::ids::{AttemptRef, ExecutorId};
use berth_domain::job::Job;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::app::Connect;
use crate::context::{Context, stopping};
use crate::entropy::random_name;
use crate::jobs::show::load;
use crate::jobs::wait::wait_until;
use crate::sessions::LogSink;

/// Chunks that may wait for a slow reader.
const OUTBOUND: usize = 16;
/// How long an executor may take to begin an upload.
const BEGIN: Duration = Duration::from_secs(10);
/// The most bytes that `tail_lines` keeps while it reads to the end.
const MAX_TAIL_BYTES: usize = 4 * 1024 * 1024;
/// The most lines `tail_lines` may ask for.
const MAX_TAIL_LINES: i32 = 100_000;

type Reader = mpsc::Receiver<Result<v1::StreamJobLogsResponse, Status>>;
type Writer = mpsc::Sender<Result<v1::StreamJobLogsResponse, Status>>;

/// What is read: one attempt on one executor.
#[derive(Debug, Clone)]
pub struct Source {
    executor: ExecutorId,
    attempt: AttemptRef,
    offset_bytes: i64,
    follow: bool,
}

/// Starts to read a job's output.
///
/// # Errors
/// Refuses an unknown job, and an attempt the job never had.
pub async fn stream(
    context: Arc<Context>,
    connect: Arc<dyn Connect>,
    request: v1::StreamJobLogsRequest,
) -> Result<Reader, Problem> {
    let id = job_id("id", &request.id)?;
    let tail = request.tail_lines;
    if tail.is_some_and(|lines| !(0..=MAX_TAIL_LINES).contains(&lines)) {
        return Err(Problem::field("tail_lines", format!("must be 0 to {MAX_TAIL_LINES}")));
    }
    if request.offset_bytes < 0 || (request.offset_bytes > 0 && tail.is_some()) {
        return Err(Problem::field(
            "offset_bytes",
            "must not be negative, nor be set together with tail_lines",
        ));
    }
    let feed = context.feed.subscribe();
    let job = load(&context, &id).await?;
    if request.attempt < 0 || request.attempt > i32::try_from(job.attempt).unwrap_or(i32::MAX) {
        return Err(Problem::field(
            "attempt",
            format!("is {}; job {id} has had {} attempts", request.attempt, job.attempt),
        ));
    }
    let (out, reader) = mpsc::channel(OUTBOUND);
    tokio::spawn(async move {
        let piped = tokio::select! {
            biased;
            () = out.closed() => return,
            () = context.stop.cancelled() => Err(stopping()),
            piped = pipe(&context, connect.as_ref(), feed, job, request, &out) => piped,
        };
        if let Err(problem) = piped {
            let _ = out.send(Err(problem.into())).await;
        }
    });
    Ok(reader)
}

async fn pipe(
    context: &Arc<Context>,
    connect: &dyn Connect,
    mut feed: tokio::sync::broadcast::Receiver<crate::feed::FeedEvent>,
    job: Job,
    request: v1::StreamJobLogsRequest,
    out: &Writer,
) -> Result<(), Problem> {
    // A job that has not been placed has no output yet.
    let placed =
        |job: &Job| job.current_attempt().is_some() || job.state.is_terminal() || request.attempt > 0;
    let job = if request.follow {
        let far = Instant::now() + Duration::from_secs(365 * 86_400);
        wait_until(context, &mut feed, job, far, placed).await?
    } else {
        job
    };
    let Some(mut source) = source(&job, &request)? else { return Ok(()) };
    let streams = request.streams;
    if let Some(lines) = request.tail_lines {
        // First what there is, kept to its last lines; then, if asked for, on from there.
        let present = Source { follow: false, ..source.clone() };
        let mut tail = Tail::new(usize::try_from(lines).unwrap_or(0), source.offset_bytes);
        copy(context, connect, present, |chunk| tail.take(chunk, &streams)).await?;
        source.offset_bytes = tail.end_bytes;
        for entry in tail.entries {
            let message = v1::StreamJobLogsResponse { entries: vec![entry], dropped_bytes: 0 };
            if out.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        if !source.follow {
            return Ok(());
        }
    }
    let (chunks, received) = mpsc::channel(OUTBOUND);
    let opened = open(context, connect, source, chunks);
    let (opened, ()) = tokio::join!(opened, forward(received, &streams, out));
    opened
}

/// Reads a source to its end, a chunk at a time.
async fn copy(
    context: &Arc<Context>,
    connect: &dyn Connect,
    source: Source,
    mut take: impl FnMut(v1::OpenLogsResponse),
) -> Result<(), Problem> {
    let (chunks, mut received) = mpsc::channel(OUTBOUND);
    let read = async {
        while let Some(chunk) = received.recv().await {
            take(chunk);
        }
    };
    let (opened, ()) = tokio::join!(open(context, connect, source, chunks), read);
    opened
}

fn is_wanted(entry: &v1::LogEntry, streams: &[i32]) -> bool {
    streams.is_empty() || streams.contains(&entry.stream)
}

/// Finds out what to read; `None` where nothing ever ran.
fn source(job: &Job, request: &v1::StreamJobLogsRequest) -> Result<Option<Source>, Problem> {
    let latest = job.last_attempt();
    let number = u32::try_from(request.attempt).unwrap_or(0);
    if number != 0 && number != latest.number {
        return Err(Problem::Precondition {
            reason: "ATTEMPT_NOT_KEPT",
            message: format!("Only the output of the latest attempt, {}, can be read.", latest.number),
        });
    }
    // An attempt that ended before its container started has no output.
    let silent = latest.number == 0 || (job.state.is_terminal() && job.start_time_ms.is_none());
    let Some(executor) = job.executor.clone().filter(|_| !silent) else { return Ok(None) };
    Ok(Some(Source { executor, attempt: latest, offset_bytes: request.offset_bytes, follow: request.follow }))
}

async fn forward(mut received: mpsc::Receiver<v1::OpenLogsResponse>, streams: &[i32], out: &Writer) {
    while let Some(chunk) = received.recv().await {
        let entries = chunk.entries.into_iter().filter(|entry| is_wanted(entry, streams)).collect();
        let message = v1::StreamJobLogsResponse { entries, dropped_bytes: chunk.dropped_bytes };
        if out.send(Ok(message)).await.is_err() {
            return;
        }
    }
}

/// The last lines of what has passed, and at most `MAX_TAIL_BYTES`; entries are kept whole, so a
/// little more may be kept.
struct Tail {
    lines: usize,
    bytes: usize,
    most: usize,
    entries: VecDeque<v1::LogEntry>,
    /// Where what has passed ends, in bytes of the output.
    end_bytes: i64,
}

impl Tail {
    fn new(most: usize, from_bytes: i64) -> Self {
        Self { lines: 0, bytes: 0, most, entries: VecDeque::new(), end_bytes: from_bytes }
    }

    fn take(&mut self, chunk: v1::OpenLogsResponse, streams: &[i32]) {
        for entry in chunk.entries {
            if entry.stream() != v1::log_entry::Stream::System {
                let length = i64::try_from(entry.data.len()).unwrap_or(0);
                self.end_bytes = self.end_bytes.max(entry.offset_bytes.saturating_add(length));
            }
            if is_wanted(&entry, streams) {
                self.push(entry);
            }
        }
    }

    fn push(&mut self, entry: v1::LogEntry) {
        self.lines += lines_of(&entry);
        self.bytes += entry.data.len();
        self.entries.push_back(entry);
        while let Some(first) = self.entries.front() {
            let without = self.lines - lines_of(first);
            let too_large = self.bytes > MAX_TAIL_BYTES && self.entries.len() > 1;
            if without < self.most && !too_large {
                break;
            }
            self.lines = without;
            self.bytes -= first.data.len();
            self.entries.pop_front();
        }
    }
}

fn lines_of(entry: &v1::LogEntry) -> usize {
    entry.data.iter().filter(|byte| **byte == b'\n').count().max(1)
}

/// Opens a source wherever its executor's session is, and sends what comes to `chunks`.
async fn open(
    context: &Arc<Context>,
    connect: &dyn Connect,
    source: Source,
    chunks: mpsc::Sender<v1::OpenLogsResponse>,
) -> Result<(), Problem> {
    if context.sessions.holds(&source.executor) {
        return open_here(context, source, chunks).await;
    }
    let executors = context.store.executors().await.map_err(|e| context.problem(&e))?;
    let holder =
        executors.into_iter().find(|executor| executor.id == source.executor && executor.session.is_some());
    let holder = holder.filter(|executor| executor.scheduler != context.config.scheduler_id);
    let Some(holder) = holder else { return Err(crate::sessions::no_session(&source.executor)) };
    open_there(connect, &holder.scheduler_address, source, chunks).await
}

/// Asks an executor whose session is here.
///
/// # Errors
/// Fails when the session is gone or the executor does not begin in time.
pub async fn open_here(
    context: &Arc<Context>,
    source: Source,
    chunks: mpsc::Sender<v1::OpenLogsResponse>,
) -> Result<(), Problem> {
    let demand = v1::session_response::LogDemand {
        demand_id: random_name(context.entropy.as_ref()),
        r#ref: Some(attempt_to_wire(&source.attempt)),
        offset_bytes: source.offset_bytes,
        follow: source.follow,
    };
    let demand_id = demand.demand_id.clone();
    let mut upload = context.sessions.demand(&source.executor, demand)?;
    let first = tokio::time::timeout(BEGIN, upload.recv()).await;
    context.sessions.cancel_demand(&demand_id);
    let Ok(mut next) = first else { return Err(crate::sessions::no_session(&source.executor)) };
    while let Some(chunk) = next {
        match chunk.end() {
            End::Unspecified => {}
            End::Complete => return Ok(()),
            End::NotKept => {
                let id = format!("{}, attempt {}", source.attempt.job, source.attempt.number);
                return Err(Problem::NotFound { kind: "log of job", id });
            }
            End::Unreadable => {
                return Err(Problem::Internal(format!("Executor {} cannot read the log.", source.executor)));
            }
        }
        let message = v1::OpenLogsResponse { entries: chunk.entries, dropped_bytes: chunk.dropped_bytes };
        if chunks.send(message).await.is_err() {
            return Ok(());
        }
        next = upload.recv().await;
    }
    // The upload was cut: the reader resumes by offset.
    Err(crate::sessions::no_session(&source.executor))
}

async fn open_there(
    connect: &dyn Connect,
    address: &str,
    source: Source,
    chunks: mpsc::Sender<v1::OpenLogsResponse>,
) -> Result<(), Problem> {
    let unreachable = |error: String| {
        tracing::warn!(executor_id = %source.executor, address, error, "replica with the executor's session could not be asked");
        crate::sessions::no_session(&source.executor)
    };
    let channel = connect.channel(address).map_err(unreachable)?;
    let mut client = v1::relay_service_client::RelayServiceClient::new(channel)
        .max_decoding_message_size(berth_api::MAX_MESSAGE_BYTES);
    let request = v1::OpenLogsRequest {
        executor_id: source.executor.to_string(),
        r#ref: Some(attempt_to_wire(&source.attempt)),
        offset_bytes: source.offset_bytes,
        follow: source.follow,
    };
    let mut stream =
        client.open_logs(request).await.map_err(|status| unreachable(status.to_string()))?.into_inner();
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                if chunks.send(message).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(status) if status.code() == Code::NotFound => {
                let id = format!("{}, attempt {}", source.attempt.job, source.attempt.number);
                return Err(Problem::NotFound { kind: "log of job", id });
            }
            Err(status) => return Err(unreachable(status.to_string())),
        }
    }
}

/// Reads what another replica wants to read here.
///
/// # Errors
/// Refuses a malformed request.
pub fn relay_source(request: &v1::OpenLogsRequest) -> Result<Source, Problem> {
    let executor =
        ExecutorId::parse(&request.executor_id).map_err(|e| Problem::field("executor_id", e.to_string()))?;
    let attempt = attempt_from_wire(request.r#ref.as_ref())?;
    Ok(Source { executor, attempt, offset_bytes: request.offset_bytes, follow: request.follow })
}

/// Waits until nobody reads from the sink any more.
async fn closed(sink: Option<&LogSink>) {
    match sink {
        Some(sink) => sink.closed().await,
        None => std::future::pending().await,
    }
}

/// Delivers an upload to whoever demanded it; gives the offset after the last chunk delivered.
///
/// # Errors
/// Fails when the demand is not known (any more), or the upload breaks.
pub async fn receive_upload(
    context: &Context,
    mut upload: impl futures::Stream<Item = Result<v1::UploadLogsRequest, Status>> + Unpin,
) -> Result<v1::UploadLogsResponse, Status> {
    use futures::StreamExt;
    let mut sink: Option<LogSink> = None;
    let mut stored_offset_bytes = 0;
    loop {
        let chunk = tokio::select! {
            biased;
            // A reader that left must not leave the upload of a silent job open.
            () = closed(sink.as_ref()) => break,
            chunk = upload.next() => chunk.transpose()?,
        };
        let Some(chunk) = chunk else { break };
        if sink.is_none() {
            sink = context.sessions.take_upload(&chunk.demand_id);
        }
        let Some(sink) = &sink else {
            return Err(Problem::Precondition {
                reason: "DEMAND_OVER",
                message: "Nobody waits for this upload.".to_owned(),
            }
            .into());
        };
        if let Some(last) = chunk.entries.last() {
            stored_offset_bytes = last.offset_bytes + i64::try_from(last.data.len()).unwrap_or(0);
        }
        if sink.send(chunk).await.is_err() {
            break;
        }
    }
    Ok(v1::UploadLogsResponse { stored_offset_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_lines() {
        let mut tail = Tail::new(2, 0);
        for line in ["a\n", "b\n", "c\n", "d\n"] {
            tail.push(v1::LogEntry { data: line.as_bytes().to_vec().into(), ..v1::LogEntry::default() });
        }
        let kept: Vec<_> = tail.entries.iter().map(|entry| entry.data.to_vec()).collect();
        assert_eq!(kept, [b"c\n".to_vec(), b"d\n".to_vec()]);
    }
}
