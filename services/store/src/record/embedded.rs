//! Rows of the embedded store: records with what stands beside them, and the head.

use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::resources::Reserved;
use prost::Message;

use super::executor::{executor_from_record, executor_to_record};
use super::job::{job_from_record, job_to_record, state_from_record, state_to_record};
use super::{absent, pb, undecodable};
use crate::rules::{Head, Reservation, StoredJob, StoredKey, Time};
use crate::{LockInfo, StoreError};

/// Encodes a job's row.
pub(crate) fn encode_stored_job(stored: &StoredJob) -> Vec<u8> {
    let reservation = stored.reservation.as_ref().map(|held| pb::Reservation {
        executor: held.executor.to_string(),
        held: Some(pb::Held {
            cpu_millis: held.cpu_millis,
            memory_bytes: held.memory_bytes,
            gpu_ids: held.gpu_ids.clone(),
        }),
    });
    pb::StoredJob {
        job: Some(job_to_record(&stored.job)),
        revision: stored.job.revision,
        submit_revision: stored.submit_revision,
        reservation,
    }
    .encode_to_vec()
}

/// Decodes a job's row.
pub(crate) fn decode_stored_job(bytes: &[u8]) -> Result<StoredJob, StoreError> {
    let row = pb::StoredJob::decode(bytes).map_err(|error| undecodable("job row", &error))?;
    let reservation = row.reservation.map(|reservation| {
        let held = reservation.held.ok_or_else(|| absent("amount of a reservation"))?;
        Ok(Reservation {
            executor: ExecutorId::trusted(reservation.executor),
            cpu_millis: held.cpu_millis,
            memory_bytes: held.memory_bytes,
            gpu_ids: held.gpu_ids,
        })
    });
    Ok(StoredJob {
        job: job_from_record(row.job.ok_or_else(|| absent("job of a row"))?, row.revision)?,
        submit_revision: row.submit_revision,
        reservation: reservation.transpose()?,
    })
}

/// Encodes an executor's row; its lease is in the head.
pub(crate) fn encode_stored_executor(executor: &Executor) -> Vec<u8> {
    pb::StoredExecutor {
        executor: Some(executor_to_record(executor)),
        revision: executor.revision,
        reserved: Some(pb::Held {
            cpu_millis: executor.reserved.cpu_millis,
            memory_bytes: executor.reserved.memory_bytes,
            gpu_ids: executor.reserved.gpu_ids.iter().cloned().collect(),
        }),
    }
    .encode_to_vec()
}

/// Decodes an executor's row. It comes without its lease.
pub(crate) fn decode_stored_executor(bytes: &[u8]) -> Result<Executor, StoreError> {
    let row = pb::StoredExecutor::decode(bytes).map_err(|error| undecodable("executor row", &error))?;
    let held = row.reserved.ok_or_else(|| absent("reservations of an executor"))?;
    let reserved = Reserved {
        cpu_millis: held.cpu_millis,
        memory_bytes: held.memory_bytes,
        gpu_ids: held.gpu_ids.into_iter().collect(),
    };
    let record = row.executor.ok_or_else(|| absent("executor of a row"))?;
    Ok(Executor { reserved, ..executor_from_record(record, row.revision)? })
}

/// Encodes an idempotency key's row.
pub(crate) fn encode_stored_key(stored: &StoredKey) -> Vec<u8> {
    pb::StoredKey {
        job_id: stored.job_id.to_string(),
        request_hash: stored.request_hash.clone(),
        expiry_ms: stored.expiry_ms,
    }
    .encode_to_vec()
}

/// Decodes an idempotency key's row.
pub(crate) fn decode_stored_key(bytes: &[u8]) -> Result<StoredKey, StoreError> {
    let row = pb::StoredKey::decode(bytes).map_err(|error| undecodable("key row", &error))?;
    Ok(StoredKey {
        job_id: JobId::trusted(row.job_id),
        request_hash: row.request_hash,
        expiry_ms: row.expiry_ms,
    })
}

/// Encodes the head.
pub(crate) fn encode_head(head: &Head) -> Vec<u8> {
    let pause = |&(from_ms, to_ms): &(u64, u64)| pb::Pause { from_ms, to_ms };
    let lock = pb::Lock {
        epoch: head.lock.epoch,
        owner: head.lock.owner.clone(),
        scheduler_id: head.lock.scheduler_id.clone(),
        expiry_ms: head.lock.expiry_ms,
        pauses: head.lock.pauses.iter().map(pause).collect(),
    };
    pb::Head {
        generation: head.generation,
        generation_since_ms: head.generation_since_ms,
        revision: head.revision,
        counts: head.counts.iter().map(|(state, count)| (state_to_record(*state).into(), *count)).collect(),
        lock: Some(lock),
        leases: head.leases.iter().map(|(id, expiry_ms)| (id.to_string(), *expiry_ms)).collect(),
        told_ms: head.time.told_ms,
        ahead_ms: head.time.ahead_ms,
        ahead_since_ms: head.time.since_ms,
        clock_ms: head.time.clock_ms,
    }
    .encode_to_vec()
}

/// Decodes the head.
pub(crate) fn decode_head(bytes: &[u8]) -> Result<Head, StoreError> {
    let head = pb::Head::decode(bytes).map_err(|error| undecodable("head", &error))?;
    let lock = head.lock.ok_or_else(|| absent("lock"))?;
    let counts = head.counts.into_iter().map(|(state, count)| Ok((state_from_record(state)?, count)));
    Ok(Head {
        time: Time {
            told_ms: head.told_ms,
            clock_ms: head.clock_ms,
            ahead_ms: head.ahead_ms,
            since_ms: head.ahead_since_ms,
        },
        generation: head.generation,
        generation_since_ms: head.generation_since_ms,
        revision: head.revision,
        counts: counts.collect::<Result<_, StoreError>>()?,
        lock: LockInfo {
            epoch: lock.epoch,
            owner: lock.owner,
            scheduler_id: lock.scheduler_id,
            expiry_ms: lock.expiry_ms,
            pauses: lock.pauses.into_iter().map(|pause| (pause.from_ms, pause.to_ms)).collect(),
        },
        leases: head.leases.into_iter().map(|(id, expiry_ms)| (ExecutorId::trusted(id), expiry_ms)).collect(),
    })
}
