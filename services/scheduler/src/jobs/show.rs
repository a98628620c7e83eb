//! How a job is shown: its record, its spec, and what is known beside them.

use std::collections::BTreeMap;

use berth_api::convert::{JobContext, job_to_wire};
use berth_api::status::Problem;
use berth_api::v1;
use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::job::{Job, JobState};
use berth_domain::spec::JobSpec;

use super::pending::Reasons;
use crate::context::Context;

/// Reads one job.
///
/// # Errors
/// Fails when there is no such job, or the store fails.
pub async fn load(context: &Context, id: &JobId) -> Result<Job, Problem> {
    let jobs = context.store.jobs(std::slice::from_ref(id)).await.map_err(|e| context.problem(&e))?;
    context.note_answer();
    jobs.into_iter().next().flatten().ok_or_else(|| Problem::no_job(id.to_string()))
}

/// Shows jobs with their specs.
///
/// # Errors
/// Fails when the store fails.
pub async fn show(context: &Context, jobs: &[Job]) -> Result<Vec<v1::Job>, Problem> {
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id.clone()).collect();
    let specs = context.store.specs(&ids).await.map_err(|e| context.problem(&e))?;
    let specs: BTreeMap<JobId, JobSpec> =
        ids.into_iter().zip(specs).filter_map(|(id, spec)| Some((id, spec?))).collect();
    show_with(context, jobs, &specs).await
}

/// Shows one job with its spec.
///
/// # Errors
/// Fails when the store fails.
pub async fn show_one(context: &Context, job: &Job) -> Result<v1::Job, Problem> {
    let shown = show(context, std::slice::from_ref(job)).await?;
    shown.into_iter().next().ok_or_else(|| Problem::Internal("a job could not be shown".to_owned()))
}

/// Shows jobs whose specs are at hand.
///
/// # Errors
/// Fails when the store fails.
pub async fn show_with(
    context: &Context,
    jobs: &[Job],
    specs: &BTreeMap<JobId, JobSpec>,
) -> Result<Vec<v1::Job>, Problem> {
    let placed = jobs.iter().any(|job| job.current_attempt().is_some());
    let executors =
        if placed { Some(context.executors().await.map_err(|e| context.problem(&e))?) } else { None };
    let executors: &[Executor] = executors.as_ref().map_or(&[], |list| list.as_slice());
    let mut reasons = reasons(context, jobs);
    let shown = jobs.iter().map(|job| {
        let beside =
            JobContext { pending_reason: reasons.remove(&job.id), ..beside(context, job, executors) };
        job_to_wire(job, specs.get(&job.id), beside)
    });
    Ok(shown.collect())
}

fn beside(context: &Context, job: &Job, executors: &[Executor]) -> JobContext {
    let generation = context.generation();
    let mut beside = JobContext { generation, ..JobContext::default() };
    match job.state {
        JobState::Assigned | JobState::Running => {
            if let Some(executor) = &job.executor {
                beside.unreachable = context.lease_expired(executors, executor);
                let phase = context.sessions.phase(executor, &job.last_attempt());
                beside.phase = phase.filter(|_| job.state == JobState::Assigned).unwrap_or_default();
            }
        }
        JobState::Pending | JobState::Succeeded | JobState::Failed | JobState::Aborted => {}
    }
    beside
}

/// Why those of the jobs wait that do.
fn reasons(context: &Context, jobs: &[Job]) -> BTreeMap<JobId, v1::PendingReason> {
    let mut waiting = jobs.iter().filter(|job| job.state == JobState::Pending).peekable();
    if waiting.peek().is_none() {
        return BTreeMap::new();
    }
    let (now_ms, lost_after_ms) = (context.clock.now_ms(), context.config.lost_after_ms());
    context.with_image(|image| {
        let is_kept = |executor: &ExecutorId| image.kept().contains_key(executor);
        let reasons = Reasons::new(image, (now_ms, lost_after_ms), &is_kept);
        context
            .remembered
            .with(reasons, |reasons| waiting.map(|job| (job.id.clone(), reasons.of(job))).collect())
    })
}
