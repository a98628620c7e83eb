//! Why a job waits, executor by executor, or what would become of one: by the engine that places jobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_api::convert::job_id;
use berth_api::status::Problem;
use berth_api::v1;
use berth_api::v1::explain_job_response::Verdict;
use berth_api::v1::pending_reason::Code;
use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::job::{Job, JobIndex, JobState};
use berth_domain::placement::{Node, Opening, Trial, fit, sentence};

use super::pending::{Reasons, jobs_ahead};
use super::{show, submit};
use crate::context::Context;
use crate::feed::reached;
use crate::image::{Image, queue_limit_ms};

/// How long to wait until the image shows all that was stored before the call.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What is explained.
enum Subject {
    /// A job that is ready, or would be if it were submitted now.
    Ready(Job),
    /// A job that is held back.
    Delayed(Job),
    /// A job that has its executor.
    Placed(Job, ExecutorId),
}

/// What there is to tell, as of one moment.
struct Seen {
    job: Job,
    /// The executor that the job has or would get.
    here: Option<ExecutorId>,
    reason: Option<v1::PendingReason>,
    executors: Vec<Arc<Executor>>,
    nodes: BTreeMap<ExecutorId, Node>,
    /// Executors that are kept, each for a job.
    kept: BTreeMap<ExecutorId, JobId>,
}

/// Explains a job, or what would become of a spec.
///
/// # Errors
/// Fails when there is no such job, the spec is refused, or the store fails.
pub async fn explain(
    context: &Context,
    request: v1::ExplainJobRequest,
) -> Result<v1::ExplainJobResponse, Problem> {
    let job = match (request.id.is_empty(), request.spec) {
        (true, None) => return Err(Problem::field("id", "id or spec is required")),
        (false, Some(_)) => return Err(Problem::field("spec", "must not be set together with id")),
        (true, spec) => submit::candidate(context, spec)?,
        (false, None) => show::load(context, &job_id("id", &request.id)?).await?,
    };
    let head = context.store.head().await.map_err(|e| context.problem(&e))?;
    context.note_answer();
    if !reached(context, head, CATCH_UP).await {
        tracing::debug!("explained although the image is behind the store");
    }
    // One at a time: each may look at the whole queue while nobody else may.
    let seen = {
        let _turn = context.trials.lock().await;
        let times = (context.clock.now_ms(), context.config.lost_after_ms());
        context.with_image_mut(|image| look(image, job, times))
    };
    Ok(v1::ExplainJobResponse {
        verdicts: seen.executors.iter().map(|executor| verdict(&seen, executor)).collect(),
        executor_id: seen.here.map(|id| id.to_string()).unwrap_or_default(),
        reason: seen.reason,
    })
}

/// The job as the image knows it, whose record may be newer; one that has ended as if it were submitted again.
fn subject(image: &Image, record: Job, now_ms: u64) -> Subject {
    let known = image.job(&record.id).filter(|known| known.revision >= record.revision);
    let job = known.map_or(record, |known| Job::clone(known));
    match job.index() {
        JobIndex::Pending => Subject::Ready(job),
        JobIndex::Delayed(_) => Subject::Delayed(job),
        JobIndex::Assigned(executor) => Subject::Placed(job, executor),
        JobIndex::Finished(_) => Subject::Ready(Job {
            state: JobState::Pending,
            create_time_ms: now_ms,
            ready_time_ms: now_ms,
            attempt: 0,
            avoid_executor: None,
            ..job
        }),
    }
}

fn look(image: &mut Image, record: Job, times: (u64, u64)) -> Seen {
    let subject = subject(image, record, times.0);
    let trial = match &subject {
        // Where nobody leads, nothing is placed.
        Subject::Ready(job) if image.leader.is_some() => Some(image.try_out(job, times.0, times.1)),
        Subject::Ready(_) | Subject::Delayed(_) | Subject::Placed(..) => None,
    };
    let (job, here) = match subject {
        Subject::Ready(job) => (
            job,
            trial.as_ref().and_then(|trial| trial.choice.as_ref()).map(|choice| choice.executor.clone()),
        ),
        Subject::Delayed(job) => (job, None),
        Subject::Placed(job, executor) => (job, Some(executor)),
    };
    let kept = match &trial {
        Some(trial) => trial.reserved.iter().map(|(job, executor)| (executor.clone(), job.clone())).collect(),
        None => image.kept().clone(),
    };
    let reason = here.is_none().then(|| reason(image, &job, times, &kept, trial.as_ref()));
    Seen { reason, executors: image.executors().cloned().collect(), nodes: image.nodes(), job, here, kept }
}

fn reason(
    image: &Image,
    job: &Job,
    times: (u64, u64),
    kept: &BTreeMap<ExecutorId, JobId>,
    trial: Option<&Trial>,
) -> v1::PendingReason {
    let mut reason = Reasons::new(image, times, &|executor| kept.contains_key(executor)).of(job);
    match (reason.code(), trial.and_then(|trial| trial.opening.as_ref())) {
        // There is room, but the round gave it to others.
        (Code::Queued, _) => {
            let ahead = match image.queue_position(job) {
                0 => "to namespaces that have less of the cluster".to_owned(),
                ahead => format!("to others; {}", jobs_ahead(ahead)),
            };
            reason.message = format!("Where there is room, it goes first {ahead}.");
        }
        (Code::Busy, Some(opening)) => {
            let is_next = image.queue_position(job) == 0;
            reason.message = format!("{} {}", reason.message, show_opening(opening, times.0, is_next));
        }
        _ => {}
    }
    if let (Code::Queued | Code::Busy | Code::Reserved, Some(limit_ms)) = (reason.code(), queue_limit_ms(job))
    {
        let seconds = limit_ms.div_ceil(1_000);
        reason.message = format!("{} It fails once it has waited for {seconds} s.", reason.message);
    }
    reason
}

fn show_opening(opening: &Opening, now_ms: u64, is_next: bool) -> String {
    let jobs = if opening.jobs == 1 { "job there has" } else { "jobs there have" };
    let until = opening.by_ms.map(|by_ms| by_ms.saturating_sub(now_ms).div_ceil(1_000));
    let until = until.map(|seconds| format!(", in {seconds} s at the latest")).unwrap_or_default();
    let Opening { executor, jobs: count, .. } = opening;
    if is_next {
        format!("It fits {executor} once {count} {jobs} ended{until}.")
    } else {
        format!("Room comes first on {executor}, once {count} {jobs} ended{until}; those ahead go first.")
    }
}

fn verdict(seen: &Seen, executor: &Executor) -> Verdict {
    let executor_id = executor.id.to_string();
    let Some(node) = seen.nodes.get(&executor.id) else {
        return Verdict { executor_id, message: sentence(lost(executor)), ..Verdict::default() };
    };
    if seen.here.as_ref() == Some(&executor.id) {
        return Verdict { executor_id, fits_now: true, fits_empty: true, message: String::new() };
    }
    let fit = fit(&seen.job.demand, node);
    let kept_for = seen.kept.get(&executor.id);
    let mut message = Vec::new();
    if !node.takes_jobs {
        message.push(sentence(&takes_none(executor)));
    }
    match kept_for {
        Some(kept_for) if *kept_for == seen.job.id => message.push("It is kept for this job.".to_owned()),
        Some(kept_for) if fit.empty => message.push(format!("It is kept for {kept_for}.")),
        Some(_) | None => {}
    }
    message.extend(Some(fit.short).filter(|short| !short.is_empty()));
    Verdict {
        executor_id,
        fits_now: fit.now && node.takes_jobs && kept_for.is_none(),
        fits_empty: fit.empty,
        message: message.join(" "),
    }
}

fn lost(executor: &Executor) -> &'static str {
    if executor.fenced { "it was fenced by an operator" } else { "it is lost" }
}

fn takes_none(executor: &Executor) -> String {
    match (&executor.drain, &executor.not_ready) {
        (Some(_), _) => "it is drained".to_owned(),
        (None, _) if executor.restarting => "it restarts".to_owned(),
        (None, Some(why)) => format!("it is not ready: {}", why.trim_end_matches('.')),
        (None, None) => "it is out of touch".to_owned(),
    }
}
