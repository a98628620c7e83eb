//! Job records.

use berth_domain::constraint::Constraint;
use berth_domain::digest::SpecHash;
use berth_domain::ids::{ExecutorId, JobId, Namespace};
use berth_domain::job::{EndReason, Job, JobState};
use berth_domain::resources::Demand;
use berth_domain::spec::OnLost;
use prost::Message;

use super::{absent, pb, priority, undecodable, unknown};
use crate::StoreError;

/// Encodes a job's record; its revision is not part of it.
pub(crate) fn encode_job(job: &Job) -> Vec<u8> {
    job_to_record(job).encode_to_vec()
}

/// Decodes a job's record and gives it the revision stored beside it.
pub(crate) fn decode_job(bytes: &[u8], revision: u64) -> Result<Job, StoreError> {
    let record = pb::Job::decode(bytes).map_err(|error| undecodable("job record", &error))?;
    job_from_record(record, revision)
}

pub(super) fn job_to_record(job: &Job) -> pb::Job {
    pb::Job {
        id: job.id.as_str().to_owned(),
        namespace: job.namespace.as_str().to_owned(),
        display_name: job.display_name.clone(),
        spec_hash: String::new(),
        spec_digest: job.spec_hash.as_bytes().to_vec(),
        image_hash: job.image_hash,
        demand: Some(demand_to_record(&job.demand)),
        priority: u32::from(job.priority),
        queue_timeout_ms: job.queue_timeout_ms,
        requeue_timeout_ms: job.requeue_timeout_ms,
        run_timeout_ms: job.run_timeout_ms,
        max_retries: job.max_retries,
        on_lost: on_lost_to_record(job.on_lost).into(),
        retry_of: job.retry_of.as_ref().map(ToString::to_string),
        create_time_ms: job.create_time_ms,
        state: state_to_record(job.state).into(),
        attempt: job.attempt,
        attempt_epoch: job.attempt_epoch,
        executor: job.executor.as_ref().map(ToString::to_string),
        gpu_device_ids: job.gpu_device_ids.clone(),
        ready_time_ms: job.ready_time_ms,
        due_time_ms: job.due_time_ms,
        start_time_ms: job.start_time_ms,
        end_time_ms: job.end_time_ms,
        exit_code: job.exit_code,
        end_reason: job.end_reason.map(|reason| end_reason_to_record(reason).into()),
        message: job.message.clone(),
        abort_requested: job.abort_requested,
        abort_grace_ms: job.abort_grace_ms,
        requeue_requested: job.requeue_requested,
        stop_unconfirmed: job.stop_unconfirmed,
        own_retries: job.own_retries,
        infrastructure_retries: job.infrastructure_retries,
        avoid_executor: job.avoid_executor.as_ref().map(ToString::to_string),
    }
}

pub(super) fn job_from_record(record: pb::Job, revision: u64) -> Result<Job, StoreError> {
    Ok(Job {
        id: JobId::trusted(record.id),
        namespace: Namespace::trusted(record.namespace),
        display_name: record.display_name,
        spec_hash: spec_hash(&record.spec_digest, &record.spec_hash)?,
        image_hash: record.image_hash,
        demand: demand_from_record(record.demand)?,
        priority: priority(record.priority)?,
        queue_timeout_ms: record.queue_timeout_ms,
        requeue_timeout_ms: record.requeue_timeout_ms,
        run_timeout_ms: record.run_timeout_ms,
        max_retries: record.max_retries,
        on_lost: on_lost_from_record(record.on_lost)?,
        retry_of: record.retry_of.map(JobId::trusted),
        create_time_ms: record.create_time_ms,
        state: state_from_record(record.state)?,
        attempt: record.attempt,
        attempt_epoch: record.attempt_epoch,
        executor: record.executor.map(ExecutorId::trusted),
        gpu_device_ids: record.gpu_device_ids,
        ready_time_ms: record.ready_time_ms,
        due_time_ms: record.due_time_ms,
        start_time_ms: record.start_time_ms,
        end_time_ms: record.end_time_ms,
        exit_code: record.exit_code,
        end_reason: record.end_reason.map(end_reason_from_record).transpose()?,
        message: record.message,
        abort_requested: record.abort_requested,
        abort_grace_ms: record.abort_grace_ms,
        requeue_requested: record.requeue_requested,
        stop_unconfirmed: record.stop_unconfirmed,
        own_retries: record.own_retries,
        infrastructure_retries: record.infrastructure_retries,
        avoid_executor: record.avoid_executor.map(ExecutorId::trusted),
        revision,
    })
}

fn spec_hash(digest: &[u8], hex: &str) -> Result<SpecHash, StoreError> {
    let known = if digest.is_empty() { SpecHash::from_hex(hex) } else { SpecHash::from_bytes(digest) };
    known.ok_or_else(|| absent("spec_digest"))
}

pub(super) fn demand_to_record(demand: &Demand) -> pb::Demand {
    pb::Demand {
        cpu_millis: demand.cpu_millis,
        memory_bytes: demand.memory_bytes,
        gpu_count: demand.gpu_count,
        gpu_models: demand.gpu_models.clone(),
        constraints: demand.constraints.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn demand_from_record(record: Option<pb::Demand>) -> Result<Demand, StoreError> {
    let record = record.ok_or_else(|| absent("demand"))?;
    Ok(Demand {
        cpu_millis: record.cpu_millis,
        memory_bytes: record.memory_bytes,
        gpu_count: record.gpu_count,
        gpu_models: record.gpu_models,
        constraints: record.constraints.iter().map(|text| constraint(text)).collect::<Result<_, _>>()?,
    })
}

fn constraint(text: &str) -> Result<Constraint, StoreError> {
    Constraint::parse(text)
        .map_err(|error| StoreError::Corrupt { reason: format!("constraint {text:?} {error}") })
}

pub(super) fn on_lost_to_record(on_lost: OnLost) -> pb::OnLost {
    match on_lost {
        OnLost::Retry => pb::OnLost::Retry,
        OnLost::Fail => pb::OnLost::Fail,
        OnLost::Hold => pb::OnLost::Hold,
    }
}

pub(super) fn on_lost_from_record(value: i32) -> Result<OnLost, StoreError> {
    match pb::OnLost::try_from(value) {
        Ok(pb::OnLost::Retry) => Ok(OnLost::Retry),
        Ok(pb::OnLost::Fail) => Ok(OnLost::Fail),
        Ok(pb::OnLost::Hold) => Ok(OnLost::Hold),
        Ok(pb::OnLost::Unspecified) | Err(_) => Err(unknown("on_lost", value)),
    }
}

pub(super) fn state_to_record(state: JobState) -> pb::JobState {
    match state {
        JobState::Pending => pb::JobState::Pending,
        JobState::Assigned => pb::JobState::Assigned,
        JobState::Running => pb::JobState::Running,
        JobState::Succeeded => pb::JobState::Succeeded,
        JobState::Failed => pb::JobState::Failed,
        JobState::Aborted => pb::JobState::Aborted,
    }
}

pub(super) fn state_from_record(value: i32) -> Result<JobState, StoreError> {
    match pb::JobState::try_from(value) {
        Ok(pb::JobState::Pending) => Ok(JobState::Pending),
        Ok(pb::JobState::Assigned) => Ok(JobState::Assigned),
        Ok(pb::JobState::Running) => Ok(JobState::Running),
        Ok(pb::JobState::Succeeded) => Ok(JobState::Succeeded),
        Ok(pb::JobState::Failed) => Ok(JobState::Failed),
        Ok(pb::JobState::Aborted) => Ok(JobState::Aborted),
        Ok(pb::JobState::Unspecified) | Err(_) => Err(unknown("job state", value)),
    }
}

fn end_reason_to_record(reason: EndReason) -> pb::EndReason {
    match reason {
        EndReason::ExitCode => pb::EndReason::ExitCode,
        EndReason::OomKilled => pb::EndReason::OomKilled,
        EndReason::ImageNotFound => pb::EndReason::ImageNotFound,
        EndReason::ImagePullFailed => pb::EndReason::ImagePullFailed,
        EndReason::QueueTimeout => pb::EndReason::QueueTimeout,
        EndReason::RunTimeout => pb::EndReason::RunTimeout,
        EndReason::AbortedByUser => pb::EndReason::AbortedByUser,
        EndReason::ExecutorLost => pb::EndReason::ExecutorLost,
        EndReason::ExecutorFault => pb::EndReason::ExecutorFault,
        EndReason::RefusedByPolicy => pb::EndReason::RefusedByPolicy,
    }
}

fn end_reason_from_record(value: i32) -> Result<EndReason, StoreError> {
    match pb::EndReason::try_from(value) {
        Ok(pb::EndReason::ExitCode) => Ok(EndReason::ExitCode),
        Ok(pb::EndReason::OomKilled) => Ok(EndReason::OomKilled),
        Ok(pb::EndReason::ImageNotFound) => Ok(EndReason::ImageNotFound),
        Ok(pb::EndReason::ImagePullFailed) => Ok(EndReason::ImagePullFailed),
        Ok(pb::EndReason::QueueTimeout) => Ok(EndReason::QueueTimeout),
        Ok(pb::EndReason::RunTimeout) => Ok(EndReason::RunTimeout),
        Ok(pb::EndReason::AbortedByUser) => Ok(EndReason::AbortedByUser),
        Ok(pb::EndReason::ExecutorLost) => Ok(EndReason::ExecutorLost),
        Ok(pb::EndReason::ExecutorFault) => Ok(EndReason::ExecutorFault),
        Ok(pb::EndReason::RefusedByPolicy) => Ok(EndReason::RefusedByPolicy),
        Ok(pb::EndReason::Unspecified) | Err(_) => Err(unknown("end reason", value)),
    }
}
