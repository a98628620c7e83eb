//! Turns an executor's reports into commits. A report is answered only once the store has it, or
//! has shown that its attempt is not the current one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_api::convert::{attempt_end_from_wire, attempt_from_wire, timestamp_ms};
use berth_api::status::Problem;
use berth_api::v1;
use berth_domain::ids::{ExecutorId, JobId, SessionId};
use berth_domain::job::Job;
use berth_domain::lifecycle::{Event, Refused, apply};
use berth_store::{Conflict, MAX_MUTATIONS, Mutation, StoreError, Verdict};

use super::updates::UpdateClient;
use crate::context::Context;
use crate::entropy::jitter;

/// How often a report that lost a race is decided again before the executor has to repeat it.
const TRIES: u32 = 5;

/// Why reports of a session cannot be taken.
#[derive(Debug)]
pub enum ReportError {
    /// The session is not the executor's current one.
    SessionOver,
    /// The store failed; the executor repeats what was not acknowledged.
    Store(StoreError),
}

/// Jobs as a session has committed them itself, until they end: what this replica's image shows may be older.
pub type Recent = BTreeMap<JobId, Arc<Job>>;

/// Who reports.
#[derive(Debug, Clone, Copy)]
pub struct Speaker<'a> {
    /// The executor.
    pub executor: &'a ExecutorId,
    /// Its session.
    pub session: &'a SessionId,
    /// The store's generation that the session belongs to; reports come to nothing in another one.
    pub generation: u64,
}

struct Report {
    number: i64,
    attempt: berth_domain::ids::AttemptRef,
    event: Event,
}

/// Commits reports; gives the acknowledgement of each that is settled.
///
/// # Errors
/// Fails when the session is over or the store fails; reports settled before that are repeated by
/// the executor, which changes nothing.
pub async fn commit_reports(
    context: &Context,
    updates: &UpdateClient,
    speaker: Speaker<'_>,
    recent: &mut Recent,
    reports: &[v1::session_request::Report],
) -> Result<Vec<v1::session_response::ReportAck>, ReportError> {
    let mut acks = Vec::with_capacity(reports.len());
    let mut open = Vec::new();
    for report in reports {
        match read(context, report) {
            Ok(report) => open.push(report),
            Err(problem) => {
                // Repeating it cannot help, so the executor must not.
                tracing::warn!(executor_id = %speaker.executor, %problem, "malformed report");
                acks.push(v1::session_response::ReportAck { number: report.number, current: false });
            }
        }
    }
    for turn in 0..TRIES {
        if open.is_empty() {
            break;
        }
        let mut left = Vec::new();
        while !open.is_empty() {
            let chunk: Vec<Report> = open.drain(..open.len().min(MAX_MUTATIONS)).collect();
            let ids: Vec<JobId> = chunk.iter().map(|report| report.attempt.job.clone()).collect();
            // What is known here does at first; the store alone can say that a report comes to nothing.
            let jobs = if turn == 0 {
                known(context, recent, speaker.generation, &ids)
            } else {
                read_jobs(context, speaker.generation, &ids).await?
            };
            let (decided, undecided) = decide(context, speaker.executor, jobs, chunk, turn > 0, &mut acks);
            left.extend(undecided);
            left.extend(commit(updates, speaker, recent, decided, &mut acks).await?);
        }
        open = left;
    }
    Ok(acks)
}

/// Jobs of a generation as this replica knows them without asking.
fn known(context: &Context, recent: &Recent, generation: u64, ids: &[JobId]) -> BTreeMap<JobId, Arc<Job>> {
    context.with_image(|image| {
        if image.position.generation != generation {
            return BTreeMap::new();
        }
        let newest = |id: &JobId| {
            let (shown, committed) = (image.job(id), recent.get(id));
            shown.into_iter().chain(committed).max_by_key(|job| job.revision).cloned()
        };
        ids.iter().filter_map(newest).map(|job| (job.id.clone(), job)).collect()
    })
}

/// Jobs of a generation as the store has them.
async fn read_jobs(
    context: &Context,
    generation: u64,
    ids: &[JobId],
) -> Result<BTreeMap<JobId, Arc<Job>>, ReportError> {
    let stored = context.store.jobs(ids).await.map_err(ReportError::Store)?;
    let meta = context.store.meta().await.map_err(ReportError::Store)?;
    if meta.position.generation != generation {
        return Err(ReportError::SessionOver);
    }
    Ok(stored.into_iter().flatten().map(|job| (job.id.clone(), Arc::new(job))).collect())
}

fn read(context: &Context, report: &v1::session_request::Report) -> Result<Report, Problem> {
    let attempt = attempt_from_wire(report.r#ref.as_ref())?;
    let event = match &report.result {
        Some(result) => Event::Ended(attempt_end_from_wire(result, jitter(context.entropy.as_ref()))?),
        None if report.state == i32::from(v1::JobState::Running) => {
            Event::Started { attempt: attempt.clone(), at_ms: report_time_ms(context, report) }
        }
        None => return Err(Problem::field("state", "must be RUNNING, or come with a result")),
    };
    if let Event::Ended(end) = &event
        && end.attempt != attempt
    {
        return Err(Problem::field("result.ref", "must name the report's attempt"));
    }
    Ok(Report { number: report.number, attempt, event })
}

/// The start that the executor saw, where it says so; else the time of its report.
fn report_time_ms(context: &Context, report: &v1::session_request::Report) -> u64 {
    let said = report.result.as_ref().and_then(|result| result.start_time.as_ref()).map(timestamp_ms);
    said.unwrap_or_else(|| context.clock.now_ms())
}

/// What follows from reports.
#[derive(Default)]
struct Decided {
    changed: BTreeMap<JobId, Arc<Job>>,
    /// The reports that it follows from.
    by: Vec<Report>,
}

/// Decides what follows from reports; gives back those of which it cannot be told yet, unless the jobs are the
/// store's own.
fn decide(
    context: &Context,
    executor: &ExecutorId,
    mut jobs: BTreeMap<JobId, Arc<Job>>,
    chunk: Vec<Report>,
    is_final: bool,
    acks: &mut Vec<v1::session_response::ReportAck>,
) -> (Decided, Vec<Report>) {
    let (mut decided, mut undecided) = (Decided::default(), Vec::new());
    let now_ms = context.clock.now_ms();
    for report in chunk {
        let next = match jobs.get(&report.attempt.job) {
            // An executor speaks for its own jobs alone.
            Some(job) if job.executor.as_ref() == Some(executor) => apply(job, report.event.clone(), now_ms),
            Some(_) | None => Err(Refused::NotCurrent),
        };
        match next {
            Ok(next) => {
                // Two reports of one job in a call build on each other.
                let next = Arc::new(next);
                jobs.insert(next.id.clone(), Arc::clone(&next));
                decided.changed.insert(next.id.clone(), next);
                decided.by.push(report);
            }
            Err(_) if !is_final => undecided.push(report),
            Err(Refused::Already) => ack(acks, report.number, true),
            Err(Refused::NotCurrent | Refused::Ended(_) | Refused::State(_)) => {
                let current = jobs.get(&report.attempt.job).is_some_and(|job| settled(job, &report));
                ack(acks, report.number, current);
            }
        }
    }
    (decided, undecided)
}

/// Commits what was decided; gives back what lost a race.
async fn commit(
    updates: &UpdateClient,
    Speaker { executor, session, generation }: Speaker<'_>,
    recent: &mut Recent,
    decided: Decided,
    acks: &mut Vec<v1::session_response::ReportAck>,
) -> Result<Vec<Report>, ReportError> {
    let Decided { changed, by } = decided;
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let mutations = changed.values().map(|job| Mutation::Update {
        attempt: Some((job_attempt(job, &by), job_epoch(job, &by))),
        session: Some((executor.clone(), session.clone())),
        job: Arc::clone(job),
    });
    let verdicts = updates.commit(generation, mutations.collect()).await.map_err(ReportError::Store)?;
    let mut applied = BTreeSet::new();
    for (job, verdict) in changed.into_values().zip(verdicts) {
        recent.remove(&job.id);
        match verdict {
            Verdict::Applied(revision) => {
                applied.insert(job.id.clone());
                if !job.state.is_terminal() {
                    let stored = Job { revision, ..Arc::unwrap_or_clone(job) };
                    recent.insert(stored.id.clone(), Arc::new(stored));
                }
            }
            Verdict::Conflict(Conflict::Session) => return Err(ReportError::SessionOver),
            Verdict::Conflict(_) | Verdict::Existing(_) => {}
        }
    }
    let mut again = Vec::new();
    for report in by {
        if applied.contains(&report.attempt.job) {
            ack(acks, report.number, true);
        } else {
            again.push(report);
        }
    }
    Ok(again)
}

fn ack(acks: &mut Vec<v1::session_response::ReportAck>, number: i64, current: bool) {
    acks.push(v1::session_response::ReportAck { number, current });
}

/// Says whether the stored record already holds what the report says: a repeated report whose
/// first copy was committed, its acknowledgement lost.
fn settled(job: &Job, report: &Report) -> bool {
    job.last_attempt() == report.attempt && job.state.is_terminal()
}

fn job_attempt(job: &Job, reports: &[Report]) -> u32 {
    reports
        .iter()
        .find(|report| report.attempt.job == job.id)
        .map_or(job.attempt, |report| report.attempt.number)
}

fn job_epoch(job: &Job, reports: &[Report]) -> u64 {
    reports
        .iter()
        .find(|report| report.attempt.job == job.id)
        .map_or(job.attempt_epoch, |report| report.attempt.epoch)
}
