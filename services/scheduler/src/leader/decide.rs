//! What the leader commits next, decided from the image alone: jobs that became due, placements,
//! queue timeouts. No clock, no store.

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::job::Job;
use berth_domain::lifecycle::{Event, apply};
use berth_domain::placement::{Obstacle, explain};
use berth_domain::queue::waited_ms;
use berth_domain::spec::OnLost;
use berth_store::{MAX_MUTATIONS, Mutation};

use crate::image::{Image, queue_limit_ms};

/// The most mutations that are decided at once: a few calls, which are committed at the same time.
pub const MOST_DECIDED: usize = 4 * MAX_MUTATIONS;

/// What a decision rests on beside the image.
#[derive(Debug, Clone)]
pub struct Circumstances<'a> {
    /// The leader's epoch.
    pub epoch: u64,
    /// The store's time.
    pub now_ms: u64,
    /// Periods in which the queue clock stood still.
    pub pauses: &'a [(u64, u64)],
    /// How long after its last heartbeat an executor is judged lost, in milliseconds.
    pub lost_after_ms: u64,
}

impl Circumstances<'_> {
    /// The quarantine that holds a job: (from, until). After the store may have forgotten what it
    /// was told, a job that must not run twice starts only once every executor has been heard of.
    fn quarantine(&self, image: &Image, job: &Job) -> Option<(u64, u64)> {
        let until_ms = image.quarantine_until_ms(self.lost_after_ms)?;
        (job.on_lost != OnLost::Retry).then_some((image.generation_since_ms, until_ms))
    }

    fn is_held(&self, image: &Image, job: &Job) -> bool {
        self.quarantine(image, job).is_some_and(|(_, until_ms)| self.now_ms < until_ms)
    }

    /// How long a job's queue clock has run.
    fn waited_ms(&self, image: &Image, job: &Job) -> u64 {
        let waited = waited_ms(job.ready_time_ms, self.now_ms, self.pauses);
        let held = self.quarantine(image, job).map_or(0, |quarantine| {
            let inside = waited_ms(job.ready_time_ms, self.now_ms, &[quarantine]);
            self.now_ms.saturating_sub(job.ready_time_ms).saturating_sub(inside)
        });
        waited.saturating_sub(held)
    }
}

/// Decides the next mutations, at most `MOST_DECIDED`. Empty when there is nothing to do now.
pub fn decide(image: &mut Image, circumstances: &Circumstances<'_>) -> Vec<Mutation> {
    let mut mutations: Vec<Mutation> = Vec::new();
    become_due(image, circumstances, &mut mutations);
    let placed = place(image, circumstances, &mut mutations);
    // Only what was just offered to every executor, and found no place, may time out. Where the
    // decision is full, the rest is offered again first.
    if let Some(placed) = placed.filter(|_| mutations.len() < MOST_DECIDED) {
        time_out(image, circumstances, &placed, &mut mutations);
    }
    mutations
}

fn update(job: Job) -> Mutation {
    Mutation::Update { job: Arc::new(job), session: None, attempt: None }
}

fn become_due(image: &Image, circumstances: &Circumstances<'_>, mutations: &mut Vec<Mutation>) {
    let ready = image
        .due(circumstances.now_ms)
        .filter_map(|job| apply(job, Event::BecameDue, circumstances.now_ms).ok());
    mutations.extend(ready.take(MOST_DECIDED).map(update));
}

/// Places jobs; tells which, if all were offered to every executor.
fn place(
    image: &mut Image,
    circumstances: &Circumstances<'_>,
    mutations: &mut Vec<Mutation>,
) -> Option<BTreeSet<JobId>> {
    let limit = MOST_DECIDED.saturating_sub(mutations.len());
    let plan = image.plan(circumstances.now_ms, circumstances.lost_after_ms, limit);
    let mut placed = BTreeSet::new();
    for (id, choice) in plan.placed {
        let Some(job) = image.job(&id) else { continue };
        // Of one that has registered again meanwhile nobody knows yet what it has, and which labels.
        let session = image.executor(&choice.executor).and_then(|known| known.session.clone());
        let session = session.map(|session| (choice.executor.clone(), session));
        let event = Event::Assign {
            executor: choice.executor,
            epoch: circumstances.epoch,
            gpu_device_ids: choice.gpu_device_ids,
        };
        if let Ok(next) = apply(job, event, circumstances.now_ms) {
            mutations.push(Mutation::Update { job: Arc::new(next), session, attempt: None });
        }
        placed.insert(id);
    }
    plan.is_complete.then_some(placed)
}

fn time_out(
    image: &Image,
    circumstances: &Circumstances<'_>,
    placed: &BTreeSet<JobId>,
    mutations: &mut Vec<Mutation>,
) {
    let mut nodes = None;
    for job in image.overdue(circumstances.now_ms) {
        if mutations.len() >= MOST_DECIDED {
            return;
        }
        let Some(limit) = queue_limit_ms(job) else { continue };
        let waited = circumstances.waited_ms(image, job);
        if waited < limit || placed.contains(&job.id) || circumstances.is_held(image, job) {
            continue;
        }
        let obstacle = explain(&job.demand, nodes.get_or_insert_with(|| image.nodes()).values());
        let detail = timeout_message(limit, &obstacle, image.has_executors());
        if let Ok(next) = apply(job, Event::QueueTimedOut { detail }, circumstances.now_ms) {
            mutations.push(update(next));
        }
    }
}

fn timeout_message(limit_ms: u64, obstacle: &Obstacle, has_executors: bool) -> String {
    let why = match obstacle {
        Obstacle::NoExecutors if has_executors => "every executor is lost.".to_owned(),
        Obstacle::NoExecutors => "no executor is registered.".to_owned(),
        Obstacle::TooLarge(why) | Obstacle::Unsuited(why) => {
            let mut chars = why.chars();
            let first = chars.next().map(|c| c.to_ascii_lowercase()).into_iter();
            first.chain(chars).collect()
        }
        Obstacle::Busy { fitting: 1, out_of_service: 0 } => {
            "it fits 1 executor, which had no room.".to_owned()
        }
        Obstacle::Busy { fitting: 1, .. } => "it fits 1 executor, which took no jobs.".to_owned(),
        Obstacle::Busy { fitting, out_of_service } if fitting == out_of_service => {
            format!("it fits {fitting} executors, none of which took jobs.")
        }
        Obstacle::Busy { fitting, .. } => format!("it fits {fitting} executors, none of which had room."),
    };
    format!("Not allocated within {}: {why}", show_seconds(limit_ms))
}

fn show_seconds(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { format!("{} s", ms / 1_000) } else { format!("{ms} ms") }
}

/// Tells when `decide` is worth asking again if nothing changes before.
pub fn next_deadline_ms(image: &Image, circumstances: &Circumstances<'_>) -> Option<u64> {
    let now_ms = circumstances.now_ms;
    // Jobs whose clock was paused stand before `now` in the order of unpaused deadlines.
    let free = image.overdue(now_ms).filter(|job| !circumstances.is_held(image, job));
    let paused = free.filter_map(|job| {
        let limit = queue_limit_ms(job)?;
        Some(now_ms + limit.saturating_sub(circumstances.waited_ms(image, job)).max(1))
    });
    let quarantine =
        image.quarantine_until_ms(circumstances.lost_after_ms).filter(|until_ms| *until_ms > now_ms);
    paused.chain(image.next_deadline_ms(now_ms)).chain(quarantine).min()
}

/// Decides what becomes of a lost executor's jobs: at most `MAX_MUTATIONS` of them.
pub fn bury(
    image: &Image,
    executor: &ExecutorId,
    now_ms: u64,
    mut jitter: impl FnMut() -> u32,
) -> Vec<Mutation> {
    let Some(lost) = image.executor(executor).filter(|known| known.state == ExecutorState::Lost) else {
        return Vec::new();
    };
    let event = || Event::ExecutorLost { fenced: lost.fenced, jitter: jitter() };
    change_all(image, executor, now_ms, event)
}

/// Decides to stop and put back what a drained executor still has at its deadline: at most
/// `MAX_MUTATIONS` of its jobs.
pub fn empty(image: &Image, executor: &Executor, now_ms: u64) -> Vec<Mutation> {
    match executor.drain.and_then(|drain| drain.deadline_ms) {
        // One that is lost cannot stop anything: the deadline counts again once it is back.
        Some(deadline_ms) if deadline_ms <= now_ms && executor.state == ExecutorState::Active => {
            change_all(image, &executor.id, now_ms, || Event::RequeueRequested)
        }
        Some(_) | None => Vec::new(),
    }
}

fn change_all(
    image: &Image,
    executor: &ExecutorId,
    now_ms: u64,
    mut event: impl FnMut() -> Event,
) -> Vec<Mutation> {
    let changed = image.assigned_to(executor).filter_map(|job| {
        let attempt = Some((job.attempt, job.attempt_epoch));
        let next = apply(job, event(), now_ms).ok()?;
        Some(Mutation::Update { job: Arc::new(next), session: None, attempt })
    });
    changed.take(MAX_MUTATIONS).collect()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
