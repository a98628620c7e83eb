//! Writes a call as the flat arguments of the commit script: each mutation is the name of its
//! operation and a fixed number of fields. `lua/commit.lua` takes them in the same order.

use std::time::Duration;

use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::{ExecutorId, SessionId};
use berth_domain::job::{Job, JobIndex};
use berth_domain::spec::JobSpec;
use bytes::Bytes;
use fred::types::Value;

use super::client::{millis, number, text};
use crate::order::priority_base;
use crate::record::{
    change_of_deletion, change_of_executor, change_of_job, encode_executor, encode_job, encode_spec,
};
use crate::{Call, IdempotencyKey, Mutation};

/// Appends a call.
pub(super) fn push_call(args: &mut Vec<Value>, call: &Call) {
    args.push(call.generation.map_or_else(empty, number));
    args.push(call.leader.as_ref().map_or_else(empty, |guard| number(guard.epoch)));
    args.push(call.leader.as_ref().map_or_else(empty, |guard| text(&guard.owner)));
    args.push(number(call.mutations.len() as u64));
    for mutation in &call.mutations {
        match mutation {
            Mutation::Submit { job, spec, idempotency } => push_submit(args, job, spec, idempotency.as_ref()),
            Mutation::Update { job, session, attempt } => push_update(args, job, session.as_ref(), *attempt),
            Mutation::Delete { job_id, revision } => {
                let change = bytes(change_of_deletion(job_id));
                args.extend([text("delete"), text(job_id.as_str()), number(*revision), change]);
            }
            Mutation::PutExecutor { executor, lease } => push_executor(args, executor, *lease),
        }
    }
}

fn push_submit(args: &mut Vec<Value>, job: &Job, spec: &JobSpec, idempotency: Option<&IdempotencyKey>) {
    let record = encode_job(job);
    args.extend([
        text("submit"),
        text(job.id.as_str()),
        bytes(change_of_job(record.len())),
        bytes(record),
        bytes(encode_spec(spec)),
        text(job.state.name()),
        text(index_name(job)),
        number(priority_base(job.priority)),
    ]);
    match idempotency {
        Some(key) => args.extend([text(&key.key), text(&key.request_hash), millis(key.ttl)]),
        None => args.extend([empty(), empty(), empty()]),
    }
}

fn push_update(
    args: &mut Vec<Value>,
    job: &Job,
    session: Option<&(ExecutorId, SessionId)>,
    attempt: Option<(u32, u64)>,
) {
    let record = encode_job(job);
    let current = job.current_attempt().map(|attempt| (attempt.number, attempt.epoch));
    args.extend([
        text("update"),
        text(job.id.as_str()),
        number(job.revision),
        bytes(change_of_job(record.len())),
        bytes(record),
        text(job.state.name()),
        text(index_name(job)),
        number(priority_base(job.priority)),
        attempt_name(current),
        session.map_or_else(empty, |(executor, _)| text(executor.as_str())),
        session.map_or_else(empty, |(_, session)| text(session.as_str())),
        attempt_name(attempt),
        number(job.demand.cpu_millis),
        number(job.demand.memory_bytes),
        text(job.gpu_device_ids.join(" ")),
    ]);
}

fn push_executor(args: &mut Vec<Value>, executor: &Executor, lease: Option<Duration>) {
    let record = encode_executor(executor);
    let devices: Vec<&str> = executor.capacity.gpus.iter().map(|gpu| gpu.id.as_str()).collect();
    args.extend([
        text("executor"),
        text(executor.id.as_str()),
        number(executor.revision),
        bytes(change_of_executor(record.len())),
        bytes(record),
        executor.session.as_ref().map_or_else(empty, |session| text(session.as_str())),
        text(state_name(executor)),
        number(executor.capacity.cpu_millis),
        number(executor.capacity.memory_bytes),
        text(devices.join(" ")),
        lease.map_or_else(empty, millis),
    ]);
}

/// Names the index a job stands in, as its `index` field does.
fn index_name(job: &Job) -> String {
    match job.index() {
        JobIndex::Pending => "pending".to_owned(),
        JobIndex::Delayed(due_ms) => format!("delayed:{due_ms}"),
        JobIndex::Assigned(executor) => format!("assigned:{executor}"),
        JobIndex::Finished(end_ms) => format!("finished:{end_ms}"),
    }
}

fn attempt_name(attempt: Option<(u32, u64)>) -> Value {
    attempt.map_or_else(empty, |(number, epoch)| text(format!("{number}:{epoch}")))
}

/// What the commit script needs to know of an executor: ACTIVE may be given jobs.
fn state_name(executor: &Executor) -> &'static str {
    match executor.state {
        ExecutorState::Active if executor.takes_jobs() => "ACTIVE",
        ExecutorState::Active if executor.drain.is_some() => "DRAINING",
        ExecutorState::Active => "NOT_READY",
        ExecutorState::Lost => "LOST",
    }
}

fn bytes(value: Vec<u8>) -> Value {
    Value::Bytes(Bytes::from(value))
}

fn empty() -> Value {
    Value::Bytes(Bytes::new())
}
