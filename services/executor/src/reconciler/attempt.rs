//! What the executor knows of one attempt, and how it changes with what happens.

use std::sync::Arc;

use berth_domain::backoff::Backoff;
use berth_domain::lifecycle::AttemptEnd;
use berth_domain::reconcile::{ContainerState, Memory, Step, Stop, StopCause};
use berth_domain::spec::DEFAULT_STOP_GRACE_MS;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::container::fence_grace_ms;
use super::ending::ENGINE_CODES;
use super::steps::Act;
use super::types::{Order, Outcome, Reportable};
use crate::runtime::{EngineState, Inspected};

/// Waits before a failed step is tried again.
const RETRY: Backoff = Backoff { first_ms: 250, most_ms: 10_000 };
/// How long the one who waits for an exit may take to tell of it.
const WATCHER_WAIT_MS: u64 = 2_000;

/// What is known of one attempt.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// What the schedulers want; `None` when they do not, or have not said so.
    pub order: Option<Arc<Order>>,
    /// Set when the job is to be aborted.
    pub abort_grace_ms: Option<u64>,
    /// An abort, with its grace, that came before the order.
    pub early_abort: Option<Option<u64>>,
    /// Its container appeared while a set was known, made by somebody else: another process may have the name
    /// by now. It is left alone until this one has registered again.
    pub stranger: bool,
    /// The schedulers have said that they do not want it here.
    pub dismissed: bool,
    /// The newest whole set names it, although its order was never told to this process: it must
    /// not be stopped for want of an order.
    pub confirmed: bool,
    /// The schedulers have taken note of its end.
    pub noted: bool,
    pub container: Option<ContainerState>,
    /// When the container started, once that is known.
    pub started_ms: Option<u64>,
    pub memory: Memory,
    pub end: Option<Arc<AttemptEnd>>,
    /// The ended container, looked at.
    pub seen: Option<Inspected>,
    /// The engine told of the exit while it happened.
    pub witnessed: bool,
    /// The container is of an earlier boot of the machine.
    pub old_boot: bool,
    /// The container there is has not run, and cannot in its network slot.
    pub slot_dead: bool,
    /// That was so once: it was, or is to be, made anew.
    pub remade: bool,
    /// How long it has to end when the lease has ended, where it then must.
    pub fence_grace_ms: Option<u64>,
    /// A stop of which nobody knows whether its SIGTERM has arrived.
    pub asked: Option<Stop>,
    /// It was stopped because the lease had ended.
    pub fenced: bool,
    /// What is known of the container may be wrong: it must be looked at before anything else.
    pub stale: bool,
    /// A look showed an exit that the one who waits for it has not told yet.
    pub exit_suspected: bool,
    /// Steps that failed one after the other.
    pub failures: u32,
    /// Steps that the engine said no to one after the other.
    pub refusals: u32,
    /// The turn in which the container was last known to change.
    pub changed_turn: u64,
    /// When it is to be looked at next, in the owner's list of deadlines.
    pub wake_at_ms: Option<u64>,
    /// Gives up the step under way, as far as it can be.
    pub cancel: CancellationToken,
    /// Ends the wait for the exit.
    pub watch: Option<CancellationToken>,
    /// It counts in the digest of what is wanted here.
    pub counted: bool,
    /// Turns true once the output is complete.
    pub captured: Option<watch::Receiver<bool>>,
}

impl Attempt {
    /// Makes what is known after an end was found on disk.
    pub fn ended_before(end: AttemptEnd, noted: bool, now_ms: u64) -> Self {
        let memory = Memory {
            ended_ms: Some(now_ms),
            acknowledged: noted,
            start_requested: true,
            ..Memory::default()
        };
        Self { noted, end: Some(Arc::new(end)), memory, ..Self::default() }
    }

    /// Takes an order. It is taken once; a repeated one changes nothing.
    pub fn order(&mut self, order: Order, now_ms: u64) {
        if self.noted || self.order.is_some() {
            return;
        }
        self.dismissed = false;
        self.fence_grace_ms = order.spec.as_ref().ok().and_then(fence_grace_ms);
        self.order = Some(Arc::new(order));
        self.stranger = false;
        self.settle();
        if let Some(grace_ms) = self.early_abort.take() {
            self.abort(grace_ms, now_ms);
        }
    }

    /// Takes the order back: the schedulers do not want the attempt here.
    pub fn dismiss(&mut self) {
        self.order = None;
        self.abort_grace_ms = None;
        self.early_abort = None;
        self.confirmed = false;
        self.dismissed = true;
        self.cancel.cancel();
        self.settle();
    }

    /// Asks for the attempt's end, with the spec's grace unless another is given. It stays ordered
    /// until the end was reported. `false` when nothing of it is new.
    pub fn abort(&mut self, grace_ms: Option<u64>, now_ms: u64) -> bool {
        let Some(order) = &self.order else {
            // How long it has is in the order, which follows.
            let is_news = self.end.is_none() && !self.dismissed && self.early_abort != Some(grace_ms);
            if is_news {
                self.early_abort = Some(grace_ms);
            }
            return is_news;
        };
        let own_ms = order.spec.as_ref().map_or(DEFAULT_STOP_GRACE_MS, |spec| spec.clocks.stop_grace_ms);
        let grace_ms = grace_ms.unwrap_or(own_ms);
        let is_news = self.abort_grace_ms.is_none_or(|known| grace_ms < known);
        self.abort_grace_ms = Some(self.abort_grace_ms.map_or(grace_ms, |known| known.min(grace_ms)));
        // A stop that is under way has no more time than this one leaves it.
        if let Some(stop) = &mut self.memory.stop {
            stop.kill_at_ms = stop.kill_at_ms.min(now_ms.saturating_add(grace_ms));
        }
        self.cancel.cancel();
        is_news
    }

    /// The schedulers have taken note of the end.
    pub fn note(&mut self) {
        self.noted = true;
        self.order = None;
        self.abort_grace_ms = None;
        self.settle();
    }

    /// What the domain calls acknowledged: noted, or of no interest to anybody.
    fn settle(&mut self) {
        self.memory.acknowledged = self.noted || (self.dismissed && self.order.is_none());
    }

    /// Nobody witnessed an exit whose code does not tell what it was: an earlier process may have stopped it
    /// because its time was over, and only its order says how long that was.
    pub fn may_have_timed_out(&self) -> bool {
        let unknown = self.order.is_none() && !self.dismissed && self.memory.stop.is_none();
        let says_nothing = self.seen.as_ref().is_some_and(|seen| ENGINE_CODES.contains(&seen.exit_code));
        unknown && says_nothing && !self.witnessed && !self.old_boot
    }

    /// What is to be told to the schedulers.
    pub fn reportable(&self) -> Option<Reportable> {
        match (&self.end, self.container) {
            (Some(_), _) if self.memory.acknowledged => None,
            (Some(end), _) => Some(Reportable::Ended(end.clone())),
            (None, Some(ContainerState::Running { .. })) if !self.dismissed => Some(Reportable::Running),
            (None, _) => None,
        }
    }

    /// Notes that a step is under way.
    pub fn begin(&mut self, act: Act) {
        self.memory.busy = true;
        self.memory.retry_at_ms = None;
        match act {
            Act::Step(Step::Start) => self.memory.start_requested = true,
            // Only a wish of the schedulers makes an abort; without one it is the lease's end.
            Act::Step(Step::Terminate { cause, .. }) => {
                self.fenced = cause == StopCause::Abort && self.abort_grace_ms.is_none();
            }
            Act::Step(_) | Act::Look => {}
        }
        if self.cancel.is_cancelled() {
            self.cancel = CancellationToken::new();
        }
    }

    /// Takes what became of a step. `jitter` spreads repeated attempts.
    pub fn done(&mut self, outcome: Outcome, now_ms: u64, jitter: u32) {
        self.memory.busy = false;
        if let Outcome::Unsure { stop, .. } = &outcome {
            self.asked = Some(*stop);
        }
        match outcome {
            Outcome::Unsure { .. } | Outcome::Broken { .. } => {
                let refused = matches!(outcome, Outcome::Broken { refused: true, .. });
                self.memory.retry_at_ms = Some(now_ms + RETRY.wait_ms(self.failures, jitter));
                self.failures = self.failures.saturating_add(1);
                self.refusals += u32::from(refused);
                self.stale = true;
                return;
            }
            Outcome::Cancelled => return,
            Outcome::Seen(seen) => return self.looked(seen, now_ms, jitter),
            Outcome::Created => {
                self.container = Some(ContainerState::Created);
                (self.old_boot, self.slot_dead) = (false, false);
            }
            Outcome::SlotDead => {
                // Without it, its absence would mean that it has run and nobody knows how it ended.
                self.memory.start_requested = false;
                (self.slot_dead, self.remade) = (true, true);
            }
            Outcome::Started => {
                self.started_ms = Some(now_ms);
                self.container = Some(ContainerState::Running { started_ms: now_ms });
            }
            Outcome::Stopping(stop) => self.memory.stop = Some(stop),
            Outcome::Killed => {
                if let Some(stop) = &mut self.memory.stop {
                    stop.killed = true;
                }
            }
            Outcome::Ended { end, logs_captured } => {
                self.memory.ended_ms = Some(now_ms);
                self.memory.logs_captured |= logs_captured;
                self.end = Some(Arc::new(end));
            }
            Outcome::Removed => self.container = None,
            Outcome::Forgotten => {}
        }
        (self.failures, self.refusals, self.stale) = (0, 0, false);
    }

    /// Takes what a look showed. The one who waits for the exit knows more of it than a look, so
    /// that a first look at an exit only gives him time.
    fn looked(&mut self, seen: Option<Inspected>, now_ms: u64, jitter: u32) {
        let exited = seen.as_ref().is_some_and(|seen| seen.state == EngineState::Exited);
        if exited && self.watch.is_some() && !self.exit_suspected {
            self.exit_suspected = true;
            self.stale = true;
            self.memory.retry_at_ms = Some(now_ms + WATCHER_WAIT_MS);
            return;
        }
        self.saw(seen, now_ms, jitter);
    }

    /// Takes what the engine shows.
    pub fn saw(&mut self, seen: Option<Inspected>, now_ms: u64, jitter: u32) {
        self.stale = false;
        let before = self.container;
        if before == Some(ContainerState::Exited) && seen.is_some() {
            // A container runs once: whoever saw it running looked before its exit.
            return;
        }
        self.container = seen.as_ref().map(|seen| self.state_of(seen, now_ms));
        match self.container {
            Some(ContainerState::Running { started_ms }) => {
                self.memory.start_requested = true;
                self.started_ms = Some(started_ms);
            }
            Some(ContainerState::Exited) => {
                self.memory.start_requested = true;
                self.started_ms = seen.as_ref().and_then(|seen| seen.started_ms).or(self.started_ms);
                self.seen = seen;
            }
            Some(ContainerState::Created) | None => {}
        }
        if before == self.container {
            // Nothing came of it: whatever was tried is not tried again at once.
            self.memory.retry_at_ms = Some(now_ms + RETRY.wait_ms(self.failures, jitter));
            self.failures = self.failures.saturating_add(1);
        } else {
            (self.failures, self.refusals) = (0, 0);
            self.memory.retry_at_ms = None;
        }
    }

    fn state_of(&self, seen: &Inspected, now_ms: u64) -> ContainerState {
        match (seen.state, self.container) {
            (EngineState::Created, _) => ContainerState::Created,
            (EngineState::Exited, _) => ContainerState::Exited,
            // The time at which this process saw it start is not subject to steps of a clock.
            (EngineState::Running, Some(running @ ContainerState::Running { .. })) => running,
            (EngineState::Running, _) => {
                ContainerState::Running { started_ms: seen.started_ms.unwrap_or(now_ms).min(now_ms) }
            }
        }
    }
}
