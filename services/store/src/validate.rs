//! Refuses calls that no store could keep its promises for, before anything is sent. Shared by
//! all stores, so that they refuse the same.

use berth_domain::executor::Executor;
use berth_domain::job::{Job, JobState};

use crate::{Call, IdempotencyKey, MAX_MUTATIONS, Mutation, StoreError};

/// The largest number stored: above it a double, the only number of a Redis script, is inexact.
const MAX_EXACT: u64 = 1 << 53;
/// The highest priority of a job.
const MAX_PRIORITY: u8 = 100;

/// Checks a call.
///
/// # Errors
/// Says what is wrong with it; nothing was applied and retrying is useless.
pub(crate) fn check_call(call: &Call) -> Result<(), StoreError> {
    if call.mutations.len() > MAX_MUTATIONS {
        return refuse(format!("{} mutations, at most {MAX_MUTATIONS} fit a call", call.mutations.len()));
    }
    call.mutations.iter().try_for_each(check_mutation)
}

fn check_mutation(mutation: &Mutation) -> Result<(), StoreError> {
    match mutation {
        Mutation::Submit { job, idempotency, .. } => {
            if job.state != JobState::Pending {
                return refuse(format!("job {} is submitted in state {}", job.id, job.state.name()));
            }
            check_key(idempotency.as_ref())?;
            check_job(job)
        }
        Mutation::Update { job, .. } => check_job(job),
        Mutation::Delete { .. } => Ok(()),
        Mutation::PutExecutor { executor, .. } => check_executor(executor),
    }
}

fn check_key(idempotency: Option<&IdempotencyKey>) -> Result<(), StoreError> {
    match idempotency {
        Some(key) if key.key.is_empty() || key.ttl.as_millis() == 0 => {
            refuse("an idempotency key has a name and a life of at least 1 ms".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

fn check_job(job: &Job) -> Result<(), StoreError> {
    let assigned = match job.state {
        JobState::Assigned | JobState::Running => true,
        JobState::Pending | JobState::Succeeded | JobState::Failed | JobState::Aborted => false,
    };
    if assigned && job.executor.is_none() {
        return refuse(format!("job {} is {} without an executor", job.id, job.state.name()));
    }
    if job.priority > MAX_PRIORITY {
        return refuse(format!("job {} has priority {}", job.id, job.priority));
    }
    check_exact(job.demand.cpu_millis)?;
    check_exact(job.demand.memory_bytes)?;
    check_exact(job.create_time_ms)?;
    check_exact(job.due_time_ms.unwrap_or(0))?;
    check_exact(job.end_time_ms.unwrap_or(0))?;
    job.gpu_device_ids.iter().try_for_each(|id| check_device(id))
}

fn check_executor(executor: &Executor) -> Result<(), StoreError> {
    check_exact(executor.capacity.cpu_millis)?;
    check_exact(executor.capacity.memory_bytes)?;
    executor.capacity.gpus.iter().try_for_each(|gpu| check_device(&gpu.id))
}

/// Device ids are kept in space-separated lists.
fn check_device(id: &str) -> Result<(), StoreError> {
    if id.is_empty() || id.contains(char::is_whitespace) {
        return refuse(format!("{id:?} is no name of a device"));
    }
    Ok(())
}

fn check_exact(number: u64) -> Result<(), StoreError> {
    if number > MAX_EXACT {
        return refuse(format!("{number} is above 2^53"));
    }
    Ok(())
}

fn refuse<T>(reason: String) -> Result<T, StoreError> {
    Err(StoreError::Malformed { reason })
}
