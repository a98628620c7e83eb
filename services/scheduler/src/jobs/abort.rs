//! Aborts: a pending job ends at once; for another the wish is stored, and its executor stops it.

use std::sync::Arc;
use std::time::Duration;

use berth_api::convert::{duration_ms, job_id};
use berth_api::status::Problem;
use berth_api::v1;
use berth_domain::job::{Job, JobState};
use berth_domain::lifecycle::{Event, Refused, apply};
use berth_store::{Call, Mutation, StoreError, Verdict};
use tokio::time::Instant;

use super::show::{load, show_one};
use super::wait::wait_until_ended;
use crate::context::Context;

/// How often an abort that lost a race is decided again.
const TRIES: u32 = 10;
const MAX_REASON_BYTES: usize = 1_024;
/// How long the call waits for the end when the client names no deadline.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// Aborts a job, and waits for its end until `deadline`.
///
/// # Errors
/// Refuses an unknown job, and one that has already succeeded or failed.
pub async fn abort(
    context: &Context,
    request: v1::AbortJobRequest,
    deadline: Instant,
) -> Result<v1::Job, Problem> {
    let id = job_id("id", &request.id)?;
    if request.reason.len() > MAX_REASON_BYTES || request.reason.chars().any(char::is_control) {
        return Err(Problem::field(
            "reason",
            format!("must be at most {MAX_REASON_BYTES} bytes without control characters"),
        ));
    }
    let grace_ms = request.grace_period.as_ref().map(|grace| duration_ms("grace_period", grace)).transpose();
    let grace_ms = grace_ms.map_err(|violation| Problem::Invalid(vec![violation]))?;
    let mut feed = context.feed.subscribe();
    let job = request_abort(context, &id, grace_ms, &request.reason).await?;
    let job = wait_until_ended(context, &mut feed, job, deadline).await?;
    show_one(context, &job).await
}

async fn request_abort(
    context: &Context,
    id: &berth_domain::ids::JobId,
    grace_ms: Option<u64>,
    reason: &str,
) -> Result<Job, Problem> {
    for _ in 0..TRIES {
        let generation = context.generation();
        let job = load(context, id).await?;
        let event = Event::AbortRequested { grace_ms, reason: reason.to_owned() };
        let next = match apply(&job, event, context.clock.now_ms()) {
            Ok(next) => next,
            Err(Refused::Already | Refused::Ended(JobState::Aborted)) => return Ok(job),
            Err(Refused::Ended(state)) => {
                return Err(Problem::Precondition {
                    reason: "JOB_ENDED",
                    message: format!(
                        "Job {id} has already ended as {}; there is nothing to abort.",
                        state.name()
                    ),
                });
            }
            Err(Refused::NotCurrent | Refused::State(_)) => {
                return Err(Problem::Internal("an abort was refused".to_owned()));
            }
        };
        let mutation = Mutation::Update { job: Arc::new(next.clone()), session: None, attempt: None };
        match context
            .commit(Call { leader: None, generation: Some(generation), mutations: vec![mutation] })
            .await
        {
            Ok(committed) => match committed.verdicts.first() {
                Some(Verdict::Applied(revision)) => return Ok(Job { revision: *revision, ..next }),
                Some(Verdict::Conflict(_) | Verdict::Existing(_)) | None => {}
            },
            // Decided again from a new read: an abort that was stored is found there.
            Err(StoreError::Unknown { .. } | StoreError::Generation { .. }) => {}
            Err(error) => return Err(context.problem(&error)),
        }
    }
    Err(Problem::Unavailable {
        reason: "JOB_CHANGING",
        message: format!("Job {id} is being changed by others; retry."),
        retry_after: Duration::from_secs(1),
    })
}
