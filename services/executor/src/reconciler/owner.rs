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
use super::types::{Command, Notice, Reportable, Snapshot};
use crate::clock::millis;
use crate::lease::Lease;
use crate::outbox::{Found, Stopping, Stored};
use crate::runtime::{EngineError, Owner};
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
    /// What was on disk before.
    pub found: Found,
}

/// Owns what is known of each attempt.
pub struct Reconciler {
    pub(super) attempts: BTreeMap<AttemptRef, Attempt>,
    /// Attempts to be decided on in the next turn.
    pub(super) dirty: BTreeSet<AttemptRef>,
    pub(super) assignments_known: bool,
    /// The engine has named its containers once; before that nothing is done.
    pub(super) containers_known: bool,
    pub(super) steps: Steps,
    pub(super) tasks: TaskTracker,
    deadlines: BTreeSet<(u64, AttemptRef)>,
    reports: BTreeMap<AttemptRef, Reportable>,
    digest: u64,
    pub(super) changed: bool,
    /// What has changed is shown from this time on.
    publish_at: Instant,
    pub(super) turn: u64,
    pub(super) sweeps: u32,
    /// Why a step failed, as it was told last.
    pub(super) last_failure: Option<String>,
    cleanup_after_ms: u64,
    safety_interval: Duration,
    commands: mpsc::Receiver<Command>,
    snapshot: watch::Sender<Snapshot>,
    lease: watch::Receiver<Lease>,
    /// The name was this executor's own when it was asked last.
    entitled: bool,
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
        let entitled = parts.lease.borrow().entitled;
        let mut this = Self {
            attempts: BTreeMap::new(),
            dirty: BTreeSet::new(),
            assignments_known: false,
            containers_known: false,
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
            entitled,
            lease: parts.lease,
            notices,
            notify,
            stop,
        };
        let now_ms = this.now_ms();
        for key in parts.found.started {
            this.attempts.entry(key.clone()).or_default().memory.start_requested = true;
            this.touch(&key);
        }
        for Stopping { attempt: key, stop, fenced } in parts.found.stopping {
            let attempt = this.attempts.entry(key.clone()).or_default();
            (attempt.memory.stop, attempt.fenced) = (Some(stop), fenced);
            this.touch(&key);
        }
        for Stored { end, acknowledged } in parts.found.stored {
            let key = end.attempt.clone();
            this.attempts.insert(key.clone(), Attempt::ended_before(end, acknowledged, now_ms));
            this.touch(&key);
        }
        this
    }

    /// Runs until the executor stops. Containers are left as they are.
    pub async fn run(mut self) {
        let mut safety =
            tokio::time::interval_at(Instant::now() + self.safety_interval, self.safety_interval);
        safety.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.ask_for_first_list();
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
        let lease = *self.lease.borrow();
        let lease_left = lease.until.saturating_duration_since(Instant::now());
        let rules = Rules {
            entitled: lease.entitled,
            assignments_known: self.assignments_known,
            containers_known: self.containers_known,
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

    fn lease_changed(&mut self) {
        let entitled = self.lease.borrow_and_update().entitled;
        let everything = std::mem::replace(&mut self.entitled, entitled) != entitled;
        let concerned = |attempt: &Attempt| everything || attempt.fence_grace_ms.is_some();
        let concerned = self.attempts.iter().filter(|(_, attempt)| concerned(attempt));
        self.dirty.extend(concerned.map(|(key, _)| key.clone()));
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
        let containers_known = self.containers_known;
        self.snapshot.send_replace(Snapshot {
            reports,
            assigned_digest: self.digest,
            used,
            containers_known,
        });
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
