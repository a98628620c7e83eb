//! Whether everything moves on once faults have ceased: not only in the end, but each step in its time.
//!
//! A minute after the last fault, executors are back, and whoever leads has heard of them. From then on nothing stays
//! as it is for longer than it must by itself: a job's command runs, a backoff, an announced restart, a queue or run
//! timeout and the grace of a stop last as long as they last, and a job waits while there is no room for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use berth_domain::backoff::INFRASTRUCTURE;
use berth_domain::executor::{Executor, ExecutorState, RESTART_LEASE_MS};
use berth_domain::ids::AttemptRef;
use berth_domain::job::{Job, JobState};
use berth_domain::resources::GpuDevice;
use berth_store::Change;

use super::capacity::sums;
use super::{History, Invariant, View, Violation, life, witnessed};

/// After the last fault, so long may it take for all to be back.
const CALM_MS: u64 = 60_000;
/// Each step then takes so long at the most, beside what takes its time by itself.
const STEP_MS: u64 = 20_000;
/// The longest grace of a stop in any harness.
const GRACE_MS: u64 = 10_000;
/// For jobs that have waited so long, executors may be kept.
const AGE_LIMIT_MS: u64 = 300_000;

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    if !view.history.is_quiet {
        return;
    }
    for call in &view.history.unanswered {
        found.push(Violation::new(Invariant::Liveness, format!("nobody answered: {call}")));
    }
    for (id, records) in &view.lives {
        if records.last().is_some_and(|job| !job.state.is_terminal()) && !view.removed.contains(id) {
            let story = format!("job {id} never ended: {}", life(records));
            found.push(Violation::new(Invariant::Liveness, story).of(id));
        }
    }
    let Some(calm_ms) = calm_ms(view.history) else { return };
    answers(view.history, calm_ms, found);
    let mut walk = Walk::new(view, calm_ms);
    for logged in view.history.log.iter().filter(|logged| logged.at_ms > 0) {
        // Whoever reads the log may see some of it late.
        walk.go_to(logged.at_ms.max(walk.now_ms), found);
        walk.take(walk.now_ms, &logged.change, found);
    }
    walk.go_to(view.history.until_ms, found);
    walk.end(found);
}

/// From when on everything moves; `None` where that is not known.
fn calm_ms(history: &History) -> Option<u64> {
    let is_known = history.calm_since_ms > 0 && history.until_ms > 0;
    is_known.then(|| history.calm_since_ms + CALM_MS)
}

/// Submits are answered.
fn answers(history: &History, calm_ms: u64, found: &mut Vec<Violation>) {
    for submit in history.submits.iter().filter(|submit| submit.answered_ms > 0) {
        let late_ms = submit.answered_ms.saturating_sub(submit.began_ms.max(calm_ms));
        if late_ms > STEP_MS {
            let story = format!("the submit with key {} took {late_ms} ms", submit.key);
            found.push(Violation::new(Invariant::Liveness, story));
        }
    }
}

/// Where a job is, and since when.
#[derive(Clone, Copy)]
struct Place<'a> {
    job: &'a Job,
    since_ms: u64,
    /// Since when there is room for it, and nobody before it.
    room_since_ms: Option<u64>,
}

/// A walk through the log, from one change to the next.
struct Walk<'a, 'b> {
    view: &'b View<'a>,
    calm_ms: u64,
    now_ms: u64,
    executors: BTreeMap<&'a str, (&'a Executor, u64)>,
    /// Until when executors that announced a restart are waited for, or were.
    awaited_ms: BTreeMap<&'a str, u64>,
    /// Since when nobody leads.
    unled_ms: Option<u64>,
    jobs: BTreeMap<&'a str, Place<'a>>,
    /// When attempts ceased to be current.
    over_ms: BTreeMap<AttemptRef, u64>,
}

impl<'a, 'b> Walk<'a, 'b> {
    fn new(view: &'b View<'a>, calm_ms: u64) -> Self {
        Self {
            view,
            calm_ms,
            now_ms: 0,
            executors: BTreeMap::new(),
            awaited_ms: BTreeMap::new(),
            unled_ms: None,
            jobs: BTreeMap::new(),
            over_ms: BTreeMap::new(),
        }
    }

    /// Lets time pass: whoever could have had a place all the while should have got it.
    fn go_to(&mut self, at_ms: u64, found: &mut Vec<Violation>) {
        if self.now_ms < self.calm_ms && at_ms >= self.calm_ms {
            self.now_ms = self.calm_ms;
            self.look_for_room();
        }
        self.now_ms = at_ms;
        for (id, place) in &mut self.jobs {
            let from_ms = place.room_since_ms;
            if let Some(from_ms) = from_ms.filter(|from_ms| at_ms.saturating_sub(*from_ms) > STEP_MS) {
                let story = format!("job {id} waits from {from_ms} to {at_ms}, and there is room for it");
                found.push(Violation::new(Invariant::Liveness, story).of(id));
                place.room_since_ms = None;
            }
        }
    }

    fn take(&mut self, at_ms: u64, change: &'a Change, found: &mut Vec<Violation>) {
        match change {
            Change::Job(job) => {
                let id = job.id.as_str();
                let before = self.jobs.get(id).copied();
                let is_same = before.is_some_and(|before| is_same(before.job, job));
                if let Some(before) = before.filter(|_| !is_same) {
                    self.leave(before, found);
                }
                let since_ms = before.filter(|_| is_same).map_or(at_ms, |before| before.since_ms);
                self.jobs.insert(id, Place { job, since_ms, room_since_ms: None });
            }
            Change::JobDeleted(id) => {
                self.jobs.remove(id.as_str());
            }
            Change::Executor(executor) => {
                let id = executor.id.as_str();
                let before = self.executors.get(id).copied();
                let is_same = before.is_some_and(|(before, _)| is_away(before) == is_away(executor));
                if let Some((before, since_ms)) = before.filter(|_| !is_same) {
                    self.come_back(before, since_ms, found);
                }
                let since_ms = before.filter(|_| is_same).map_or(at_ms, |(_, since_ms)| since_ms);
                let was_restarting = before.is_some_and(|(before, _)| before.restarting);
                if executor.restarting != was_restarting {
                    let lease_ms = if executor.restarting { RESTART_LEASE_MS } else { 0 };
                    self.awaited_ms.insert(id, at_ms + lease_ms);
                }
                self.executors.insert(id, (executor, since_ms));
            }
            Change::Leader { scheduler_id, .. } => {
                self.is_led(!scheduler_id.is_empty(), found);
                return;
            }
        }
        if self.now_ms >= self.calm_ms {
            self.look_for_room();
        }
    }

    /// Somebody leads from now on, or nobody.
    fn is_led(&mut self, is_led: bool, found: &mut Vec<Violation>) {
        let until_ms = self.now_ms;
        if let Some(from_ms) = self.unled_ms.filter(|ms| until_ms > self.calm_ms.max(*ms) + STEP_MS) {
            let story = format!("nobody led from {from_ms} until {until_ms}");
            found.push(Violation::new(Invariant::Liveness, story));
        }
        self.unled_ms = (!is_led).then_some(until_ms);
    }

    fn end(&mut self, found: &mut Vec<Violation>) {
        self.is_led(true, found);
        for place in std::mem::take(&mut self.jobs).into_values() {
            self.leave(place, found);
        }
        for (executor, since_ms) in std::mem::take(&mut self.executors).into_values() {
            self.come_back(executor, since_ms, found);
        }
        for run in &self.view.history.runs {
            let id = run.attempt.job.as_str();
            let current = self.view.newest(id).and_then(Job::current_attempt);
            if current.as_ref() == Some(&run.attempt) {
                continue;
            }
            let over_ms = self.over_ms.get(&run.attempt).copied().unwrap_or_default();
            let due_ms = over_ms.max(self.calm_ms) + GRACE_MS + STEP_MS;
            let end_ms = run.ended.map_or(self.view.history.until_ms, |(end_ms, _)| end_ms);
            if end_ms > due_ms {
                let story =
                    format!("nobody stopped a container of job {id} by {due_ms}: {}", witnessed(&[run]));
                found.push(Violation::new(Invariant::Liveness, story).of(id));
            }
        }
    }

    /// A job is no longer where it was: it should not have been there for longer than it had to.
    fn leave(&mut self, place: Place<'a>, found: &mut Vec<Violation>) {
        let Place { job, since_ms, .. } = place;
        if let Some(attempt) = job.current_attempt() {
            self.over_ms.insert(attempt, self.now_ms);
        }
        let awaited_ms = job.executor.as_ref().and_then(|id| self.awaited_ms.get(id.as_str()));
        let awaited_ms = awaited_ms.map_or(0, |ms| ms + STEP_MS);
        let due = self.due(job, since_ms).map(|(due_ms, why)| (due_ms.max(awaited_ms), why));
        if let Some((due_ms, why)) = due.filter(|(due_ms, _)| self.now_ms > *due_ms) {
            let story = format!(
                "job {} was {} from {since_ms} until {}, and should have gone on by {due_ms}: {why}; {}",
                job.id,
                job.state.name(),
                self.now_ms,
                witnessed(self.view.runs_of(job.id.as_str()))
            );
            found.push(Violation::new(Invariant::Liveness, story).of(job.id.as_str()));
        }
    }

    /// Until when a job may be where it is, and why no longer; `None` for ever.
    fn due(&self, job: &Job, since_ms: u64) -> Option<(u64, &'static str)> {
        let after = |ms: u64| ms.max(self.calm_ms).saturating_add(STEP_MS);
        let mut due = Vec::new();
        if job.is_to_stop() && !job.state.is_terminal() {
            due.push((after(since_ms) + GRACE_MS, "it is to be stopped"));
        }
        match job.state {
            JobState::Pending => {
                let limits = job.queue_timeout_ms.zip(job.requeue_timeout_ms.or(job.queue_timeout_ms));
                let back_ms = if job.due_time_ms.is_some() { INFRASTRUCTURE.most_ms } else { 0 };
                if job.due_time_ms.is_some() {
                    due.push((after(since_ms + back_ms), "it was held back for long enough"));
                }
                due.extend(limits.map(|(first_ms, later_ms)| {
                    let limit_ms = first_ms.max(later_ms);
                    (after((since_ms + back_ms).saturating_add(limit_ms)), "its time in the queue is over")
                }));
            }
            JobState::Assigned => due.push((after(since_ms), "its executor starts it")),
            JobState::Running => {
                let attempt = job.last_attempt();
                let mut of_it =
                    self.view.runs_of(job.id.as_str()).iter().filter(|run| run.attempt == attempt).peekable();
                let is_there = of_it.peek().is_some();
                let ends = of_it.map(|run| run.ended.map(|(end_ms, _)| end_ms)).collect::<Option<Vec<u64>>>();
                let end_ms = ends.map(|ends| ends.into_iter().max().unwrap_or(since_ms));
                let why = if is_there { "its container has ended" } else { "it has no container" };
                due.extend(end_ms.map(|end_ms| (after(end_ms.max(since_ms)), why)));
                let limit_ms = job.run_timeout_ms.map(|limit_ms| since_ms.saturating_add(limit_ms));
                due.extend(
                    limit_ms.map(|ms| (after(ms).saturating_add(GRACE_MS), "its run timeout is over")),
                );
            }
            JobState::Succeeded | JobState::Failed | JobState::Aborted => {}
        }
        due.into_iter().min()
    }

    fn come_back(&self, executor: &Executor, since_ms: u64, found: &mut Vec<Violation>) {
        let awaited_ms = self.awaited_ms.get(executor.id.as_str()).copied().unwrap_or_default();
        let due_ms = since_ms.max(self.calm_ms).max(awaited_ms) + STEP_MS;
        if is_away(executor) && self.now_ms > due_ms {
            let story = format!("{} was away from {since_ms} until {}", executor.id, self.now_ms);
            found.push(Violation::new(Invariant::Liveness, story));
        }
    }

    /// Notes for which jobs there is room from now on, or still.
    fn look_for_room(&mut self) {
        let now_ms = self.now_ms;
        let waiting = || self.jobs.values().filter(|place| is_waiting(place.job));
        let first = waiting().min_by_key(|place| (Reverse(place.job.priority), place.job.create_time_ms));
        let first = first.map(|place| place.job.id.as_str());
        // For one that has waited so long an executor may be kept.
        let is_aged = |place: &Place<'_>| now_ms.saturating_sub(place.since_ms) >= AGE_LIMIT_MS;
        let has_aged = waiting().any(|place| is_aged(place) && Some(place.job.id.as_str()) != first);
        let room = !has_aged && first.is_some_and(|id| self.has_room(self.jobs[id].job));
        for (id, place) in &mut self.jobs {
            let has_room = room && first == Some(*id);
            place.room_since_ms = has_room.then(|| place.room_since_ms.unwrap_or(now_ms));
        }
    }

    /// Says whether an executor has room for a job.
    fn has_room(&self, job: &Job) -> bool {
        self.executors.values().any(|(executor, _)| {
            let there = || {
                let jobs = self.jobs.values().map(|place| place.job);
                jobs.filter(|other| {
                    other.current_attempt().is_some() && other.executor.as_ref() == Some(&executor.id)
                })
            };
            let (cpu_millis, memory_bytes) = sums(there());
            executor.takes_jobs()
                && job.demand.suits(&executor.labels)
                && cpu_millis + job.demand.cpu_millis <= executor.capacity.cpu_millis
                && memory_bytes + job.demand.memory_bytes <= executor.capacity.memory_bytes
                && free_gpus(job, executor, there()) >= job.demand.gpu_count
        })
    }
}

/// Says whether nothing about where a job is has changed between two records.
fn is_same(before: &Job, after: &Job) -> bool {
    let place =
        |job: &Job| (job.state, job.attempt, job.attempt_epoch, job.is_to_stop(), job.due_time_ms.is_some());
    place(before) == place(after)
}

/// Counts the devices of an executor that would do for a job and that nobody has.
fn free_gpus<'a>(job: &Job, executor: &Executor, there: impl Iterator<Item = &'a Job>) -> u32 {
    let taken: BTreeSet<&String> = there.flat_map(|other| &other.gpu_device_ids).collect();
    let models = &job.demand.gpu_models;
    let would_do = |gpu: &&GpuDevice| models.is_empty() || models.contains(&gpu.model);
    let free = executor.capacity.gpus.iter().filter(would_do).filter(|gpu| !taken.contains(&gpu.id));
    u32::try_from(free.count()).unwrap_or(u32::MAX)
}

fn is_waiting(job: &Job) -> bool {
    job.state == JobState::Pending && job.due_time_ms.is_none()
}

/// Says whether an executor that nobody declared dead is not in touch, or can run nothing.
fn is_away(executor: &Executor) -> bool {
    let is_there = executor.state == ExecutorState::Active
        && executor.session.is_some()
        && executor.not_ready.is_none()
        && !executor.restarting;
    !is_there && !executor.fenced
}
