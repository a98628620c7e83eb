//! Turns an executor's reports into commits. A report is answered only once the store has it, or
//! has shown that its attempt is not the current one.

use std::collections::BTreeMap;

use berth_api::convert::{attempt_end_from_wire, attempt_from_wire, timestamp_ms};
use berth_api::status::Problem;
use berth_api::v1;
use berth_domain::ids::{ExecutorId, JobId, SessionId};
use berth_domain::job::Job;
use berth_domain::lifecycle::{Event, Refused, apply};
use berth_store::{Call, Conflict, MAX_MUTATIONS, Mutation, StoreError, Verdict};

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
    executor: &ExecutorId,
    session: &SessionId,
    reports: &[v1::session_request::Report],
) -> Result<Vec<v1::session_response::ReportAck>, ReportError> {
    let mut acks = Vec::with_capacity(reports.len());
    let mut open = Vec::new();
    for report in reports {
        match read(context, report) {
            Ok(report) => open.push(report),
            Err(problem) => {
                // Repeating it cannot help, so the executor must not.
                tracing::warn!(executor_id = %executor, %problem, "malformed report");
                acks.push(v1::session_response::ReportAck { number: report.number, current: false });
            }
        }
    }
    for _ in 0..TRIES {
        if open.is_empty() {
            break;
        }
        let mut left = Vec::new();
        while !open.is_empty() {
            let chunk: Vec<Report> = open.drain(..open.len().min(MAX_MUTATIONS)).collect();
            left.extend(commit_chunk(context, executor, session, chunk, &mut acks).await?);
        }
        open = left;
    }
    Ok(acks)
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

/// Commits one call; gives back what lost a race.
async fn commit_chunk(
    context: &Context,
    executor: &ExecutorId,
    session: &SessionId,
    chunk: Vec<Report>,
    acks: &mut Vec<v1::session_response::ReportAck>,
) -> Result<Vec<Report>, ReportError> {
    let generation = context.generation();
    let ids: Vec<JobId> = chunk.iter().map(|report| report.attempt.job.clone()).collect();
    let stored = context.store.jobs(&ids).await.map_err(ReportError::Store)?;
    // Two reports of one job in a call build on each other.
    let mut jobs: BTreeMap<JobId, Job> =
        stored.into_iter().flatten().map(|job| (job.id.clone(), job)).collect();
    let mut changed: BTreeMap<JobId, Job> = BTreeMap::new();
    let mut deciding = Vec::new();
    for report in chunk {
        let now_ms = context.clock.now_ms();
        let decided = match jobs.get(&report.attempt.job) {
            // An executor speaks for its own jobs alone.
            Some(job) if job.executor.as_ref() == Some(executor) => apply(job, report.event.clone(), now_ms),
            Some(_) | None => Err(Refused::NotCurrent),
        };
        match decided {
            Ok(next) => {
                jobs.insert(next.id.clone(), next.clone());
                changed.insert(next.id.clone(), next);
                deciding.push(report);
            }
            Err(Refused::Already) => ack(acks, report.number, true),
            Err(Refused::NotCurrent | Refused::Ended(_) | Refused::State(_)) => {
                let current = jobs.get(&report.attempt.job).is_some_and(|job| settled(job, &report));
                ack(acks, report.number, current);
            }
        }
    }
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let order: Vec<JobId> = changed.keys().cloned().collect();
    let mutations = changed.into_values().map(|job| Mutation::Update {
        attempt: Some((job_attempt(&job, &deciding), job_epoch(&job, &deciding))),
        session: Some((executor.clone(), session.clone())),
        job: Box::new(job),
    });
    let call = Call { leader: None, generation: Some(generation), mutations: mutations.collect() };
    let committed = context.commit(call).await.map_err(ReportError::Store)?;
    let verdicts: BTreeMap<JobId, Verdict> = order.into_iter().zip(committed.verdicts).collect();
    let mut again = Vec::new();
    for report in deciding {
        match verdicts.get(&report.attempt.job) {
            Some(Verdict::Applied(_)) => ack(acks, report.number, true),
            Some(Verdict::Conflict(Conflict::Session)) => return Err(ReportError::SessionOver),
            Some(Verdict::Conflict(_) | Verdict::Existing(_)) | None => again.push(report),
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
