//! From a history to lines.

use std::io::Write;

use berth_api::convert::{reason_to_wire, state_to_wire};
use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::JobId;
use berth_domain::job::{EndReason, Job, JobState};
use berth_domain::resources::Reserved;
use berth_domain::spec::OnLost;
use berth_store::{Change, Scope};

use super::FileError;
use super::lines::{ByLine, ChangeLine, ExecutorLine, JobLine, LeaderLine, Line, ReservedLine};
use crate::history::{Answer, By, History, Logged, Run, Sets, Submit, Told};

/// Writes a history, one line after the other.
///
/// # Errors
/// Fails as the writer does.
pub fn write(history: &History, to: &mut impl Write) -> Result<(), FileError> {
    let mut put = |line: Line| -> Result<(), FileError> {
        serde_json::to_writer(&mut *to, &line).map_err(std::io::Error::from)?;
        Ok(to.write_all(b"\n")?)
    };
    put(Line::Settings {
        lost_after_ms: history.lost_after_ms,
        is_quiet: history.is_quiet,
        calm_since_ms: history.calm_since_ms,
        until_ms: history.until_ms,
        lost_ms: history.lost_ms,
    })?;
    for submit in &history.submits {
        put(submitted(submit))?;
    }
    for abort in &history.aborts {
        put(Line::Abort { job: abort.job.clone(), state: abort.state.map(name), at_ms: abort.at_ms })?;
    }
    for (logged, lost) in marked(&history.log, false).chain(marked(&history.tail, true)) {
        put(Line::Change(Box::new(change(logged, lost))))?;
    }
    for (ran, neighbour) in marked(&history.runs, false).chain(marked(&history.neighbours, true)) {
        put(run(ran, neighbour))?;
    }
    history.sets.iter().try_for_each(|kept| put(sets(kept)))?;
    for (number, watch) in history.watches.iter().enumerate() {
        for told in watch {
            put(line_of(number + 1, told))?;
        }
    }
    for (number, reads) in history.reads.iter().enumerate() {
        for read in reads {
            let (job, revision, began_ms) = (read.job.clone(), read.revision, read.began_ms);
            put(Line::Read { reader: number + 1, job, revision, began_ms })?;
        }
    }
    history.unanswered.iter().try_for_each(|call| put(Line::Unanswered { call: call.clone() }))
}

fn marked<T>(all: &[T], mark: bool) -> impl Iterator<Item = (&T, bool)> {
    all.iter().map(move |one| (one, mark))
}

fn name(state: JobState) -> String {
    state_to_wire(state).as_str_name().trim_start_matches("JOB_STATE_").to_owned()
}

/// The API's name of a reason.
pub(super) fn reason_name(reason: EndReason) -> String {
    reason_to_wire(reason).as_str_name().trim_start_matches("END_REASON_").to_owned()
}

/// The API's name of what becomes of a job whose executor is lost.
pub(super) fn on_lost_name(on_lost: OnLost) -> &'static str {
    match on_lost {
        OnLost::Retry => "RETRY",
        OnLost::Fail => "FAIL",
        OnLost::Hold => "HOLD",
    }
}

fn submitted(submit: &Submit) -> Line {
    Line::Submit {
        key: submit.key.clone(),
        spec: submit.spec.clone(),
        job: submit.job().map(str::to_owned),
        refused: submit.answer == Answer::Refused,
        began_ms: submit.began_ms,
        answered_ms: submit.answered_ms,
        end: submit.end.map(name),
        exit_code: submit.code,
    }
}

fn by(by: &By) -> ByLine {
    ByLine {
        epoch: by.epoch,
        session: by.session.as_ref().map(ToString::to_string),
        attempt: by.attempt.map(|(number, _)| number),
        attempt_epoch: by.attempt.map(|(_, epoch)| epoch).unwrap_or_default(),
    }
}

fn change(logged: &Logged, lost: bool) -> ChangeLine {
    let mut line = ChangeLine {
        generation: logged.generation,
        revision: logged.revision,
        at_ms: logged.at_ms,
        lost,
        job: None,
        deleted: None,
        executor: None,
        leader: None,
        by: logged.by.as_ref().map(by),
    };
    match &logged.change {
        Change::Job(record) => line.job = Some(job(record)),
        Change::JobDeleted(id) => line.deleted = Some(id.to_string()),
        Change::Executor(record) => line.executor = Some(executor(record)),
        Change::Leader { epoch, scheduler_id } => {
            line.leader = Some(LeaderLine { epoch: *epoch, scheduler_id: scheduler_id.clone() });
        }
    }
    line
}

fn job(job: &Job) -> JobLine {
    JobLine {
        id: job.id.to_string(),
        state: name(job.state),
        attempt: job.attempt,
        attempt_epoch: job.attempt_epoch,
        executor_id: job.executor.as_ref().map(ToString::to_string),
        gpu_device_ids: job.gpu_device_ids.clone(),
        on_lost: Some(on_lost_name(job.on_lost).to_owned()),
        cpu_millis: job.demand.cpu_millis,
        memory_bytes: job.demand.memory_bytes,
        constraints: job.demand.constraints.iter().map(ToString::to_string).collect(),
        gpu_count: job.demand.gpu_count,
        gpu_models: job.demand.gpu_models.clone(),
        priority: job.priority,
        queue_timeout_ms: job.queue_timeout_ms,
        requeue_timeout_ms: job.requeue_timeout_ms,
        run_timeout_ms: job.run_timeout_ms,
        create_time_ms: job.create_time_ms,
        due_time_ms: job.due_time_ms,
        end_time_ms: job.end_time_ms,
        exit_code: job.exit_code,
        end_reason: job.end_reason.map(reason_name),
        message: job.message.clone(),
        infrastructure_retries: job.infrastructure_retries,
        stop_unconfirmed: job.stop_unconfirmed,
        abort_requested: job.abort_requested,
        requeue_requested: job.requeue_requested,
    }
}

fn executor(executor: &Executor) -> ExecutorLine {
    ExecutorLine {
        id: executor.id.to_string(),
        session: executor.session.as_ref().map(ToString::to_string),
        lost: executor.state == ExecutorState::Lost,
        not_ready: executor.not_ready.is_some(),
        restarting: executor.restarting,
        draining: executor.drain.is_some(),
        fenced: executor.fenced,
        cpu_millis: executor.capacity.cpu_millis,
        memory_bytes: executor.capacity.memory_bytes,
        gpu_device_ids: executor.capacity.gpus.iter().map(|gpu| gpu.id.clone()).collect(),
        gpu_models: executor.capacity.gpus.iter().map(|gpu| gpu.model.clone()).collect(),
        labels: executor.labels.clone(),
    }
}

fn run(run: &Run, neighbour: bool) -> Line {
    Line::Run {
        job: run.attempt.job.to_string(),
        attempt: run.attempt.number,
        epoch: run.attempt.epoch,
        executor: run.executor.clone(),
        started_ms: run.started_ms,
        ended_ms: run.ended.map(|(at_ms, _)| at_ms),
        exit_code: run.ended.map(|(_, code)| code),
        neighbour,
    }
}

fn sets(kept: &Sets) -> Line {
    let of = |wanted: &Scope| {
        let found = kept.sets.iter().filter(|(scope, _)| scope == wanted);
        found.flat_map(|(_, ids)| ids).map(JobId::to_string).collect()
    };
    let assigned = kept.sets.iter().filter_map(|(scope, _)| match scope {
        Scope::Assigned(executor) => Some((executor.to_string(), of(scope))),
        Scope::All | Scope::Pending | Scope::Delayed | Scope::Finished => None,
    });
    let line = |reserved: &Reserved| ReservedLine {
        cpu_millis: reserved.cpu_millis,
        memory_bytes: reserved.memory_bytes,
        gpu_device_ids: reserved.gpu_ids.iter().cloned().collect(),
    };
    Line::Sets {
        revision: kept.revision,
        pending: of(&Scope::Pending),
        delayed: of(&Scope::Delayed),
        finished: of(&Scope::Finished),
        assigned: assigned.collect(),
        reserved: kept.reserved.iter().map(|(id, reserved)| (id.to_string(), line(reserved))).collect(),
    }
}

fn line_of(watch: usize, told: &Told) -> Line {
    match told {
        Told::Job { job, revision } => {
            Line::Told { watch, job: job.clone(), revision: *revision, resync: false }
        }
        Told::Resync => Line::Told { watch, job: String::new(), revision: 0, resync: true },
    }
}
