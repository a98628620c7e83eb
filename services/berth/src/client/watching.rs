//! Follows one job to its end. The stream of changes is the fast path and is resumed after a break, at another
//! scheduler if need be; what it cannot tell (why the job waits, how far its executor is, or a change that was
//! missed) is read now and then.

use std::time::Duration;

use berth_api::status::Problem;
use berth_api::v1::watch_jobs_response::Event;
use berth_api::v1::{Job, JobState, WatchJobsRequest, WatchJobsResponse};
use tonic::{Code, Status, Streaming};

use super::connection::{CallError, Connection, is_passing, jobs};
use super::listing::{get_job, quoted};
use super::outcome::has_ended;

/// How often a job that has not started is read.
const READ_WAITING: Duration = Duration::from_secs(1);
/// How often a running job is read.
const READ_RUNNING: Duration = Duration::from_secs(5);

/// Follows a job until it has ended, tells `on_change` of every observation, and returns the last.
///
/// # Errors
/// Fails when no scheduler can be reached, and when there is no such job.
pub async fn follow(
    connection: &Connection,
    job: Job,
    mut on_change: impl FnMut(&Job),
) -> Result<Job, CallError> {
    on_change(&job);
    let mut latest = job;
    let mut watch = Watch { connection, id: latest.id.clone(), resume_token: String::new() };
    let mut patience = connection.patience();
    while !has_ended(&latest) {
        let mut stream = watch.open().await?;
        let broke = loop {
            match watch.next(&mut stream, pause(&latest)).await? {
                Next::Job(job) if is_older(&job, &latest) => {}
                Next::Job(job) => {
                    patience.reset();
                    on_change(&job);
                    latest = *job;
                    if has_ended(&latest) {
                        return Ok(latest);
                    }
                }
                Next::Nothing => {}
                Next::Broke(status) => break status,
            }
        };
        tracing::debug!(error = %broke, "the stream of changes broke");
        connection.move_on();
        let Some(pause) = patience.pause(None) else { return Err(connection.unreachable(&broke)) };
        tokio::time::sleep(pause).await;
    }
    Ok(latest)
}

fn pause(job: &Job) -> Duration {
    if job.state() == JobState::Running { READ_RUNNING } else { READ_WAITING }
}

/// An answer of another scheduler may be older than what is known; the same revision may say more.
fn is_older(job: &Job, than: &Job) -> bool {
    (job.generation, job.revision) < (than.generation, than.revision)
}

struct Watch<'a> {
    connection: &'a Connection,
    id: String,
    resume_token: String,
}

enum Next {
    Job(Box<Job>),
    Nothing,
    Broke(Status),
}

impl Watch<'_> {
    async fn open(&mut self) -> Result<Streaming<WatchJobsResponse>, CallError> {
        let opened = self.open_at_token().await;
        match opened {
            Err(CallError::Answered(status)) if !self.resume_token.is_empty() && is_stale(&status) => {
                // The token is of a history that the cluster no longer has: begin with the present.
                self.resume_token.clear();
                self.open_at_token().await
            }
            other => other,
        }
    }

    async fn open_at_token(&self) -> Result<Streaming<WatchJobsResponse>, CallError> {
        let request = WatchJobsRequest {
            filter: format!("id = {}", quoted(&self.id)),
            resume_token: self.resume_token.clone(),
            summary_only: false,
        };
        self.connection
            .call(|channel| {
                let request = request.clone();
                async move { jobs(channel).watch_jobs(request).await }
            })
            .await
    }

    async fn next(
        &mut self,
        stream: &mut Streaming<WatchJobsResponse>,
        pause: Duration,
    ) -> Result<Next, CallError> {
        let answer = match tokio::time::timeout(pause, stream.message()).await {
            Err(_elapsed) => return self.read().await,
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => return Ok(Next::Broke(stream_ended().into())),
            Ok(Err(status)) if is_passing(&status) => return Ok(Next::Broke(status)),
            Ok(Err(status)) if !self.resume_token.is_empty() && is_stale(&status) => {
                self.resume_token.clear();
                return Ok(Next::Broke(status));
            }
            Ok(Err(status)) => return Err(CallError::Answered(status)),
        };
        self.resume_token = answer.resume_token;
        match answer.event {
            Some(Event::Job(job)) => Ok(Next::Job(Box::new(job))),
            Some(Event::Resync(_)) => self.read().await,
            Some(Event::Counts(_)) | None => Ok(Next::Nothing),
        }
    }

    async fn read(&self) -> Result<Next, CallError> {
        get_job(self.connection, &self.id).await.map(|job| Next::Job(Box::new(job)))
    }
}

fn is_stale(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::Aborted
    )
}

/// What is noted where a scheduler ends a stream in order, as at its shutdown.
fn stream_ended() -> Problem {
    Problem::Unavailable {
        reason: "STREAM_ENDED",
        message: "The scheduler ended the stream.".to_owned(),
        retry_after: Duration::ZERO,
    }
}
