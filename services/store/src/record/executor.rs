//! Executor records.

use berth_domain::executor::{Drain, Executor, ExecutorState};
use berth_domain::ids::{ExecutorId, SchedulerId, SessionId};
use berth_domain::resources::{Capacity, GpuDevice, Reserved};
use prost::Message;

use super::{absent, pb, undecodable, unknown};
use crate::StoreError;

/// Encodes an executor's record; its revision, reservations and lease are not part of it.
pub(crate) fn encode_executor(executor: &Executor) -> Vec<u8> {
    executor_to_record(executor).encode_to_vec()
}

/// Decodes an executor's record and gives it the revision stored beside it. It comes without
/// reservations and lease.
pub(crate) fn decode_executor(bytes: &[u8], revision: u64) -> Result<Executor, StoreError> {
    let record = pb::Executor::decode(bytes).map_err(|error| undecodable("executor record", &error))?;
    executor_from_record(record, revision)
}

pub(super) fn executor_to_record(executor: &Executor) -> pb::Executor {
    pb::Executor {
        id: executor.id.as_str().to_owned(),
        node_id: executor.node_id.clone(),
        boot_id: executor.boot_id.clone(),
        session: executor.session.as_ref().map(ToString::to_string),
        state: state_to_record(executor.state).into(),
        capacity: Some(capacity_to_record(&executor.capacity)),
        labels: executor.labels.clone(),
        version: executor.version.clone(),
        protocol_version: executor.protocol_version,
        peer_address: executor.peer_address.clone(),
        scheduler: executor.scheduler.as_str().to_owned(),
        scheduler_address: executor.scheduler_address.clone(),
        register_time_ms: executor.register_time_ms,
        not_ready: executor.not_ready.clone(),
        fenced: executor.fenced,
        instance_id: executor.instance_id.clone(),
        restarting: executor.restarting,
        drain: executor.drain.map(|drain| pb::Drain { deadline_ms: drain.deadline_ms }),
        seen_ms: executor.seen_ms,
    }
}

pub(super) fn executor_from_record(record: pb::Executor, revision: u64) -> Result<Executor, StoreError> {
    Ok(Executor {
        id: ExecutorId::trusted(record.id),
        node_id: record.node_id,
        boot_id: record.boot_id,
        session: record.session.map(SessionId::trusted),
        state: state_from_record(record.state)?,
        capacity: capacity_from_record(record.capacity)?,
        reserved: Reserved::default(),
        labels: record.labels,
        version: record.version,
        protocol_version: record.protocol_version,
        peer_address: record.peer_address,
        scheduler: SchedulerId::trusted(record.scheduler),
        scheduler_address: record.scheduler_address,
        register_time_ms: record.register_time_ms,
        not_ready: record.not_ready,
        fenced: record.fenced,
        restarting: record.restarting,
        drain: record.drain.map(|drain| Drain { deadline_ms: drain.deadline_ms }),
        seen_ms: record.seen_ms,
        instance_id: record.instance_id,
        lease_expiry_ms: 0,
        revision,
    })
}

fn capacity_to_record(capacity: &Capacity) -> pb::Capacity {
    pb::Capacity {
        cpu_millis: capacity.cpu_millis,
        memory_bytes: capacity.memory_bytes,
        gpus: capacity
            .gpus
            .iter()
            .map(|gpu| pb::GpuDevice { id: gpu.id.clone(), model: gpu.model.clone(), emulated: gpu.emulated })
            .collect(),
    }
}

fn capacity_from_record(record: Option<pb::Capacity>) -> Result<Capacity, StoreError> {
    let record = record.ok_or_else(|| absent("capacity"))?;
    Ok(Capacity {
        cpu_millis: record.cpu_millis,
        memory_bytes: record.memory_bytes,
        gpus: record
            .gpus
            .into_iter()
            .map(|gpu| GpuDevice { id: gpu.id, model: gpu.model, emulated: gpu.emulated })
            .collect(),
    })
}

fn state_to_record(state: ExecutorState) -> pb::ExecutorState {
    match state {
        ExecutorState::Active => pb::ExecutorState::Active,
        ExecutorState::Lost => pb::ExecutorState::Lost,
    }
}

fn state_from_record(value: i32) -> Result<ExecutorState, StoreError> {
    match pb::ExecutorState::try_from(value) {
        Ok(pb::ExecutorState::Active) => Ok(ExecutorState::Active),
        Ok(pb::ExecutorState::Lost) => Ok(ExecutorState::Lost),
        Ok(pb::ExecutorState::Unspecified) | Err(_) => Err(unknown("executor state", value)),
    }
}
