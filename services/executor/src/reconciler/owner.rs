//! The task that owns what is known of each attempt. It never waits for anything but news: every
//! step, look and wait runs beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_domain::ids::AttemptRef;
use berth_domain::reconcile::{ContainerState, Step};
use berth_domain::resources::{GpuDevice, Reserved};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempt::Attempt;
use super::container::Surroundings;
use super::decide::{Decision, Rules, decide};
use super::steps::{Act, Steps, StepsParts};
use super::types::{Command, Lease, Notice, Reportable, Snapshot};
use crate::clock::millis;
use crate::outbox::Stored;
use crate::runtime::{EngineError, Listed, Owner};
use berth_domain::digest::assigned_digest;

/// How long an end is remembered after the schedulers have taken note of it: a cluster that lost
/// its newest writes is told again.
const REMEMBER: Duration = Duration::from_secs(3_600);
/// News waiting for the owner.
const NOTICES: usize = 1_024;
/// News taken in one turn.
const NOTICES_A_TURN: usize = 256;
/// How long steps under way may take to end when the executor stops.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// The longest sleep; it only keeps the arithmetic small.
const LONG: Duration = Duration::from_secs(3_600);
/// What is to be shown is copied as a whole: for each so many reports, a millisecond lies between
/// two copies, which bounds what copying takes.
const REPORTS_A_MILLISECOND: usize = 1_000;
/// How many safety intervals lie between two looks for old output.
const SWEEP_EVERY: u32 = 30;

/// What a reconciler is made of.
pub struct Parts {
    /// What steps need.
    pub steps: StepsParts,
    /// Whose containers they are.
    pub owner: Owner,
    /// The machine's current boot.
    pub boot_id: String,
    /// The executor's GPU devices.
    pub gpus: Vec<GpuDevice>,
    /// How long an ended container is kept.
    pub cleanup_after: Duration,
    /// How often everything is compared without a reason.
    pub safety_interval: Duration,
    /// What the session tells.
    pub commands: mpsc::Receiver<Command>,
    /// What the session is shown.
    pub snapshot: watch::Sender<Snapshot>,
    /// Until when the schedulers count on this executor.
    pub lease: watch::Receiver<Lease>,
    /// Containers that were there before.
    pub adopted: Vec<Listed>,
    /// Ends that were on disk before.
    pub stored: Vec<Stored>,
    /// Attempts of jobs that may start only once whose start was asked for before.
    pub started: Vec<AttemptRef>,
}

/// Owns what is known of each attempt.
pub struct Reconciler {
    pub(super) attempts: BTreeMap<AttemptRef, Attempt>,
    /// Attempts to be decided on in the next turn.
    pub(super) dirty: BTreeSet<AttemptRef>,
    pub(super) assignments_known: bool,
    pub(super) steps: Steps,
    pub(super) tasks: TaskTracker,
    deadlines: BTreeSet<(u64, AttemptRef)>,
    reports: BTreeMap<AttemptRef, Reportable>,
    digest: u64,
    changed: bool,
    /// What has changed is shown from this time on.
    publish_at: Instant,
    turn: u64,
    sweeps: u32,
    /// Why a step failed, as it was told last.
    pub(super) last_failure: Option<String>,
    cleanup_after_ms: u64,
    safety_interval: Duration,
    commands: mpsc::Receiver<Command>,
    snapshot: watch::Sender<Snapshot>,
    lease: watch::Receiver<Lease>,
    notices: mpsc::Receiver<Notice>,
    pub(super) notify: mpsc::Sender<Notice>,
    pub(super) stop: CancellationToken,
}

impl Reconciler {
    /// Starts from what was there before.
    pub fn new(parts: Parts, stop: CancellationToken) -> Self {
        let surroundings = Surroundings {
            owner: parts.owner,
            boot_id: parts.boot_id,
            gpus: parts.gpus.into_iter().map(|gpu| (gpu.id.clone(), gpu)).collect(),
        };
        let (notify, notices) = mpsc::channel(NOTICES);
        let mut this = Self {
            attempts: BTreeMap::new(),
            dirty: BTreeSet::new(),
            assignments_known: false,
            steps: Steps::new(parts.steps, surroundings),
            tasks: TaskTracker::new(),
            deadlines: BTreeSet::new(),
            reports: BTreeMap::new(),
            digest: 0,
            changed: true,
            publish_at: Instant::now(),
            turn: 1,
            sweeps: 0,
            last_failure: None,
            cleanup_after_ms: millis(parts.cleanup_after),
            safety_interval: parts.safety_interval,
            commands: parts.commands,
            snapshot: parts.snapshot,
            lease: parts.lease,
            notices,
            notify,
            stop,
        };
        let now_ms = this.now_ms();
        for key in parts.started {
            this.attempts.entry(key.clone()).or_default().memory.start_requested = true;
            this.touch(&key);
        }
        for Stored { end, acknowledged } in parts.stored {
            let key = end.attempt.clone();
            this.attempts.insert(key.clone(), Attempt::ended_before(end, acknowledged, now_ms));
            this.touch(&key);
        }
        this.listed(0, parts.adopted);
        this
    }

    /// Runs until the executor stops. Containers are left as they are.
    pub async fn run(mut self) {
        let mut safety =
            tokio::time::interval_at(Instant::now() + self.safety_interval, self.safety_interval);
        safety.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.turn();
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(notice) = self.notices.recv() => self.take_notices(notice),
                Some(command) = self.commands.recv() => self.command(command),
                Ok(()) = self.lease.changed() => self.lease_changed(),
                () = tokio::time::sleep_until(wake) => {}
                _ = safety.tick() => self.ask_for_list(),
            }
        }
        // Whoever still has news finds nobody to tell, and ends.
        drop(self.notices);
        self.tasks.close();
        let _ = tokio::time::timeout(STOP_WAIT, self.tasks.wait()).await;
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.steps.parts.clock.wall_ms()
    }

    fn jitter(&self) -> u32 {
        self.steps.parts.random.next_u32()
    }

    /// Decides on every attempt that something happened to, then shows the session what is new.
    fn turn(&mut self) {
        self.turn += 1;
        let now_ms = self.now_ms();
        while let Some((at, key)) = self.deadlines.first().filter(|(at, _)| *at <= now_ms).cloned() {
            self.deadlines.remove(&(at, key.clone()));
            self.dirty.insert(key);
        }
        let lease_left = self.lease.borrow().until.saturating_duration_since(Instant::now());
        let rules = Rules {
            assignments_known: self.assignments_known,
            cleanup_after_ms: self.cleanup_after_ms,
            remember_ms: millis(REMEMBER),
            lease_until_ms: now_ms.saturating_add(millis(lease_left)),
            now_ms,
        };
        // A wait that begins changes what is to be done next, so that one round may need another.
        while !self.dirty.is_empty() {
            for key in std::mem::take(&mut self.dirty) {
                self.advance(&key, &rules);
            }
        }
        if self.changed && Instant::now() >= self.publish_at {
            self.publish();
        }
    }

    fn advance(&mut self, key: &AttemptRef, rules: &Rules) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if let Some(at) = attempt.wake_at_ms.take() {
            self.deadlines.remove(&(at, key.clone()));
        }
        match decide(key, attempt, rules) {
            Decision::Nothing => {}
            Decision::LookAgainAt(at) => {
                attempt.wake_at_ms = Some(at);
                self.deadlines.insert((at, key.clone()));
            }
            Decision::Do(Act::Step(Step::Watch)) => {
                self.watch(key);
                self.dirty.insert(key.clone());
            }
            Decision::Do(act) => self.begin(key, act),
        }
    }

    fn take_notices(&mut self, first: Notice) {
        self.notice(first);
        for _ in 1..NOTICES_A_TURN {
            match self.notices.try_recv() {
                Ok(notice) => self.notice(notice),
                Err(_) => return,
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Done(key, outcome) => self.done(&key, outcome),
            Notice::Exit { attempt: key, seen, witnessed } => {
                let (now_ms, jitter, turn) = (self.now_ms(), self.jitter(), self.turn);
                if let Some(attempt) = self.attempts.get_mut(&key) {
                    (attempt.watch, attempt.witnessed, attempt.changed_turn) = (None, witnessed, turn);
                    attempt.saw(seen, now_ms, jitter);
                    self.touch(&key);
                }
            }
            Notice::Captured(key) => {
                if let Some(attempt) = self.attempts.get_mut(&key) {
                    attempt.memory.logs_captured = true;
                    self.touch(&key);
                }
            }
            Notice::Listed(turn, listed) => self.listed(turn, listed),
            // The runtime has said so itself, once.
            Notice::ListFailed(EngineError::Unreachable(_)) => {}
            Notice::ListFailed(error) => {
                tracing::warn!(reason = %error, "the containers cannot be listed");
            }
        }
    }

    fn ask_for_list(&mut self) {
        let (steps, notify, turn) = (self.steps.clone(), self.notify.clone(), self.turn);
        self.sweeps = (self.sweeps + 1) % SWEEP_EVERY;
        let sweep = self.sweeps == 0;
        self.tasks.spawn(async move {
            let notice = match steps.parts.runtime.list(&steps.surroundings.owner).await {
                Ok(listed) => Notice::Listed(turn, listed),
                Err(error) => Notice::ListFailed(error),
            };
            let _ = notify.send(notice).await;
            if sweep && let Err(error) = steps.parts.capture.store.sweep().await {
                tracing::warn!(error = %error, "old output cannot be removed");
            }
        });
    }

    /// Compares what the engine lists with what is known. Differences are looked into, never
    /// believed: the list may be older than what steps have done since.
    fn listed(&mut self, asked_in_turn: u64, listed: Vec<Listed>) {
        let boot_id = self.steps.surroundings.boot_id.clone();
        let mut present = BTreeSet::new();
        for container in listed {
            let known = self.attempts.entry(container.attempt.clone()).or_default();
            present.insert(container.attempt.clone());
            known.old_boot = container.boot_id != boot_id;
            known.fence_grace_ms = known.fence_grace_ms.or(container.fence_grace_ms);
            let same = known.container.is_some_and(|state| container.shows(state));
            known.stale |= !same && !known.memory.busy && known.changed_turn <= asked_in_turn;
            self.touch(&container.attempt);
        }
        let mut gone = Vec::new();
        for (key, attempt) in &mut self.attempts {
            let settled = !attempt.memory.busy && attempt.changed_turn <= asked_in_turn;
            if attempt.container.is_some() && settled && !present.contains(key) {
                attempt.stale = true;
            }
            gone.push(key.clone());
        }
        self.dirty.extend(gone);
    }

    fn lease_changed(&mut self) {
        let fenced = self.attempts.iter().filter(|(_, attempt)| attempt.fence_grace_ms.is_some());
        self.dirty.extend(fenced.map(|(key, _)| key.clone()));
    }

    /// Notes that something of the attempt has changed.
    pub(super) fn touch(&mut self, key: &AttemptRef) {
        self.dirty.insert(key.clone());
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let wanted = attempt.order.is_some();
        if attempt.counted != wanted {
            attempt.counted = wanted;
            let own = assigned_digest(std::iter::once(key));
            self.digest = if wanted { self.digest.wrapping_add(own) } else { self.digest.wrapping_sub(own) };
            self.changed = true;
        }
        let reportable = attempt.reportable();
        if self.reports.get(key) != reportable.as_ref() {
            self.changed = true;
            match reportable {
                Some(reportable) => self.reports.insert(key.clone(), reportable),
                None => self.reports.remove(key),
            };
        }
    }

    /// Forgets the attempt.
    pub(super) fn forget(&mut self, key: &AttemptRef) {
        // Whoever still follows its output has all there will be.
        self.steps.parts.capture.store.close(key);
        if let Some(at) = self.attempts.remove(key).and_then(|attempt| attempt.wake_at_ms) {
            self.deadlines.remove(&(at, key.clone()));
        }
        self.changed |= self.reports.remove(key).is_some();
    }

    fn publish(&mut self) {
        self.changed = false;
        let pause_ms = u64::try_from(self.reports.len() / REPORTS_A_MILLISECOND).unwrap_or(u64::MAX);
        self.publish_at = Instant::now() + Duration::from_millis(pause_ms).min(LONG);
        let mut used = Reserved::default();
        for key in self.reports.keys() {
            let Some(attempt) = self.attempts.get(key) else { continue };
            let running = matches!(attempt.container, Some(ContainerState::Running { .. }));
            if let Some(order) = attempt.order.as_ref().filter(|_| running)
                && let Ok(spec) = &order.spec
            {
                used.add(&spec.demand, &order.gpu_device_ids);
            }
        }
        let reports = Arc::new(self.reports.clone());
        self.snapshot.send_replace(Snapshot { reports, assigned_digest: self.digest, used });
    }

    pub(super) fn set_changed_turn(&mut self, key: &AttemptRef) {
        let turn = self.turn;
        if let Some(attempt) = self.attempts.get_mut(key) {
            attempt.changed_turn = turn;
        }
    }

    fn next_wake(&self) -> Instant {
        let now_ms = self.now_ms();
        let wait = self
            .deadlines
            .first()
            .map_or(LONG, |(at, _)| Duration::from_millis(at.saturating_sub(now_ms)).min(LONG));
        let wake = Instant::now() + wait;
        if self.changed { wake.min(self.publish_at) } else { wake }
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
