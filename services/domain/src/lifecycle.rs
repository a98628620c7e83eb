//! The life of a job: turns (record, event, now) into the next record, or says why not. It is the
//! only place that changes a job's state.

use thiserror::Error;

use crate::backoff::{Backoff, INFRASTRUCTURE, OWN_FAILURE};
use crate::ids::{AttemptRef, ExecutorId};
use crate::job::{EndReason, Job, JobState};
use crate::spec::{MAX_INFRASTRUCTURE_RETRIES, OnLost};

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The leader chose an executor and devices.
    Assign {
        /// The chosen executor.
        executor: ExecutorId,
        /// The leader's epoch.
        epoch: u64,
        /// The chosen devices.
        gpu_device_ids: Vec<String>,
    },
    /// The executor reports that the container runs.
    Started {
        /// The attempt that started.
        attempt: AttemptRef,
        /// When the container started.
        at_ms: u64,
    },
    /// The executor reports how an attempt ended.
    Ended(AttemptEnd),
    /// A user wants the job to end.
    AbortRequested {
        /// Grace between SIGTERM and SIGKILL instead of the spec's.
        grace_ms: Option<u64>,
        /// The user's words, for the message; may be empty.
        reason: String,
    },
    /// The job waited longer for an executor than it may.
    QueueTimedOut {
        /// What stood in the way, for the message.
        detail: String,
    },
    /// The time until which the job was held back has come.
    BecameDue,
    /// The executor of the current attempt was judged lost.
    ExecutorLost {
        /// An operator has declared it dead, so that nothing of it runs any more.
        fenced: bool,
        /// A random number of the full range, for the backoff.
        jitter: u32,
    },
    /// The executor of the current attempt is being emptied, and its time for that is over.
    RequeueRequested,
    /// An executor has a newer attempt than the store knows: the store has lost its newest writes.
    Recovered {
        /// The executor that has it.
        executor: ExecutorId,
        /// The attempt.
        attempt: AttemptRef,
        /// Its devices.
        gpu_device_ids: Vec<String>,
        /// When its container started; `None` when it has not.
        started_ms: Option<u64>,
    },
}

/// How an attempt ended, as its executor saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd {
    /// The attempt that ended.
    pub attempt: AttemptRef,
    /// What ended it.
    pub cause: EndCause,
    /// A sentence for people; empty lets the lifecycle write one.
    pub message: String,
    /// When its container started; `None` when it never did.
    pub start_time_ms: Option<u64>,
    /// When it ended.
    pub end_time_ms: u64,
    /// A random number of the full range, for the backoff of a retry.
    pub jitter: u32,
}

/// What ended an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndCause {
    /// The main process exited by itself.
    Exited {
        /// Its exit code.
        code: i32,
        /// The kernel killed something in the container for lack of memory.
        oom: bool,
    },
    /// The executor stopped it because the job was to be aborted.
    Aborted {
        /// The exit code, where there was a process.
        code: Option<i32>,
    },
    /// The executor stopped it because it ran too long.
    RunTimeout {
        /// The exit code.
        code: Option<i32>,
    },
    /// The image does not exist or is denied: trying again cannot help.
    ImageNotFound,
    /// The image could not be pulled now.
    ImagePullFailed,
    /// The executor or its engine failed.
    ExecutorFault,
    /// The spec asks for something the executor refuses.
    Refused,
}

/// The longest message kept of an end, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 2_048;

/// Cuts a message to its limit, at a character's end, and marks the cut.
pub fn shorten_message(message: &str) -> String {
    shorten(message, MAX_MESSAGE_BYTES)
}

/// Cuts a text to so many bytes, at a character's end, and marks the cut.
pub fn shorten(message: &str, most: usize) -> String {
    if message.len() <= most {
        return message.to_owned();
    }
    let mut end = most.saturating_sub("...".len());
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &message[..end])
}

/// Why an event changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// The job has ended; terminal states absorb.
    #[error("the job has ended as {}", .0.name())]
    Ended(JobState),
    /// The event belongs to an attempt that is not the current one.
    #[error("the attempt is not the job's current one")]
    NotCurrent,
    /// The state does not allow the event.
    #[error("the job is {}, which does not allow this", .0.name())]
    State(JobState),
    /// The event changes nothing that is not so already.
    #[error("this is so already")]
    Already,
}

/// Computes the next record. The result keeps the revision of the record it was decided from.
///
/// # Errors
/// Says why the event changes nothing; the stored record then stays as it is.
pub fn apply(job: &Job, event: Event, now_ms: u64) -> Result<Job, Refused> {
    if job.state.is_terminal() {
        return Err(Refused::Ended(job.state));
    }
    match event {
        Event::Assign { executor, epoch, gpu_device_ids } => assign(job, executor, epoch, gpu_device_ids),
        Event::Started { attempt, at_ms } => started(job, &attempt, at_ms),
        Event::Ended(end) => ended(job, end, now_ms),
        Event::AbortRequested { grace_ms, reason } => abort_requested(job, grace_ms, &reason, now_ms),
        Event::QueueTimedOut { detail } => queue_timed_out(job, detail, now_ms),
        Event::BecameDue => became_due(job, now_ms),
        Event::ExecutorLost { fenced, jitter } => executor_lost(job, fenced, jitter, now_ms),
        Event::RequeueRequested => requeue_requested(job),
        Event::Recovered { executor, attempt, gpu_device_ids, started_ms } => {
            recovered(job, executor, attempt, gpu_device_ids, started_ms)
        }
    }
}

fn assign(job: &Job, executor: ExecutorId, epoch: u64, gpu_device_ids: Vec<String>) -> Result<Job, Refused> {
    if job.state != JobState::Pending || job.due_time_ms.is_some() {
        return Err(Refused::State(job.state));
    }
    let mut next = job.clone();
    next.state = JobState::Assigned;
    next.attempt = job.attempt.saturating_add(1);
    next.attempt_epoch = epoch;
    next.executor = Some(executor);
    next.gpu_device_ids = gpu_device_ids;
    next.start_time_ms = None;
    next.exit_code = None;
    next.message = String::new();
    next.stop_unconfirmed = false;
    Ok(next)
}

fn current(job: &Job, attempt: &AttemptRef) -> Result<(), Refused> {
    match job.current_attempt() {
        Some(current) if current == *attempt => Ok(()),
        Some(_) | None => Err(Refused::NotCurrent),
    }
}

fn started(job: &Job, attempt: &AttemptRef, at_ms: u64) -> Result<Job, Refused> {
    current(job, attempt)?;
    if job.state == JobState::Running {
        return Err(Refused::Already);
    }
    let mut next = job.clone();
    next.state = JobState::Running;
    next.start_time_ms = Some(at_ms);
    Ok(next)
}

fn ended(job: &Job, end: AttemptEnd, now_ms: u64) -> Result<Job, Refused> {
    current(job, &end.attempt)?;
    let mut next = job.clone();
    next.start_time_ms = end.start_time_ms.or(job.start_time_ms);
    let said = |fallback: String| if end.message.is_empty() { fallback } else { end.message.clone() };
    let at = end.end_time_ms;
    // What ran, or was asked to, may have done its work: an at-most-once job is not tried again.
    let may_have_started = next.start_time_ms.is_some() || job.state == JobState::Running;
    match end.cause {
        EndCause::Exited { code: 0, .. } => {
            next.exit_code = Some(0);
            finish(next, JobState::Succeeded, EndReason::ExitCode, said("Exited with 0.".into()), at)
        }
        EndCause::Exited { code, oom } => {
            next.exit_code = Some(code);
            let (reason, text) = failed_exit(code, oom);
            own_failure(next, reason, said(text), at, now_ms, end.jitter)
        }
        EndCause::Aborted { .. } if job.requeue_requested && !job.abort_requested => {
            requeue(next, may_have_started, at, now_ms, end.jitter)
        }
        EndCause::Aborted { code } => {
            next.exit_code = code;
            let text =
                if job.message.is_empty() { "Aborted by a user.".to_owned() } else { job.message.clone() };
            finish(next, JobState::Aborted, EndReason::AbortedByUser, said(text), at)
        }
        EndCause::RunTimeout { code } => {
            next.exit_code = code;
            own_failure(
                next,
                EndReason::RunTimeout,
                said("Ran longer than its run timeout.".into()),
                at,
                now_ms,
                end.jitter,
            )
        }
        EndCause::ImageNotFound => finish(
            next,
            JobState::Failed,
            EndReason::ImageNotFound,
            said("The image was not found.".into()),
            at,
        ),
        EndCause::Refused => finish(
            next,
            JobState::Failed,
            EndReason::RefusedByPolicy,
            said("Refused by the executor's policy.".into()),
            at,
        ),
        EndCause::ImagePullFailed => {
            let fault = Fault {
                reason: EndReason::ImagePullFailed,
                message: said("The image could not be pulled.".into()),
                may_have_started,
            };
            infrastructure_fault(next, fault, at, now_ms, end.jitter)
        }
        EndCause::ExecutorFault => {
            let fault = Fault {
                reason: EndReason::ExecutorFault,
                message: said("The executor or its container engine failed.".into()),
                may_have_started,
            };
            infrastructure_fault(next, fault, at, now_ms, end.jitter)
        }
    }
}

/// Reads an exit code other than 0. An OOM in a child leaves the main process's own code; 137 is the
/// kernel's SIGKILL.
fn failed_exit(code: i32, oom: bool) -> (EndReason, String) {
    if oom && code == 137 {
        (EndReason::OomKilled, "Killed: out of memory.".to_owned())
    } else {
        (EndReason::ExitCode, format!("Exited with {code}."))
    }
}

fn abort_requested(job: &Job, grace_ms: Option<u64>, reason: &str, now_ms: u64) -> Result<Job, Refused> {
    if job.abort_requested {
        // A later wish may only leave it less time. Without a grace of its own, a stop has the spec's.
        return match (grace_ms, job.abort_grace_ms) {
            (None, _) => Err(Refused::Already),
            (Some(wanted), Some(known)) if known <= wanted => Err(Refused::Already),
            (Some(_), _) => Ok(Job { abort_grace_ms: grace_ms, ..job.clone() }),
        };
    }
    let mut next = job.clone();
    next.abort_requested = true;
    next.abort_grace_ms = grace_ms;
    next.message = if reason.is_empty() {
        "Aborted by a user.".to_owned()
    } else {
        format!("Aborted by a user: {reason}")
    };
    match job.state {
        JobState::Pending => {
            let mut message = next.message.clone();
            if next.stop_unconfirmed {
                message.push_str(" Its executor was lost, so the stop of its last attempt is unconfirmed.");
            }
            finish(next, JobState::Aborted, EndReason::AbortedByUser, message, now_ms)
        }
        JobState::Assigned | JobState::Running => Ok(next),
        JobState::Succeeded | JobState::Failed | JobState::Aborted => Err(Refused::Ended(job.state)),
    }
}

fn queue_timed_out(job: &Job, detail: String, now_ms: u64) -> Result<Job, Refused> {
    if job.state != JobState::Pending || job.due_time_ms.is_some() {
        return Err(Refused::State(job.state));
    }
    finish(job.clone(), JobState::Failed, EndReason::QueueTimeout, detail, now_ms)
}

fn became_due(job: &Job, now_ms: u64) -> Result<Job, Refused> {
    match job.due_time_ms {
        Some(due) if due <= now_ms => {
            let mut next = job.clone();
            next.due_time_ms = None;
            next.ready_time_ms = now_ms;
            Ok(next)
        }
        Some(_) => Err(Refused::State(job.state)),
        None => Err(Refused::Already),
    }
}

fn requeue_requested(job: &Job) -> Result<Job, Refused> {
    if job.current_attempt().is_none() {
        return Err(Refused::State(job.state));
    }
    if job.is_to_stop() {
        return Err(Refused::Already);
    }
    Ok(Job { requeue_requested: true, ..job.clone() })
}

/// Puts back what was stopped to empty its executor; no retry is counted for that.
fn requeue(
    mut next: Job,
    may_have_started: bool,
    at_ms: u64,
    now_ms: u64,
    jitter: u32,
) -> Result<Job, Refused> {
    let executor = next.executor.as_ref().map_or_else(String::new, |id| format!(" {id}"));
    if next.on_lost == OnLost::Fail && may_have_started {
        let message = format!(
            "Stopped as executor{executor} was drained; it may start only once, so it is not tried again."
        );
        return finish(next, JobState::Failed, EndReason::ExecutorFault, message, at_ms);
    }
    next.avoid_executor = next.executor.clone();
    let message = format!("Stopped as executor{executor} was drained.");
    Ok(put_back(next, message, INFRASTRUCTURE, 0, now_ms, jitter))
}

fn recovered(
    job: &Job,
    executor: ExecutorId,
    attempt: AttemptRef,
    gpu_device_ids: Vec<String>,
    started_ms: Option<u64>,
) -> Result<Job, Refused> {
    if (attempt.number, attempt.epoch) <= (job.attempt, job.attempt_epoch) {
        return Err(Refused::NotCurrent);
    }
    let mut next = job.clone();
    next.state = if started_ms.is_some() { JobState::Running } else { JobState::Assigned };
    next.attempt = attempt.number;
    next.attempt_epoch = attempt.epoch;
    next.executor = Some(executor);
    next.gpu_device_ids = gpu_device_ids;
    next.start_time_ms = started_ms;
    next.due_time_ms = None;
    next.requeue_requested = false;
    next.stop_unconfirmed = false;
    Ok(next)
}

fn executor_lost(job: &Job, fenced: bool, jitter: u32, now_ms: u64) -> Result<Job, Refused> {
    if job.current_attempt().is_none() {
        return Err(Refused::State(job.state));
    }
    let mut next = job.clone();
    let executor = job.executor.as_ref().map_or_else(String::new, |id| format!(" {id}"));
    if job.abort_requested {
        next.stop_unconfirmed = true;
        let message = format!("Aborted; executor{executor} was lost, so its stop is unconfirmed.");
        return finish(next, JobState::Aborted, EndReason::AbortedByUser, message, now_ms);
    }
    let message = if fenced {
        format!("Executor{executor} was fenced.")
    } else {
        format!("Executor{executor} was lost.")
    };
    match job.on_lost {
        OnLost::Hold if !fenced => Err(Refused::State(job.state)),
        OnLost::Retry | OnLost::Hold => {
            let fault = Fault { reason: EndReason::ExecutorLost, message, may_have_started: true };
            let mut next = infrastructure_fault(next, fault, now_ms, now_ms, jitter)?;
            // An abort before the next attempt cannot promise that nothing of this one runs.
            next.stop_unconfirmed = !fenced && next.state == JobState::Pending;
            Ok(next)
        }
        OnLost::Fail => finish(next, JobState::Failed, EndReason::ExecutorLost, message, now_ms),
    }
}

fn finish(
    mut next: Job,
    state: JobState,
    reason: EndReason,
    message: String,
    at_ms: u64,
) -> Result<Job, Refused> {
    next.state = state;
    next.stop_unconfirmed &= state == JobState::Aborted;
    next.end_reason = Some(reason);
    next.message = message;
    // The end never lies before the submit, whatever an executor's clock says.
    next.end_time_ms = Some(at_ms.max(next.create_time_ms));
    next.due_time_ms = None;
    Ok(next)
}

/// A failure of the job itself: counts against `max_retries`.
fn own_failure(
    mut next: Job,
    reason: EndReason,
    message: String,
    at_ms: u64,
    now_ms: u64,
    jitter: u32,
) -> Result<Job, Refused> {
    if next.abort_requested {
        return finish(next, JobState::Aborted, EndReason::AbortedByUser, message, at_ms);
    }
    if next.own_retries >= next.max_retries {
        return finish(next, JobState::Failed, reason, message, at_ms);
    }
    let retry = next.own_retries;
    next.own_retries += 1;
    Ok(put_back(next, message, OWN_FAILURE, retry, now_ms, jitter))
}

struct Fault {
    reason: EndReason,
    message: String,
    may_have_started: bool,
}

/// A failure that is not the job's: counts against a budget of its own.
fn infrastructure_fault(
    mut next: Job,
    fault: Fault,
    at_ms: u64,
    now_ms: u64,
    jitter: u32,
) -> Result<Job, Refused> {
    if next.abort_requested {
        return finish(next, JobState::Aborted, EndReason::AbortedByUser, fault.message, at_ms);
    }
    let forbidden = next.on_lost == OnLost::Fail && fault.may_have_started;
    if forbidden || next.infrastructure_retries >= MAX_INFRASTRUCTURE_RETRIES {
        return finish(next, JobState::Failed, fault.reason, fault.message, at_ms);
    }
    let retry = next.infrastructure_retries;
    next.infrastructure_retries += 1;
    next.avoid_executor = next.executor.clone();
    Ok(put_back(next, fault.message, INFRASTRUCTURE, retry, now_ms, jitter))
}

fn put_back(mut next: Job, message: String, backoff: Backoff, retry: u32, now_ms: u64, jitter: u32) -> Job {
    next.state = JobState::Pending;
    next.executor = None;
    next.gpu_device_ids = Vec::new();
    next.start_time_ms = None;
    next.requeue_requested = false;
    next.due_time_ms = Some(now_ms.saturating_add(backoff.wait_ms(retry, jitter)));
    next.message = message;
    next
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
