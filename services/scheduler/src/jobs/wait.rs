//! Waits for a job: to its end, or to its next change.

use std::time::Duration;

use berth_api::convert::{duration_ms, job_id};
use berth_api::status::Problem;
use berth_api::v1;
use berth_domain::job::Job;
use berth_store::{Change, Position};
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};

use super::show::{load, show_one};
use crate::context::Context;
use crate::feed::FeedEvent;

/// The longest one call waits; a client that wants more asks again.
pub const MAX_WAIT: Duration = Duration::from_secs(600);

/// Waits for the end of a job, or with `after` for its first change after that position; at most
/// until `latest`.
///
/// # Errors
/// Refuses an unknown job; running out of time is no error.
pub async fn wait(
    context: &Context,
    request: v1::WaitJobRequest,
    latest: Instant,
) -> Result<v1::WaitJobResponse, Problem> {
    let id = job_id("id", &request.id)?;
    let limit = match &request.timeout {
        None => MAX_WAIT,
        Some(timeout) => {
            let ms =
                duration_ms("timeout", timeout).map_err(|violation| Problem::Invalid(vec![violation]))?;
            Duration::from_millis(ms).min(MAX_WAIT)
        }
    };
    let deadline = latest.min(Instant::now() + limit);
    let after = request.after.as_ref().map(|after| Position {
        generation: u64::try_from(after.generation).unwrap_or(0),
        revision: u64::try_from(after.revision).unwrap_or(0),
    });
    let mut feed = context.feed.subscribe();
    let job = load(context, &id).await?;
    let job = match after {
        None => wait_until_ended(context, &mut feed, job, deadline).await?,
        Some(after) => {
            let changed = |job: &Job| {
                let generation = context.generation();
                job.state.is_terminal() || Position { generation, revision: job.revision } > after
            };
            wait_until(context, &mut feed, job, deadline, changed).await?
        }
    };
    let done = job.state.is_terminal();
    Ok(v1::WaitJobResponse { job: Some(show_one(context, &job).await?), done })
}

/// Waits until a job has ended, or `deadline`; gives its latest record. `feed` must have been
/// subscribed before `job` was read.
///
/// # Errors
/// Fails when the store fails or the job is removed meanwhile.
pub async fn wait_until_ended(
    context: &Context,
    feed: &mut broadcast::Receiver<FeedEvent>,
    job: Job,
    deadline: Instant,
) -> Result<Job, Problem> {
    wait_until(context, feed, job, deadline, |job| job.state.is_terminal()).await
}

/// Waits until a job's record meets a condition, or `deadline`; gives its latest record.
///
/// # Errors
/// Fails when the store fails or the job is removed meanwhile.
pub async fn wait_until(
    context: &Context,
    feed: &mut broadcast::Receiver<FeedEvent>,
    mut job: Job,
    deadline: Instant,
    met: impl Fn(&Job) -> bool,
) -> Result<Job, Problem> {
    // Where the feed stands still, the record itself is read again now and then.
    let mut look = Instant::now() + context.config.safety_interval;
    while !met(&job) {
        match timeout_at(deadline.min(look), feed.recv()).await {
            Ok(Ok(FeedEvent::Changes { changes, .. })) => {
                for (_, change) in changes.iter() {
                    match change {
                        Change::Job(next) if next.id == job.id && next.revision > job.revision => {
                            job = next.as_ref().clone();
                        }
                        Change::JobDeleted(id) if *id == job.id => {
                            return Err(Problem::no_job(id.to_string()));
                        }
                        Change::Job(_)
                        | Change::JobDeleted(_)
                        | Change::Executor(_)
                        | Change::Leader { .. } => {}
                    }
                }
            }
            Ok(Ok(FeedEvent::Resync) | Err(broadcast::error::RecvError::Lagged(_))) => {
                job = load(context, &job.id).await?;
            }
            Ok(Err(broadcast::error::RecvError::Closed)) => return Ok(job),
            Err(_) if Instant::now() >= deadline => return Ok(job),
            Err(_) => {
                look = Instant::now() + context.config.safety_interval;
                job = load(context, &job.id).await?;
            }
        }
    }
    Ok(job)
}
