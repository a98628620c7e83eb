//! From lines to a history.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::sync::Arc;

use berth_domain::constraint::Constraint;
use berth_domain::executor::{Drain, Executor, ExecutorState};
use berth_domain::ids::{AttemptRef, ExecutorId, JobId, Namespace, SchedulerId, SessionId};
use berth_domain::job::{EndReason, JOB_STATES, Job, JobState};
use berth_domain::resources::{Capacity, Demand, GpuDevice, Reserved};
use berth_domain::spec::{Clocks, JobSpec, Network, OnLost, PullPolicy, Reuse};
use berth_store::{Change, Scope};

use super::FileError;
use super::lines::{ChangeLine, ExecutorLine, JobLine, Line, ReservedLine};
use super::write::{on_lost_name, reason_name};
use crate::history::{Abort, Answer, By, History, Logged, Read, Run, Sets, Submit, Told};

const REASONS: [EndReason; 10] = [
    EndReason::ExitCode,
    EndReason::OomKilled,
    EndReason::ImageNotFound,
    EndReason::ImagePullFailed,
    EndReason::QueueTimeout,
    EndReason::RunTimeout,
    EndReason::AbortedByUser,
    EndReason::ExecutorLost,
    EndReason::ExecutorFault,
    EndReason::RefusedByPolicy,
];

/// Reads a history. Empty lines are passed over.
///
/// # Errors
/// Fails as the reader does, and at the first line that is not one of a history.
pub fn read(from: impl BufRead) -> Result<History, FileError> {
    let mut history = History::default();
    for (index, line) in from.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let read = serde_json::from_str(&line).map_err(|error| error.to_string());
        read.and_then(|line| take(&mut history, line))
            .map_err(|reason| FileError::Line { number: index + 1, reason })?;
    }
    Ok(history)
}

fn take(history: &mut History, line: Line) -> Result<(), String> {
    match line {
        Line::Settings { lost_after_ms, is_quiet, calm_since_ms, until_ms, lost_ms } => {
            (history.lost_after_ms, history.is_quiet) = (lost_after_ms, is_quiet);
            (history.calm_since_ms, history.until_ms) = (calm_since_ms, until_ms);
            history.lost_ms = lost_ms;
        }
        Line::Submit { key, spec, job, refused, began_ms, answered_ms, end, exit_code: code } => {
            let end = end.as_deref().map(state).transpose()?;
            let answer = match (job, refused) {
                (Some(id), false) => Answer::Job(id),
                (None, true) => Answer::Refused,
                (None, false) => Answer::Unknown,
                (Some(_), true) => return Err("a submit with a job was not refused".to_owned()),
            };
            history.submits.push(Submit { key, spec, answer, began_ms, answered_ms, end, code });
        }
        Line::Abort { job, state: answered, at_ms } => {
            let state = answered.as_deref().map(state).transpose()?;
            history.aborts.push(Abort { job, state, at_ms });
        }
        Line::Change(line) => {
            let is_lost = line.lost;
            let logged = change(*line)?;
            if is_lost { history.tail.push(logged) } else { history.log.push(logged) }
        }
        Line::Run { job, attempt, epoch, executor, started_ms, ended_ms, exit_code, neighbour } => {
            if ended_ms.is_some() != exit_code.is_some() {
                return Err("endedMs and exitCode come together, or both are absent".to_owned());
            }
            let attempt = AttemptRef { job: JobId::trusted(job), number: attempt, epoch };
            let run = Run { attempt, executor, started_ms, ended: ended_ms.zip(exit_code) };
            if neighbour { history.neighbours.push(run) } else { history.runs.push(run) }
        }
        Line::Sets { revision, pending, delayed, finished, assigned, reserved } => {
            let mut sets = vec![
                (Scope::Pending, ids(pending)),
                (Scope::Delayed, ids(delayed)),
                (Scope::Finished, ids(finished)),
            ];
            let assigned = assigned.into_iter();
            sets.extend(assigned.map(|(id, jobs)| (Scope::Assigned(ExecutorId::trusted(id)), ids(jobs))));
            let reserved = reserved.into_iter().map(|(id, line)| (ExecutorId::trusted(id), held(line)));
            history.sets.push(Sets { revision, sets, reserved: reserved.collect() });
        }
        Line::Told { watch, job, revision, resync } => {
            let told = if resync { Told::Resync } else { Told::Job { job, revision } };
            numbered(&mut history.watches, watch, "watches")?.push(told);
        }
        Line::Read { reader, job, revision, began_ms } => {
            numbered(&mut history.reads, reader, "readers")?.push(Read { job, revision, began_ms });
        }
        Line::Unanswered { call } => history.unanswered.push(call),
    }
    Ok(())
}

/// The most watches of a history, and the most readers.
const MOST: usize = 10_000;

/// What the client of a number was told, which is counted from 1.
fn numbered<'a, T>(all: &'a mut Vec<Vec<T>>, number: usize, who: &str) -> Result<&'a mut Vec<T>, String> {
    if number == 0 || number > MOST {
        return Err(format!("{who} are numbered from 1 to {MOST}"));
    }
    if all.len() < number {
        all.resize_with(number, Vec::new);
    }
    Ok(&mut all[number - 1])
}

fn state(name: &str) -> Result<JobState, String> {
    let known = JOB_STATES.into_iter().find(|state| state.name() == name);
    known.ok_or_else(|| format!("{name:?} is no state"))
}

fn ids(ids: Vec<String>) -> BTreeSet<JobId> {
    ids.into_iter().map(JobId::trusted).collect()
}

fn held(line: ReservedLine) -> Reserved {
    Reserved {
        cpu_millis: line.cpu_millis,
        memory_bytes: line.memory_bytes,
        gpu_ids: line.gpu_device_ids.into_iter().collect(),
    }
}

fn change(line: ChangeLine) -> Result<Logged, String> {
    let ChangeLine { generation, revision, at_ms, lost: _, job, deleted, executor, leader, by } = line;
    let by = by.map(|line| By {
        epoch: line.epoch,
        session: line.session.map(SessionId::trusted),
        attempt: line.attempt.map(|number| (number, line.attempt_epoch)),
    });
    let change = match (job, deleted, executor, leader) {
        (Some(line), None, None, None) => Change::Job(Arc::new(job_of(line, revision)?)),
        (None, Some(id), None, None) => Change::JobDeleted(JobId::trusted(id)),
        (None, None, Some(line), None) => Change::Executor(Box::new(executor_of(line, revision))),
        (None, None, None, Some(leader)) => {
            Change::Leader { epoch: leader.epoch, scheduler_id: leader.scheduler_id }
        }
        _ => return Err("a change has one of job, deleted, executor and leader".to_owned()),
    };
    Ok(Logged { generation, revision, at_ms, change, by })
}

fn job_of(line: JobLine, revision: u64) -> Result<Job, String> {
    let on_lost = match line.on_lost {
        None => OnLost::default(),
        Some(name) => [OnLost::Retry, OnLost::Fail, OnLost::Hold]
            .into_iter()
            .find(|known| on_lost_name(*known) == name)
            .ok_or_else(|| format!("{name:?} is none of RETRY, FAIL and HOLD"))?,
    };
    let end_reason = line.end_reason.map(|name| {
        let known = REASONS.into_iter().find(|reason| reason_name(*reason) == name);
        known.ok_or_else(|| format!("{name:?} is no reason of an end"))
    });
    let constraint = |text: &String| Constraint::parse(text).map_err(|error| format!("{text:?} {error}"));
    let demand = Demand {
        cpu_millis: line.cpu_millis,
        memory_bytes: line.memory_bytes,
        gpu_count: line.gpu_count,
        gpu_models: line.gpu_models,
        constraints: line.constraints.iter().map(constraint).collect::<Result<_, _>>()?,
    };
    let spec = JobSpec {
        image: String::new(),
        command: Vec::new(),
        env: BTreeMap::new(),
        working_dir: String::new(),
        demand,
        priority: line.priority,
        clocks: Clocks {
            queue_timeout_ms: line.queue_timeout_ms,
            requeue_timeout_ms: line.requeue_timeout_ms,
            run_timeout_ms: line.run_timeout_ms,
            ..Clocks::default()
        },
        max_retries: 0,
        labels: BTreeMap::new(),
        on_lost,
        network: Network::None,
        pull_policy: PullPolicy::Missing,
        reuse: Reuse::None,
        namespace: Namespace::trusted("default"),
    };
    Ok(Job {
        state: state(&line.state)?,
        attempt: line.attempt,
        attempt_epoch: line.attempt_epoch,
        executor: line.executor_id.map(ExecutorId::trusted),
        gpu_device_ids: line.gpu_device_ids,
        due_time_ms: line.due_time_ms,
        end_time_ms: line.end_time_ms,
        exit_code: line.exit_code,
        end_reason: end_reason.transpose()?,
        message: line.message,
        infrastructure_retries: line.infrastructure_retries,
        stop_unconfirmed: line.stop_unconfirmed,
        abort_requested: line.abort_requested,
        requeue_requested: line.requeue_requested,
        revision,
        ..Job::new(JobId::trusted(line.id), String::new(), &spec, line.create_time_ms)
    })
}

fn executor_of(line: ExecutorLine, revision: u64) -> Executor {
    // Those beyond the list are of a model that nobody knows.
    let models = line.gpu_models.into_iter().chain(std::iter::repeat(String::new()));
    let device = |(id, model): (String, String)| GpuDevice { id, model, emulated: true };
    let capacity = Capacity {
        cpu_millis: line.cpu_millis,
        memory_bytes: line.memory_bytes,
        gpus: line.gpu_device_ids.into_iter().zip(models).map(device).collect(),
    };
    Executor {
        session: line.session.map(SessionId::trusted),
        state: if line.lost { ExecutorState::Lost } else { ExecutorState::Active },
        not_ready: line.not_ready.then(String::new),
        restarting: line.restarting,
        drain: line.draining.then(Drain::default),
        fenced: line.fenced,
        labels: line.labels,
        revision,
        ..Executor::new(ExecutorId::trusted(line.id), SchedulerId::trusted(""), capacity, 0)
    }
}
