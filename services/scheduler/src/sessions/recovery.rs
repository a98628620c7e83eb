//! Gives a store back what it has lost: an executor that registers names its attempts, running and
//! ended. One that is newer than the store knows was assigned by a commit that is gone; one whose end
//! the store does not know was ended by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_api::convert::{attempt_end_from_wire, attempt_from_wire, timestamp_ms};
use berth_api::status::Problem;
use berth_api::v1;
use berth_domain::executor::Executor;
use berth_domain::ids::{AttemptRef, JobId};
use berth_domain::job::Job;
use berth_domain::lifecycle::{AttemptEnd, Event, apply};
use berth_store::{Call, MAX_MUTATIONS, Mutation, Verdict};

use crate::context::Context;
use crate::entropy::jitter;

/// The most jobs read at once.
const MAX_READ: usize = 1_000;

/// An attempt that the executor has, or had.
struct Held {
    attempt: AttemptRef,
    gpu_device_ids: Vec<String>,
    started_ms: Option<u64>,
    end: Option<AttemptEnd>,
}

/// Commits what the executor knows and the store does not.
///
/// # Errors
/// Fails when the store does; the executor then registers again.
pub(super) async fn recover(
    context: &Context,
    request: &v1::RegisterRequest,
    executor: &Executor,
    generation: u64,
) -> Result<(), Problem> {
    let held = held(context, request);
    // What has ended makes room for what runs.
    for held in held.chunks(MAX_READ) {
        let jobs = jobs_of(context, held).await?;
        commit(context, (executor, generation), ends(context, executor, held, &jobs)).await?;
    }
    for held in held.chunks(MAX_READ) {
        let mut jobs = jobs_of(context, held).await?;
        let newer = held.iter().filter_map(|held| {
            let job = jobs.get(&held.attempt.job)?;
            let event = Event::Recovered {
                executor: executor.id.clone(),
                attempt: held.attempt.clone(),
                gpu_device_ids: held.gpu_device_ids.clone(),
                started_ms: held.started_ms,
            };
            apply(job, event, context.clock.now_ms()).ok()
        });
        let recovered = commit(context, (executor, generation), newer.collect()).await?;
        for job in recovered {
            tracing::warn!(job_id = %job.id, attempt = job.attempt, executor_id = %executor.id,
                "an attempt that the store had lost was recovered from its executor");
            jobs.insert(job.id.clone(), job);
        }
        commit(context, (executor, generation), ends(context, executor, held, &jobs)).await?;
    }
    Ok(())
}

async fn jobs_of(context: &Context, held: &[Held]) -> Result<BTreeMap<JobId, Job>, Problem> {
    let ids: Vec<JobId> = held.iter().map(|held| held.attempt.job.clone()).collect();
    let jobs = context.store.jobs(&ids).await.map_err(|e| context.problem(&e))?;
    Ok(jobs.into_iter().flatten().map(|job| (job.id.clone(), job)).collect())
}

/// The records of jobs whose current attempt has ended on the executor.
fn ends(context: &Context, executor: &Executor, held: &[Held], jobs: &BTreeMap<JobId, Job>) -> Vec<Job> {
    let ended = held.iter().filter_map(|held| {
        let job = jobs.get(&held.attempt.job)?;
        let ours = job.executor.as_ref() == Some(&executor.id);
        let end = held.end.clone().filter(|_| ours)?;
        apply(job, Event::Ended(end), context.clock.now_ms()).ok()
    });
    ended.collect()
}

fn held(context: &Context, request: &v1::RegisterRequest) -> Vec<Held> {
    let mut held: BTreeMap<AttemptRef, Held> = BTreeMap::new();
    for running in &request.running {
        let Ok(attempt) = attempt_from_wire(running.r#ref.as_ref()) else { continue };
        held.insert(
            attempt.clone(),
            Held {
                attempt,
                gpu_device_ids: running.gpu_device_ids.clone(),
                started_ms: running.start_time.as_ref().map(timestamp_ms),
                end: None,
            },
        );
    }
    for ended in &request.ended {
        let Ok(end) = attempt_end_from_wire(ended, jitter(context.entropy.as_ref())) else { continue };
        let (attempt, started_ms) = (end.attempt.clone(), end.start_time_ms);
        held.insert(
            attempt.clone(),
            Held { attempt, gpu_device_ids: Vec::new(), started_ms, end: Some(end) },
        );
    }
    held.into_values().collect()
}

/// Commits records; gives those that were written, with their new revisions. What lost a race is
/// somebody else's business by now: the report, or the stop, that follows the registration settles it.
async fn commit(
    context: &Context,
    (executor, generation): (&Executor, u64),
    jobs: Vec<Job>,
) -> Result<Vec<Job>, Problem> {
    let mut written = Vec::new();
    for chunk in jobs.chunks(MAX_MUTATIONS) {
        let session = executor.session.clone().map(|session| (executor.id.clone(), session));
        let update = |job: &Job| Mutation::Update {
            job: Arc::new(job.clone()),
            session: session.clone(),
            attempt: None,
        };
        let call = Call {
            leader: None,
            generation: Some(generation),
            mutations: chunk.iter().map(update).collect(),
        };
        let committed = context.commit(call).await.map_err(|e| context.problem(&e))?;
        for (job, verdict) in chunk.iter().zip(committed.verdicts) {
            match verdict {
                Verdict::Applied(revision) => written.push(Job { revision, ..job.clone() }),
                Verdict::Conflict(conflict) => {
                    tracing::warn!(job_id = %job.id, attempt = job.attempt, %conflict, "an attempt could not be recovered");
                }
                Verdict::Existing(_) => {}
            }
        }
    }
    Ok(written)
}
