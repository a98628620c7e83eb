//! Carries out one step of one attempt. A step changes nothing of what the owner knows: it says
//! what became of it. An end is on disk before it is told.

use std::sync::Arc;
use std::time::Duration;

use berth_domain::backoff::Backoff;
use berth_domain::ids::AttemptRef;
use berth_domain::lifecycle::{AttemptEnd, EndCause, shorten_message};
use berth_domain::reconcile::{Step, Stop, StopCause};
use berth_domain::spec::{JobSpec, OnLost, PullPolicy, Reuse};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::container::Surroundings;
use super::ending::{Facts, conclude};
use super::pulls::Pulls;
use super::types::{Order, Outcome, Phase, Progress};
use crate::clock::Clock;
use crate::logs::Capture;
use crate::outbox::{Outbox, Stopping};
use crate::random::Random;
use crate::runtime::{
    ContainerPlan, CreateError, Delivery, EngineError, EngineState, Inspected, PullError, PullProgress,
    Runtime, Signal, StartError, tagged,
};

/// How long a container may take to hear signals: the kernel drops a SIGTERM to its first process until that
/// has said what to do with one, and the whole grace would pass.
const DEAF_MS: u64 = 500;
/// How often an engine may say no to one attempt before the attempt ends as a fault of the executor.
pub(super) const MOST_REFUSALS: u32 = 3;
/// How often a pull that might succeed later is tried here before another executor has a go.
const PULL_TRIES: u32 = 3;
/// Waits between those.
const PULL_RETRY: Backoff = Backoff { first_ms: 500, most_ms: 5_000 };
/// How long an end waits for the last bytes of the output.
const CAPTURE_WAIT: Duration = Duration::from_secs(10);
/// Removals at the same time; they are never urgent.
const REMOVALS: usize = 2;
/// Containers looked at, at the same time.
const LOOKS: usize = 16;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// A step that the domain decided on.
    Step(Step),
    /// Look at the container again.
    Look,
}

/// One thing to do, with what is known at the time.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub attempt: AttemptRef,
    pub act: Act,
    pub order: Option<Arc<Order>>,
    /// How often the engine has said no already.
    pub refusals: u32,
    pub stop: Option<Stop>,
    /// A stop of which nobody knows whether its SIGTERM has arrived.
    pub asked: Option<Stop>,
    pub fenced: bool,
    pub witnessed: bool,
    pub same_boot: bool,
    /// The container has not run, and cannot in its network slot.
    pub slot_dead: bool,
    /// It was made anew once because of that.
    pub remade: bool,
    /// The ended container, where it was looked at already.
    pub seen: Option<Inspected>,
    pub started_ms: Option<u64>,
    /// A start was asked of the engine, by this process or one before.
    pub may_have_started: bool,
    /// Turns true once the output is complete.
    pub captured: Option<watch::Receiver<bool>>,
    /// Gives up what has not changed anything yet.
    pub cancel: CancellationToken,
}

/// What steps need.
pub struct StepsParts {
    /// The container engine.
    pub runtime: Arc<dyn Runtime>,
    /// Where ends are written.
    pub outbox: Outbox,
    /// Captures outputs.
    pub capture: Capture,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Spreads repeated attempts.
    pub random: Arc<dyn Random>,
    /// Where signs of progress go; they are dropped when it is full.
    pub progress: mpsc::Sender<Progress>,
    /// Containers made or started at the same time.
    pub parallelism: usize,
}

/// Carries out steps.
#[derive(Clone)]
pub struct Steps {
    pub(super) parts: Arc<StepsParts>,
    pub(super) surroundings: Arc<Surroundings>,
    pulls: Pulls,
    starts: Arc<Semaphore>,
    removals: Arc<Semaphore>,
    looks: Arc<Semaphore>,
}

impl Steps {
    pub(super) fn new(parts: StepsParts, surroundings: Surroundings) -> Self {
        Self {
            pulls: Pulls::new(parts.runtime.clone()),
            starts: Arc::new(Semaphore::new(parts.parallelism.max(1))),
            removals: Arc::new(Semaphore::new(REMOVALS)),
            looks: Arc::new(Semaphore::new(LOOKS)),
            parts: Arc::new(parts),
            surroundings: Arc::new(surroundings),
        }
    }

    /// Carries a task out.
    pub(super) async fn perform(&self, task: &Task) -> Outcome {
        match task.act {
            Act::Look => self.look(task).await,
            Act::Step(Step::Create) => self.create(task).await,
            Act::Step(Step::Start) => self.start(task).await,
            // Waiting and capturing are the owner's: there is nothing to do here but to look.
            Act::Step(Step::Watch) => self.look(task).await,
            Act::Step(Step::Terminate { cause, grace_ms }) => self.terminate(task, cause, grace_ms).await,
            Act::Step(Step::Kill) => self.kill(task).await,
            Act::Step(Step::RecordExit) => self.record_exit(task).await,
            Act::Step(Step::RecordNeverRan(cause)) => self.record_never_ran(task, cause).await,
            Act::Step(Step::RecordVanished) => self.record_vanished(task).await,
            Act::Step(Step::Remove) => self.remove(task).await,
            Act::Step(Step::Forget) => match self.parts.outbox.remove(&task.attempt).await {
                Ok(()) => Outcome::Forgotten,
                Err(error) => broken_disk(&error),
            },
        }
    }

    async fn look(&self, task: &Task) -> Outcome {
        let name = self.surroundings.name(&task.attempt);
        let _permit = self.looks.acquire().await;
        match self.parts.runtime.inspect(&name).await {
            Ok(seen) => Outcome::Seen(seen),
            Err(error) => broken(&error),
        }
    }

    async fn create(&self, task: &Task) -> Outcome {
        let Some(order) = &task.order else { return Outcome::Cancelled };
        let spec = match &order.spec {
            Ok(spec) => spec,
            Err(message) => return self.end(task, EndCause::Refused, message.clone(), None).await,
        };
        let plan = match self.surroundings.plan(&task.attempt, order, spec) {
            Ok(plan) => plan,
            Err(message) => return self.end(task, EndCause::ExecutorFault, message, None).await,
        };
        for pulled in [false, true] {
            match self.create_once(task, &plan).await {
                None => return Outcome::Cancelled,
                Some(Ok(())) => return Outcome::Created,
                Some(Err(CreateError::NoImage)) if !pulled => {
                    if let Some(outcome) = self.pull(task, spec).await {
                        return outcome;
                    }
                }
                Some(Err(CreateError::NoImage)) => break,
                Some(Err(CreateError::Refused(message))) => {
                    return self.end(task, EndCause::Refused, message, None).await;
                }
                Some(Err(CreateError::Engine(error))) => return self.engine_error(task, error).await,
            }
        }
        let message = format!("The image {} was pulled and is gone again.", plan.image);
        self.end(task, EndCause::ImagePullFailed, message, None).await
    }

    async fn create_once(&self, task: &Task, plan: &ContainerPlan) -> Option<Result<(), CreateError>> {
        let _permit = self.start_permit(task).await?;
        self.show(task, Phase::Creating, PullProgress::default());
        Some(self.parts.runtime.create(plan).await)
    }

    /// Waits for a turn with the engine; `None` when the attempt was given up meanwhile.
    async fn start_permit(&self, task: &Task) -> Option<tokio::sync::SemaphorePermit<'_>> {
        tokio::select! {
            biased;
            () = task.cancel.cancelled() => None,
            permit = self.starts.acquire() => permit.ok(),
        }
    }

    /// Gets the image; `Some` is what became of the step when it could not be had.
    async fn pull(&self, task: &Task, spec: &JobSpec) -> Option<Outcome> {
        if spec.pull_policy == PullPolicy::Never {
            let executor = &self.surroundings.owner.executor;
            let message = format!(
                "Image \"{}\" is not on {executor}, and is never pulled. Nothing was run.",
                spec.image
            );
            return Some(self.end(task, EndCause::ImageNotFound, message, None).await);
        }
        let no_progress = Duration::from_millis(spec.clocks.pull_timeout_ms);
        for tried in 0..PULL_TRIES {
            self.show(task, Phase::Pulling, PullProgress::default());
            let on_progress = |progress| self.show(task, Phase::Pulling, progress);
            let pulled = tokio::select! {
                biased;
                () = task.cancel.cancelled() => return Some(Outcome::Cancelled),
                pulled = self.pulls.pull(&spec.image, no_progress, on_progress) => pulled,
            };
            match pulled {
                Ok(()) => return None,
                Err(PullError::Permanent(text)) => {
                    tracing::info!(job_id = %task.attempt.job, image = %spec.image, reason = %text, "image cannot be had");
                    let message = no_image(&spec.image, &self.surroundings.owner.executor, &text);
                    return Some(self.end(task, EndCause::ImageNotFound, message, None).await);
                }
                Err(PullError::Transient(text)) if tried + 1 == PULL_TRIES => {
                    let executor = &self.surroundings.owner.executor;
                    let message =
                        format!("Image \"{}\" could not be pulled ({executor}): {text}", spec.image);
                    return Some(self.end(task, EndCause::ImagePullFailed, message, None).await);
                }
                Err(PullError::Transient(text)) => {
                    tracing::info!(job_id = %task.attempt.job, image = %spec.image, reason = %text, "pull is tried again");
                    let wait_ms = PULL_RETRY.wait_ms(tried, self.parts.random.next_u32());
                    tokio::select! {
                        biased;
                        () = task.cancel.cancelled() => return Some(Outcome::Cancelled),
                        () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
                    }
                }
            }
        }
        None
    }

    async fn start(&self, task: &Task) -> Outcome {
        // Its container may be one of its own that came late, beside a warm one of an earlier process.
        if let Err(outcome) = self.settle(task).await {
            return outcome;
        }
        let name = self.surroundings.name(&task.attempt);
        let Some(_permit) = self.start_permit(task).await else { return Outcome::Cancelled };
        self.show(task, Phase::Starting, PullProgress::default());
        if let Err(error) = self.note_start(task).await {
            return broken_disk(&error);
        }
        match self.parts.runtime.start(&name).await {
            Ok(()) => Outcome::Started,
            Err(StartError::Command { code, message }) => {
                self.end(task, EndCause::Exited { code, oom: false }, message, None).await
            }
            Err(StartError::Gone) => Outcome::Seen(None),
            Err(StartError::SlotDead(message)) if task.remade => {
                self.engine_error(task, EngineError::Failed(message)).await
            }
            Err(StartError::SlotDead(_)) => Outcome::SlotDead,
            Err(StartError::Engine(error)) => self.engine_error(task, error).await,
        }
    }

    /// Makes durable that a job may have started from now on: one that may start only once, and one whose
    /// container may be none that a later process finds.
    async fn note_start(&self, task: &Task) -> std::io::Result<()> {
        match spec_of(task).map(|spec| (spec.on_lost, spec.reuse)) {
            Some((OnLost::Fail, _) | (_, Reuse::Warm)) => self.parts.outbox.starting(&task.attempt).await,
            Some((OnLost::Retry | OnLost::Hold, Reuse::None)) | None => Ok(()),
        }
    }

    /// Makes sure that the process of a job is dead whose container may be none that this process finds.
    async fn settle(&self, task: &Task) -> Result<(), Outcome> {
        match spec_of(task).map(|spec| spec.reuse) {
            Some(Reuse::Warm) => self.parts.runtime.settle().await.map_err(|error| broken(&error)),
            Some(Reuse::None) | None => Ok(()),
        }
    }

    /// An engine that does not answer says nothing of the attempt. One that keeps saying no has
    /// never started it, so that it may be tried elsewhere.
    async fn engine_error(&self, task: &Task, error: EngineError) -> Outcome {
        match error {
            EngineError::Failed(message) if task.refusals + 1 >= MOST_REFUSALS => {
                let message = format!("The container engine failed: {message}");
                self.end(task, EndCause::ExecutorFault, message, None).await
            }
            EngineError::Failed(_) | EngineError::Unavailable(_) | EngineError::Unreachable(_) => {
                broken(&error)
            }
        }
    }

    async fn terminate(&self, task: &Task, cause: StopCause, grace_ms: u64) -> Outcome {
        let age_ms = task.started_ms.map_or(DEAF_MS, |at| self.parts.clock.wall_ms().saturating_sub(at));
        let deaf_ms = DEAF_MS.saturating_sub(age_ms).min(grace_ms / 2);
        tokio::time::sleep(Duration::from_millis(deaf_ms)).await;
        let name = self.surroundings.name(&task.attempt);
        let delivered = self.parts.runtime.signal(&name, Signal::Term).await;
        // The grace begins with the signal, however long the engine took over it.
        let kill_at_ms = self.parts.clock.wall_ms().saturating_add(grace_ms - deaf_ms);
        let stop = Stop { cause, kill_at_ms, killed: false };
        match delivered {
            Ok(Delivery::Sent) => {}
            Ok(Delivery::NotRunning) => return self.look(task).await,
            // Asked, and not answered: it may have arrived.
            Err(error @ EngineError::Unavailable(_)) => {
                return Outcome::Unsure { stop, message: error.to_string() };
            }
            Err(error @ (EngineError::Unreachable(_) | EngineError::Failed(_))) => return broken(&error),
        }
        // A process that comes after this one must know why it ended, and that it was asked to.
        let stopping = Stopping { attempt: task.attempt.clone(), stop, fenced: task.fenced };
        if let Err(error) = self.parts.outbox.stopping(&stopping).await {
            tracing::warn!(job_id = %task.attempt.job, %error, "the cause of a stop could not be written down");
        }
        Outcome::Stopping(stop)
    }

    async fn kill(&self, task: &Task) -> Outcome {
        match self.deliver(task, Signal::Kill).await {
            Ok(()) => Outcome::Killed,
            Err(outcome) => outcome,
        }
    }

    /// Sends a signal; `Err` is what became of the step where it could not be.
    async fn deliver(&self, task: &Task, signal: Signal) -> Result<(), Outcome> {
        let name = self.surroundings.name(&task.attempt);
        match self.parts.runtime.signal(&name, signal).await {
            Ok(Delivery::Sent) => Ok(()),
            Ok(Delivery::NotRunning) => Err(self.look(task).await),
            Err(error) => Err(broken(&error)),
        }
    }

    async fn record_exit(&self, task: &Task) -> Outcome {
        let seen = match &task.seen {
            Some(seen) => seen.clone(),
            None => match self.look(task).await {
                Outcome::Seen(Some(seen)) if seen.state == EngineState::Exited => seen,
                other => return other,
            },
        };
        let captured = match task.captured.clone() {
            Some(mut captured) => {
                let complete = captured.wait_for(|complete| *complete);
                matches!(tokio::time::timeout(CAPTURE_WAIT, complete).await, Ok(Ok(_)))
            }
            None => false,
        };
        let spec = spec_of(task);
        let (cause, message) = conclude(&Facts {
            seen: seen.clone(),
            stop: task.stop,
            asked: task.asked,
            fenced: task.fenced,
            witnessed: task.witnessed,
            same_boot: task.same_boot,
            run_timeout_ms: spec.and_then(|spec| spec.clocks.run_timeout_ms),
            memory_bytes: spec.map(|spec| spec.demand.memory_bytes),
        });
        match self.end(task, cause, message, Some(&seen)).await {
            Outcome::Ended { end, .. } => Outcome::Ended { end, logs_captured: captured },
            other => other,
        }
    }

    async fn record_vanished(&self, task: &Task) -> Outcome {
        if let Err(outcome) = self.settle(task).await {
            return outcome;
        }
        let message = "Its container is gone, and nobody knows how it ended.";
        // It may have done its work: a job that may start only once must not start again.
        let started_ms = task.started_ms.or_else(|| Some(self.parts.clock.wall_ms()));
        let task = Task { started_ms, ..task.clone() };
        self.end(&task, EndCause::ExecutorFault, message.to_owned(), None).await
    }

    async fn record_never_ran(&self, task: &Task, cause: StopCause) -> Outcome {
        if task.may_have_started
            && let Err(outcome) = self.settle(task).await
        {
            return outcome;
        }
        let (cause, message) = match cause {
            StopCause::Abort => (EndCause::Aborted { code: None }, String::new()),
            StopCause::RunTimeout => (EndCause::RunTimeout { code: None }, String::new()),
            StopCause::Superseded => (EndCause::ExecutorFault, "No longer wanted here.".to_owned()),
        };
        self.end(task, cause, message, None).await
    }

    async fn end(&self, task: &Task, cause: EndCause, message: String, seen: Option<&Inspected>) -> Outcome {
        // An engine's words may quote a whole command.
        let message = shorten_message(&message);
        let start_time_ms = seen.and_then(|seen| seen.started_ms).or(task.started_ms);
        let ended_ms = seen.and_then(|seen| seen.finished_ms).unwrap_or_else(|| self.parts.clock.wall_ms());
        let end = AttemptEnd {
            attempt: task.attempt.clone(),
            cause,
            message,
            start_time_ms,
            // Docker dates the end of a very short process some milliseconds before its start.
            end_time_ms: ended_ms.max(start_time_ms.unwrap_or(0)),
            jitter: 0,
        };
        match self.parts.outbox.write(&end).await {
            Ok(()) => Outcome::Ended { end, logs_captured: true },
            Err(error) => broken_disk(&error),
        }
    }

    async fn remove(&self, task: &Task) -> Outcome {
        let name = self.surroundings.name(&task.attempt);
        let _permit = self.removals.acquire().await;
        if task.slot_dead {
            return self.remove_unstarted(task).await;
        }
        match self.parts.runtime.remove(&name).await {
            Ok(()) => Outcome::Removed,
            Err(error) => broken(&error),
        }
    }

    /// Removes a container that has not run, to make it anew.
    async fn remove_unstarted(&self, task: &Task) -> Outcome {
        // Before the container goes: a process that finds neither then knows that it has not run.
        if let Err(error) = self.parts.outbox.not_started(&task.attempt).await {
            return broken_disk(&error);
        }
        match self.parts.runtime.remove_unstarted(&self.surroundings.name(&task.attempt)).await {
            Ok(()) => Outcome::Removed,
            Err(error @ EngineError::Failed(_)) => {
                // It is still there, and may run after all: an earlier start may have arrived late.
                match self.note_start(task).await {
                    Ok(()) => broken(&error),
                    Err(error) => broken_disk(&error),
                }
            }
            Err(error @ (EngineError::Unavailable(_) | EngineError::Unreachable(_))) => broken(&error),
        }
    }

    fn show(&self, task: &Task, phase: Phase, pull: PullProgress) {
        let progress = Progress {
            attempt: task.attempt.clone(),
            phase,
            pulled_bytes: pull.pulled_bytes,
            total_bytes: pull.total_bytes,
        };
        // Nobody has to read it: a full queue drops it.
        let _ = self.parts.progress.try_send(progress);
    }
}

fn spec_of(task: &Task) -> Option<&JobSpec> {
    task.order.as_ref().and_then(|order| order.spec.as_ref().ok())
}

fn broken(error: &EngineError) -> Outcome {
    match error {
        EngineError::Failed(_) => Outcome::Broken { refused: true, message: error.to_string() },
        EngineError::Unavailable(_) => Outcome::Broken { refused: false, message: error.to_string() },
        // The runtime has said why, once for all attempts.
        EngineError::Unreachable(_) => {
            Outcome::Broken { refused: false, message: "the container engine is out of reach".to_owned() }
        }
    }
}

fn broken_disk(error: &std::io::Error) -> Outcome {
    Outcome::Broken { refused: false, message: format!("the outbox cannot be written: {error}") }
}

/// Says why an image can never be had; what is not plainly missing keeps the engine's words.
fn no_image(image: &str, executor: &str, text: &str) -> String {
    let image = tagged(image);
    let lower = text.to_ascii_lowercase();
    let missing = ["not found", "manifest unknown", "name unknown"].iter().any(|words| lower.contains(words));
    if missing && !lower.contains("denied") {
        format!("Image \"{image}\" not found ({executor}). Nothing was run.")
    } else if lower.contains("repository does not exist or may require") {
        // Docker Hub does not tell a private image from none.
        format!(
            "Image \"{image}\" not found ({executor}), or it needs a docker login there. Nothing was run."
        )
    } else {
        format!("Image \"{image}\" cannot be pulled ({executor}): {text}. Nothing was run.")
    }
}
