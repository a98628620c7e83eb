//! Executors on the wire: what one registers with, and how one is shown.

use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::resources::{Capacity, GpuDevice, Reserved};

use super::scalar::{signed, timestamp};
use crate::status::Problem;
use crate::v1;

/// The most GPU devices one executor may register.
const MAX_DEVICES: usize = 1_024;

/// Reads what an executor registers as its capacity.
///
/// # Errors
/// Refuses an executor without CPU or memory, and devices without or with equal ids.
pub fn capacity_from_wire(
    capacity: Option<&v1::Resources>,
    gpus: &[v1::GpuDevice],
) -> Result<Capacity, Problem> {
    let capacity = capacity.ok_or_else(|| Problem::field("capacity", "must be set"))?;
    let positive = |field: &str, amount: i64| {
        u64::try_from(amount)
            .ok()
            .filter(|amount| *amount > 0)
            .ok_or_else(|| Problem::field(field, format!("is {amount}; an executor needs some")))
    };
    let cpu_millis = positive("capacity.cpu_millis", capacity.cpu_millis)?;
    let memory_bytes = positive("capacity.memory_bytes", capacity.memory_bytes)?;
    if gpus.len() > MAX_DEVICES {
        return Err(Problem::field(
            "gpus",
            format!("has {} devices; the limit is {MAX_DEVICES}", gpus.len()),
        ));
    }
    let mut devices: Vec<GpuDevice> = gpus
        .iter()
        .map(|gpu| GpuDevice {
            id: gpu.id.clone(),
            model: gpu.model.to_ascii_lowercase(),
            emulated: gpu.emulated,
        })
        .collect();
    devices.sort();
    let well_named = |gpu: &GpuDevice| {
        !gpu.id.is_empty() && gpu.id.len() <= 128 && gpu.id.bytes().all(|b| b.is_ascii_graphic())
    };
    if !devices.iter().all(well_named) || devices.windows(2).any(|pair| pair[0].id == pair[1].id) {
        return Err(Problem::field("gpus", "must each have an id of its own of at most 128 characters"));
    }
    Ok(Capacity { cpu_millis, memory_bytes, gpus: devices })
}

/// Shows an amount of resources on the wire.
pub fn resources_to_wire(
    cpu_millis: u64,
    memory_bytes: u64,
    gpus: usize,
    models: Vec<String>,
) -> v1::Resources {
    v1::Resources {
        cpu_millis: signed(cpu_millis),
        memory_bytes: signed(memory_bytes),
        gpu_count: i32::try_from(gpus).unwrap_or(i32::MAX),
        gpu_models: models,
    }
}

fn models<'a>(gpus: impl Iterator<Item = &'a GpuDevice>) -> Vec<String> {
    let mut models: Vec<String> = gpus.map(|gpu| gpu.model.clone()).collect();
    models.sort();
    models.dedup();
    models
}

/// Shows a capacity on the wire, with the models it has.
pub fn capacity_to_wire(capacity: &Capacity) -> v1::Resources {
    resources_to_wire(
        capacity.cpu_millis,
        capacity.memory_bytes,
        capacity.gpus.len(),
        models(capacity.gpus.iter()),
    )
}

/// Shows what is reserved on the wire.
pub fn reserved_to_wire(capacity: &Capacity, reserved: &Reserved) -> v1::Resources {
    let held = capacity.gpus.iter().filter(|gpu| reserved.gpu_ids.contains(&gpu.id));
    resources_to_wire(reserved.cpu_millis, reserved.memory_bytes, reserved.gpu_ids.len(), models(held))
}

/// Shows what is left on the wire.
pub fn available_to_wire(capacity: &Capacity, reserved: &Reserved) -> v1::Resources {
    let free: Vec<&GpuDevice> =
        capacity.gpus.iter().filter(|gpu| !reserved.gpu_ids.contains(&gpu.id)).collect();
    resources_to_wire(
        capacity.cpu_millis.saturating_sub(reserved.cpu_millis),
        capacity.memory_bytes.saturating_sub(reserved.memory_bytes),
        free.len(),
        models(free.into_iter()),
    )
}

/// Shows devices on the wire.
pub fn gpus_to_wire(gpus: &[GpuDevice]) -> Vec<v1::GpuDevice> {
    gpus.iter()
        .map(|gpu| v1::GpuDevice { id: gpu.id.clone(), model: gpu.model.clone(), emulated: gpu.emulated })
        .collect()
}

/// What is known of an executor beside its record.
#[derive(Debug, Clone, Default)]
pub struct ExecutorContext {
    /// The store's time.
    pub now_ms: u64,
    /// How long a lease lasts; with the expiry it tells the time of the last heartbeat.
    pub lease_ms: u64,
    /// Jobs assigned to it or running on it.
    pub job_count: usize,
    /// What its containers use, where the asked replica holds its session.
    pub used: Option<v1::Resources>,
}

/// Shows an executor on the wire.
pub fn executor_to_wire(executor: &Executor, context: ExecutorContext) -> v1::Executor {
    let expired = executor.lease_expiry_ms <= context.now_ms;
    let state = match executor.state {
        ExecutorState::Lost => v1::ExecutorState::Lost,
        ExecutorState::Active if expired => v1::ExecutorState::Suspect,
        ExecutorState::Active if executor.drain.is_some() && context.job_count == 0 => {
            v1::ExecutorState::Drained
        }
        ExecutorState::Active if executor.drain.is_some() => v1::ExecutorState::Draining,
        ExecutorState::Active if !executor.takes_jobs() => v1::ExecutorState::NotReady,
        ExecutorState::Active => v1::ExecutorState::Active,
    };
    let not_ready = match (&executor.not_ready, executor.state) {
        (_, ExecutorState::Lost) if executor.fenced => "It was fenced by an operator.".to_owned(),
        (_, ExecutorState::Lost) if executor.drain.is_some() => "It is drained once it is back.".to_owned(),
        (_, ExecutorState::Lost) => String::new(),
        (_, ExecutorState::Active) if executor.restarting => "It restarts.".to_owned(),
        (reason, ExecutorState::Active) => reason.clone().unwrap_or_default(),
    };
    let heartbeat_ms = executor.last_seen_ms(context.lease_ms, context.now_ms);
    v1::Executor {
        id: executor.id.to_string(),
        state: i32::from(state),
        capacity: Some(capacity_to_wire(&executor.capacity)),
        reserved: Some(reserved_to_wire(&executor.capacity, &executor.reserved)),
        used: Some(context.used.unwrap_or_default()),
        running_job_count: i32::try_from(context.job_count).unwrap_or(i32::MAX),
        heartbeat_time: Some(timestamp(heartbeat_ms)),
        version: executor.version.clone(),
        labels: executor.labels.clone(),
        gpus: gpus_to_wire(&executor.capacity.gpus),
        available: Some(available_to_wire(&executor.capacity, &executor.reserved)),
        address: executor.peer_address.clone(),
        protocol_version: i32::try_from(executor.protocol_version).unwrap_or(i32::MAX),
        not_ready,
        drain_deadline: executor.drain.and_then(|drain| drain.deadline_ms).map(timestamp),
    }
}
