//! Why a job waits, executor by executor, or what would become of one: by the engine that places jobs.

use std::time::Duration;

use berth_api::convert::job_id;
use berth_api::status::Problem;
use berth_api::v1;
use berth_api::v1::explain_job_response::Verdict;
use berth_api::v1::pending_reason::Code;
use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::job::{Job, JobIndex, JobState};
use berth_domain::placement::{Opening, Trial, fit, sentence};

use super::pending::{jobs_ahead, pending_reason};
use super::{show, submit};
use crate::context::Context;
use crate::feed::reached;
use crate::image::Image;

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

/// Explains a job, or what would become of a spec.
///
/// # Errors
/// Fails when there is no such job, the spec is refused, or the store fails.
pub async fn explain(
    context: &Context,
    request: v1::ExplainJobRequest,
) -> Result<v1::ExplainJobResponse, Problem> {
    let subject = subject(context, request).await?;
    let head = context.store.head().await.map_err(|e| context.problem(&e))?;
    context.note_answer();
    if !reached(context, head, CATCH_UP).await {
        tracing::debug!("explained although the image is behind the store");
    }
    let times = (context.clock.now_ms(), context.config.lost_after_ms());
    // One at a time: each looks at the whole queue while nobody else may.
    let _turn = context.trials.lock().await;
    Ok(context.with_image_mut(|image| answer(image, &subject, times)))
}

async fn subject(context: &Context, request: v1::ExplainJobRequest) -> Result<Subject, Problem> {
    let job = match (request.id.is_empty(), request.spec) {
        (true, None) => return Err(Problem::field("id", "id or spec is required")),
        (false, Some(_)) => return Err(Problem::field("spec", "must not be set together with id")),
        (true, spec) => return Ok(Subject::Ready(submit::candidate(context, spec)?)),
        (false, None) => show::load(context, &job_id("id", &request.id)?).await?,
    };
    Ok(match job.index() {
        JobIndex::Pending => Subject::Ready(job),
        JobIndex::Delayed(_) => Subject::Delayed(job),
        JobIndex::Assigned(executor) => Subject::Placed(job, executor),
        JobIndex::Finished(_) => Subject::Ready(as_if_new(&job, context.clock.now_ms())),
    })
}

/// An ended job as if it were submitted again.
fn as_if_new(job: &Job, now_ms: u64) -> Job {
    Job {
        state: JobState::Pending,
        create_time_ms: now_ms,
        ready_time_ms: now_ms,
        attempt: 0,
        avoid_executor: None,
        ..job.clone()
    }
}

fn answer(image: &mut Image, subject: &Subject, times: (u64, u64)) -> v1::ExplainJobResponse {
    let trial = match subject {
        // Where nobody leads, nothing is placed.
        Subject::Ready(job) if image.leader.is_some() => image.try_out(job, times.0, times.1),
        Subject::Ready(_) | Subject::Delayed(_) | Subject::Placed(..) => Trial::default(),
    };
    let (job, here) = match subject {
        Subject::Ready(job) => (job, trial.choice.as_ref().map(|choice| &choice.executor)),
        Subject::Delayed(job) => (job, None),
        Subject::Placed(job, executor) => (job, Some(executor)),
    };
    let reason = here.is_none().then(|| reason(image, job, times, &trial));
    v1::ExplainJobResponse {
        reason,
        verdicts: verdicts(image, job, here, &trial.reserved),
        executor_id: here.map(ExecutorId::to_string).unwrap_or_default(),
    }
}

fn reason(image: &Image, job: &Job, times: (u64, u64), trial: &Trial) -> v1::PendingReason {
    let is_kept = |executor: &ExecutorId| trial.reserved.iter().any(|(_, kept)| kept == executor);
    let mut reason = pending_reason(image, job, times, &is_kept);
    match (reason.code(), &trial.opening) {
        // There is room, but the round gave it to others.
        (Code::Queued, _) => {
            let ahead = image.queue_position(job);
            reason.message = format!("Where there is room, it goes to others first; {}.", jobs_ahead(ahead));
        }
        (Code::Busy, Some(opening)) => {
            reason.message = format!("{} {}", reason.message, show_opening(opening, times.0));
        }
        _ => {}
    }
    reason
}

fn show_opening(opening: &Opening, now_ms: u64) -> String {
    let jobs = if opening.jobs == 1 { "job there has" } else { "jobs there have" };
    let until = opening.by_ms.map(|by_ms| by_ms.saturating_sub(now_ms).div_ceil(1_000));
    let until = until.map(|seconds| format!(", in {seconds} s at the latest")).unwrap_or_default();
    format!("It fits {} once {} {jobs} ended{until}.", opening.executor, opening.jobs)
}

fn verdicts(
    image: &Image,
    job: &Job,
    here: Option<&ExecutorId>,
    kept: &[(JobId, ExecutorId)],
) -> Vec<Verdict> {
    let nodes = image.nodes();
    let verdict = |executor: &Executor| {
        let id = &executor.id;
        let Some(node) = nodes.get(id) else {
            return Verdict {
                executor_id: id.to_string(),
                message: sentence(lost(executor)),
                ..Verdict::default()
            };
        };
        let fit = fit(&job.demand, node);
        let is_here = here == Some(id);
        let kept_for = kept.iter().find(|(_, executor)| executor == id).map(|(for_whom, _)| for_whom);
        let mut message = Vec::new();
        if !is_here {
            if !node.takes_jobs {
                message.push(sentence(&takes_none(executor)));
            }
            match kept_for {
                Some(kept_for) if *kept_for == job.id => message.push("It is kept for this job.".to_owned()),
                Some(kept_for) if fit.empty => {
                    message.push(format!("It is kept for {kept_for}, which has waited longer."));
                }
                Some(_) | None => {}
            }
            message.extend(Some(fit.short).filter(|short| !short.is_empty()));
        }
        Verdict {
            executor_id: id.to_string(),
            fits_now: is_here || (fit.now && node.takes_jobs && kept_for.is_none()),
            fits_empty: is_here || fit.empty,
            message: message.join(" "),
        }
    };
    image.executors().map(|executor| verdict(executor)).collect()
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
