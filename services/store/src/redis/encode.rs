//! Writes a call as the flat arguments of the commit script: each mutation is the name of its
//! operation and a fixed number of fields. `lua/commit.lua` takes them in the same order.

use std::fmt::{self, Write};
use std::time::Duration;

use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::{ExecutorId, SessionId};
use berth_domain::job::{Job, JobIndex};
use berth_domain::spec::JobSpec;
use bytes::BytesMut;
use fred::types::Value;

use super::client::whole_ms;
use crate::order::priority_base;
use crate::record::{
    change_of_deletion, change_of_executor, change_of_job, encode_executor, encode_job, encode_spec,
};
use crate::{Call, IdempotencyKey, Mutation};

/// What a mutation takes in all, about: more is room that grows.
const BYTES_A_MUTATION: usize = 1_024;
/// The most arguments of a mutation.
const FIELDS_A_MUTATION: usize = 16;

/// The arguments of a call: one buffer has the bytes of all, so that none needs an allocation of its own.
struct Args {
    buffer: BytesMut,
    /// Where each argument ends.
    ends: Vec<usize>,
}

impl Args {
    fn bytes(&mut self, value: &[u8]) {
        self.buffer.extend_from_slice(value);
        self.ends.push(self.buffer.len());
    }

    fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    fn empty(&mut self) {
        self.bytes(&[]);
    }

    /// Adds what is written as text.
    fn shown(&mut self, value: fmt::Arguments<'_>) {
        // A buffer that grows takes whatever is written.
        let _ = self.buffer.write_fmt(value);
        self.ends.push(self.buffer.len());
    }

    fn number(&mut self, value: u64) {
        self.shown(format_args!("{value}"));
    }

    fn values(self) -> impl Iterator<Item = Value> {
        let (all, mut from) = (self.buffer.freeze(), 0);
        self.ends.into_iter().map(move |end| Value::Bytes(all.slice(std::mem::replace(&mut from, end)..end)))
    }
}

/// Appends a call.
pub(super) fn push_call(values: &mut Vec<Value>, call: &Call) {
    let count = call.mutations.len();
    let mut args = Args {
        buffer: BytesMut::with_capacity(count * BYTES_A_MUTATION),
        ends: Vec::with_capacity(count * FIELDS_A_MUTATION),
    };
    match call.generation {
        Some(generation) => args.number(generation),
        None => args.empty(),
    }
    match &call.leader {
        Some(guard) => {
            args.number(guard.epoch);
            args.text(&guard.owner);
        }
        None => (0..2).for_each(|_| args.empty()),
    }
    args.number(count as u64);
    for mutation in &call.mutations {
        match mutation {
            Mutation::Submit { job, spec, idempotency } => {
                push_submit(&mut args, job, spec, idempotency.as_ref());
            }
            Mutation::Update { job, session, attempt } => {
                push_update(&mut args, job, session.as_ref(), *attempt);
            }
            Mutation::Delete { job_id, revision } => {
                args.text("delete");
                args.text(job_id.as_str());
                args.number(*revision);
                args.bytes(&change_of_deletion(job_id));
            }
            Mutation::PutExecutor { executor, lease } => push_executor(&mut args, executor, *lease),
        }
    }
    values.extend(args.values());
}

fn push_submit(args: &mut Args, job: &Job, spec: &JobSpec, idempotency: Option<&IdempotencyKey>) {
    let record = encode_job(job);
    args.text("submit");
    args.text(job.id.as_str());
    args.bytes(&change_of_job(record.len()));
    args.bytes(&record);
    args.bytes(&encode_spec(spec));
    push_place(args, job);
    match idempotency {
        Some(key) => {
            args.text(&key.key);
            args.text(&key.request_hash);
            args.number(whole_ms(key.ttl));
        }
        None => (0..3).for_each(|_| args.empty()),
    }
}

fn push_update(
    args: &mut Args,
    job: &Job,
    session: Option<&(ExecutorId, SessionId)>,
    attempt: Option<(u32, u64)>,
) {
    let record = encode_job(job);
    args.text("update");
    args.text(job.id.as_str());
    args.number(job.revision);
    args.bytes(&change_of_job(record.len()));
    args.bytes(&record);
    push_place(args, job);
    push_attempt(args, job.current_attempt().map(|attempt| (attempt.number, attempt.epoch)));
    args.text(session.map_or("", |(executor, _)| executor.as_str()));
    args.text(session.map_or("", |(_, session)| session.as_str()));
    push_attempt(args, attempt);
    args.number(job.demand.cpu_millis);
    args.number(job.demand.memory_bytes);
    args.text(&job.gpu_device_ids.join(" "));
}

fn push_executor(args: &mut Args, executor: &Executor, lease: Option<Duration>) {
    let record = encode_executor(executor);
    let devices: Vec<&str> = executor.capacity.gpus.iter().map(|gpu| gpu.id.as_str()).collect();
    args.text("executor");
    args.text(executor.id.as_str());
    args.number(executor.revision);
    args.bytes(&change_of_executor(record.len()));
    args.bytes(&record);
    args.text(executor.session.as_ref().map_or("", SessionId::as_str));
    args.text(state_name(executor));
    args.number(executor.capacity.cpu_millis);
    args.number(executor.capacity.memory_bytes);
    args.text(&devices.join(" "));
    match lease {
        Some(lease) => args.number(whole_ms(lease)),
        None => args.empty(),
    }
}

/// The state of a job, its index as its `index` field names it, and what orders it among the pending.
fn push_place(args: &mut Args, job: &Job) {
    args.text(job.state.name());
    match job.index() {
        JobIndex::Pending => args.text("pending"),
        JobIndex::Delayed(due_ms) => args.shown(format_args!("delayed:{due_ms}")),
        JobIndex::Assigned(executor) => args.shown(format_args!("assigned:{executor}")),
        JobIndex::Finished(end_ms) => args.shown(format_args!("finished:{end_ms}")),
    }
    args.number(priority_base(job.priority));
}

fn push_attempt(args: &mut Args, attempt: Option<(u32, u64)>) {
    match attempt {
        Some((number, epoch)) => args.shown(format_args!("{number}:{epoch}")),
        None => args.empty(),
    }
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
