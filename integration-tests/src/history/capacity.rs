//! What executors have, and what was given to them.

use std::collections::BTreeMap;

use berth_domain::constraint::show;
use berth_domain::executor::Executor;
use berth_domain::job::{Job, JobState};
use berth_store::Change;

use super::{Invariant, View, Violation};

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    let mut executors: BTreeMap<&str, &Executor> = BTreeMap::new();
    let mut held: BTreeMap<&str, &Job> = BTreeMap::new();
    for logged in &view.history.log {
        match &logged.change {
            Change::Executor(executor) => {
                executors.insert(executor.id.as_str(), executor);
            }
            Change::Job(job) => {
                let before = held.remove(job.id.as_str());
                if job.current_attempt().is_none() {
                    continue;
                }
                held.insert(job.id.as_str(), job);
                let is_new = job.state == JobState::Assigned
                    && before.is_none_or(|before| before.attempt != job.attempt)
                    && !view.has_lost_assignment(&job.last_attempt());
                if is_new {
                    let wrong = wrong_place(job, &executors, &held);
                    found.extend(wrong.map(|wrong| {
                        let story = format!("revision {}: job {} {wrong}", logged.revision, job.id);
                        Violation::new(Invariant::Capacity, story).of(job.id.as_str()).at(logged)
                    }));
                }
            }
            Change::JobDeleted(_) | Change::Leader { .. } => {}
        }
    }
}

/// Says what is wrong with an assignment, given what is held at the time, the job among it.
fn wrong_place(
    job: &Job,
    executors: &BTreeMap<&str, &Executor>,
    held: &BTreeMap<&str, &Job>,
) -> Option<String> {
    let id = job.executor.as_ref()?.as_str();
    let Some(executor) = executors.get(id) else {
        return Some(format!("was given to {id}, which is unknown"));
    };
    if !executor.takes_jobs() {
        return Some(format!("was given to {id}, which takes no jobs"));
    }
    if !job.demand.suits(&executor.labels) {
        let constraints = show(&job.demand.constraints);
        return Some(format!("was given to {id}, whose labels do not meet {constraints}"));
    }
    let there = || held.values().filter(|other| other.executor == job.executor);
    let (cpu_millis, memory_bytes) = sums(there().copied());
    let capacity = &executor.capacity;
    if cpu_millis > capacity.cpu_millis || memory_bytes > capacity.memory_bytes {
        return Some(format!(
            "was given to {id}, which then holds {cpu_millis} of {} millicores and {memory_bytes} of {} bytes",
            capacity.cpu_millis, capacity.memory_bytes
        ));
    }
    let has = |device: &String| capacity.gpus.iter().any(|gpu| gpu.id == *device);
    if let Some(device) = job.gpu_device_ids.iter().find(|device| !has(device)) {
        return Some(format!("was given device {device}, which {id} does not have"));
    }
    let others = || there().filter(|other| other.id != job.id);
    let is_taken = |device: &&String| others().any(|other| other.gpu_device_ids.contains(*device));
    let taken = job.gpu_device_ids.iter().find(is_taken);
    taken.map(|device| format!("was given device {device} of {id}, which another job has"))
}

/// What jobs have of CPU and memory, in sum.
pub(super) fn sums<'a>(jobs: impl Iterator<Item = &'a Job>) -> (u64, u64) {
    jobs.fold((0, 0), |(cpu_millis, memory_bytes), job| {
        (cpu_millis + job.demand.cpu_millis, memory_bytes + job.demand.memory_bytes)
    })
}
