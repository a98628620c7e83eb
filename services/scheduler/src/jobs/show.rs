//! How a job is shown: its record, its spec, and what is known beside them.

use std::collections::BTreeMap;

use berth_api::convert::{JobContext, job_to_wire, timestamp};
use berth_api::status::Problem;
use berth_api::v1;
use berth_api::v1::pending_reason::{Blocker, Code};
use berth_domain::executor::Executor;
use berth_domain::ids::JobId;
use berth_domain::job::{Job, JobState};
use berth_domain::placement::{Node, Obstacle, explain};
use berth_domain::spec::{JobSpec, OnLost};

use crate::context::Context;
use crate::image::{Image, queue_limit_ms};

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
    let shown = jobs.iter().map(|job| job_to_wire(job, specs.get(&job.id), beside(context, job, executors)));
    Ok(shown.collect())
}

fn beside(context: &Context, job: &Job, executors: &[Executor]) -> JobContext {
    let generation = context.with_image(|image| image.position.generation);
    let mut beside = JobContext { generation, ..JobContext::default() };
    match job.state {
        JobState::Pending => beside.pending_reason = Some(pending_reason(context, job)),
        JobState::Assigned | JobState::Running => {
            if let Some(executor) = &job.executor {
                beside.unreachable = context.lease_expired(executors, executor);
                let phase = context.sessions.phase(executor, &job.last_attempt());
                beside.phase = phase.filter(|_| job.state == JobState::Assigned).unwrap_or_default();
            }
        }
        JobState::Succeeded | JobState::Failed | JobState::Aborted => {}
    }
    beside
}

fn pending_reason(context: &Context, job: &Job) -> v1::PendingReason {
    let now_ms = context.clock.now_ms();
    let (code, message, queue_position, blockers) =
        context.with_image(|image| why_pending(image, job, now_ms, context.config.lost_after_ms()));
    v1::PendingReason {
        code: i32::from(code),
        message,
        queue_position: i32::try_from(queue_position).unwrap_or(i32::MAX),
        blockers,
        evaluate_time: Some(timestamp(now_ms)),
    }
}

fn why_pending(
    image: &Image,
    job: &Job,
    now_ms: u64,
    lost_after_ms: u64,
) -> (Code, String, usize, Vec<Blocker>) {
    if let Some(due_ms) = job.due_time_ms {
        let seconds = due_ms.saturating_sub(now_ms).div_ceil(1_000);
        return (Code::Backoff, format!("Tried again in {seconds} s. {}", job.message), 0, Vec::new());
    }
    let ahead = image.queue_position(job);
    if image.leader.is_none() {
        let message = "No scheduler leads at the moment; the queue clock stands still.".to_owned();
        return (Code::NoLeader, message, ahead + 1, Vec::new());
    }
    let quarantine = image.quarantine_until_ms(lost_after_ms).filter(|until_ms| *until_ms > now_ms);
    if let Some(until_ms) = quarantine.filter(|_| job.on_lost != OnLost::Retry) {
        let seconds = until_ms.saturating_sub(now_ms).div_ceil(1_000);
        let message = format!(
            "The store was restarted; a job that must not run twice waits {seconds} s for executors to be heard of."
        );
        return (Code::Quarantine, message, ahead + 1, Vec::new());
    }
    let nodes = image.nodes();
    let has_room = |is_meant: &dyn Fn(&Node) -> bool| {
        let mut free = nodes.values().filter(|node| node.takes_jobs && is_meant(node));
        free.any(|node| job.demand.fits(&node.capacity, &node.reserved))
    };
    let (code, message) = match explain(&job.demand, nodes.values()) {
        Obstacle::NoExecutors if image.has_executors() => {
            (Code::NoExecutors, "Every executor is lost. See: berth executors.".to_owned())
        }
        Obstacle::NoExecutors => {
            let message = "No executor is registered. Start one: berth executor --schedulers HOST:PORT.";
            (Code::NoExecutors, message.to_owned())
        }
        Obstacle::TooLarge(why) => (Code::TooLarge, format!("{why} {}", too_large_ends(job))),
        Obstacle::Busy { .. } if has_room(&|node| !image.is_kept(&node.id)) => {
            (Code::Queued, format!("Is being placed; {}.", jobs_ahead(ahead)))
        }
        Obstacle::Busy { .. } if has_room(&|_| true) => {
            let message = "Where there is room, it is kept for jobs that have waited longer";
            (Code::Reserved, format!("{message}; {}.", jobs_ahead(ahead)))
        }
        Obstacle::Busy { fitting, out_of_service } => (Code::Busy, busy(fitting, out_of_service, ahead)),
    };
    let blockers = if code == Code::Busy { blockers(job, nodes.values()) } else { Vec::new() };
    (code, message, ahead + 1, blockers)
}

fn busy(fitting: usize, out_of_service: usize, ahead: usize) -> String {
    let executors = if fitting == 1 { "executor" } else { "executors" };
    let state = match out_of_service {
        0 => "none free now".to_owned(),
        1 if fitting == 1 => "which takes no jobs now".to_owned(),
        out if out == fitting => "none of which takes jobs now".to_owned(),
        1 => "none free now, and 1 of them takes no jobs".to_owned(),
        out => format!("none free now, and {out} of them take no jobs"),
    };
    format!("Fits {fitting} {executors}, {state}; {}.", jobs_ahead(ahead))
}

fn jobs_ahead(ahead: usize) -> String {
    format!("{ahead} {} ahead", if ahead == 1 { "job" } else { "jobs" })
}

fn too_large_ends(job: &Job) -> String {
    match queue_limit_ms(job) {
        Some(limit) => format!(
            "It fails in {} s unless a larger one joins; --queue-timeout 0 waits.",
            limit.div_ceil(1_000)
        ),
        None => "It waits until a larger one joins.".to_owned(),
    }
}

/// Counts, for each dimension, the executors that are large enough but have too little of it free.
fn blockers<'a>(job: &Job, nodes: impl Iterator<Item = &'a Node>) -> Vec<Blocker> {
    let mut short: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for node in nodes.filter(|node| job.demand.fits_empty(&node.capacity)) {
        let free_cpu = node.capacity.cpu_millis.saturating_sub(node.reserved.cpu_millis);
        let free_memory = node.capacity.memory_bytes.saturating_sub(node.reserved.memory_bytes);
        let free_gpus = job.demand.usable_gpus(&node.capacity, &node.reserved).count();
        let lacks = [
            ("cpu", free_cpu < job.demand.cpu_millis),
            ("memory", free_memory < job.demand.memory_bytes),
            ("gpu", free_gpus < job.demand.gpu_count as usize),
            ("executor_state", !node.takes_jobs),
        ];
        for (dimension, _) in lacks.into_iter().filter(|(_, lacks)| *lacks) {
            short.entry(dimension).or_default().push(node.id.to_string());
        }
    }
    let blocker = |(dimension, executors): (&str, Vec<String>)| Blocker {
        dimension: dimension.to_owned(),
        executor_count: i32::try_from(executors.len()).unwrap_or(i32::MAX),
        example_executor_ids: executors.into_iter().take(3).collect(),
    };
    short.into_iter().map(blocker).collect()
}
