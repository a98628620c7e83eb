//! What an executor does next: compares what it is told to run with the containers that exist and
//! with what it remembers, and gives the next step of each attempt. Steps are idempotent; a caller
//! that dies between deciding and doing decides the same again.

use std::collections::BTreeMap;

use crate::ids::AttemptRef;

/// An attempt that the schedulers want on this executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Set when the job is to be aborted: grace between SIGTERM and SIGKILL.
    pub abort_grace_ms: Option<u64>,
    /// How long it may run; `None` is unlimited.
    pub run_timeout_ms: Option<u64>,
    /// Grace of any other stop.
    pub stop_grace_ms: u64,
}

/// A container as the engine shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, and never started.
    Created,
    /// Its main process runs.
    Running {
        /// When it started.
        started_ms: u64,
    },
    /// Its main process has ended.
    Exited,
}

/// Why an executor stops a container that would run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// A user asked for the job's end.
    Abort,
    /// The attempt ran longer than it may.
    RunTimeout,
    /// The attempt is no longer wanted here.
    Superseded,
}

/// A stop that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Why.
    pub cause: StopCause,
    /// When SIGKILL is due.
    pub kill_at_ms: u64,
    /// SIGKILL was sent.
    pub killed: bool,
}

/// What the executor remembers of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// A step of this attempt is under way: nothing else is begun for it.
    pub busy: bool,
    /// After a failed step: when it may be tried again.
    pub retry_at_ms: Option<u64>,
    /// A start was asked of the engine.
    pub start_requested: bool,
    /// Its exit is being waited for.
    pub watched: bool,
    /// A stop that was begun.
    pub stop: Option<Stop>,
    /// How it ended is on disk; when that was.
    pub ended_ms: Option<u64>,
    /// The schedulers have taken note of its end, or do not want it.
    pub acknowledged: bool,
    /// Its output is on disk to the last byte.
    pub logs_captured: bool,
}

/// One thing to do for one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Get the image and make the container.
    Create,
    /// Start the container, and wait for its exit.
    Start,
    /// Wait for the exit of a container that runs already, and capture its output.
    Watch,
    /// Send SIGTERM; SIGKILL is due after the grace.
    Terminate {
        /// Why.
        cause: StopCause,
        /// Time between the two signals.
        grace_ms: u64,
    },
    /// Send SIGKILL.
    Kill,
    /// Write how the container ended to disk.
    RecordExit,
    /// Write to disk that the attempt was ended before a container of it ran.
    RecordNeverRan(StopCause),
    /// Write to disk that the container is gone and nobody knows how it ended.
    RecordVanished,
    /// Remove the container.
    Remove,
    /// Forget the attempt: nothing of it is left.
    Forget,
}

/// The steps to be begun now, and when to look again if nothing happens before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// At most one step an attempt.
    pub steps: Vec<(AttemptRef, Step)>,
    /// The earliest deadline of any attempt.
    pub wake_at_ms: Option<u64>,
}

/// Everything a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What the schedulers want here.
    pub assignments: &'a BTreeMap<AttemptRef, Assignment>,
    /// True once the whole set of assignments has been received; before that, a container without
    /// an assignment is left alone.
    pub assignments_known: bool,
    /// The containers of this executor.
    pub containers: &'a BTreeMap<AttemptRef, ContainerState>,
    /// What is remembered.
    pub memory: &'a BTreeMap<AttemptRef, Memory>,
    /// How long an ended container is kept.
    pub cleanup_after_ms: u64,
    /// How long an end is remembered after its container is gone.
    pub remember_ms: u64,
    /// The time.
    pub now_ms: u64,
}

/// Decides the next step of every attempt.
pub fn reconcile(situation: &Situation<'_>) -> Plan {
    let mut keys: Vec<&AttemptRef> = situation
        .assignments
        .keys()
        .chain(situation.containers.keys())
        .chain(situation.memory.keys())
        .collect();
    keys.sort();
    keys.dedup();
    let unknown = Memory::default();
    let mut plan = Plan::default();
    for key in keys {
        let view = View {
            assignment: situation.assignments.get(key),
            container: situation.containers.get(key).copied(),
            memory: situation.memory.get(key).unwrap_or(&unknown),
            situation,
        };
        match view.decide() {
            Decision::Do(step) => plan.steps.push((key.clone(), step)),
            Decision::LookAgainAt(at_ms) => {
                plan.wake_at_ms = Some(plan.wake_at_ms.map_or(at_ms, |earliest| earliest.min(at_ms)));
            }
            Decision::Nothing => {}
        }
    }
    plan
}

enum Decision {
    Do(Step),
    LookAgainAt(u64),
    Nothing,
}

struct View<'a> {
    assignment: Option<&'a Assignment>,
    container: Option<ContainerState>,
    memory: &'a Memory,
    situation: &'a Situation<'a>,
}

impl View<'_> {
    fn decide(&self) -> Decision {
        if self.memory.busy {
            return Decision::Nothing;
        }
        if let Some(at) = self.memory.retry_at_ms.filter(|at| *at > self.situation.now_ms) {
            return Decision::LookAgainAt(at);
        }
        match self.container {
            Some(ContainerState::Created) => self.created(),
            Some(ContainerState::Running { started_ms }) => self.running(started_ms),
            Some(ContainerState::Exited) => self.exited(),
            None => self.absent(),
        }
    }

    /// Why the attempt must not run (on): `None` when it may.
    fn unwanted(&self) -> Option<(StopCause, u64)> {
        match self.assignment {
            Some(assignment) => assignment.abort_grace_ms.map(|grace| (StopCause::Abort, grace)),
            // Before the whole set is known, a missing assignment says nothing.
            None if !self.situation.assignments_known => None,
            None => Some((StopCause::Superseded, 0)),
        }
    }

    fn absent(&self) -> Decision {
        if let Some(ended_ms) = self.memory.ended_ms {
            let done = self.assignment.is_none() && self.memory.acknowledged;
            return if done {
                self.after(ended_ms, self.situation.remember_ms, Step::Forget)
            } else {
                Decision::Nothing
            };
        }
        match (self.assignment, self.unwanted()) {
            (Some(_), Some((cause, _))) => Decision::Do(Step::RecordNeverRan(cause)),
            (Some(_), None) if self.memory.start_requested => Decision::Do(Step::RecordVanished),
            (Some(_), None) => Decision::Do(Step::Create),
            (None, Some(_)) => Decision::Do(Step::Forget),
            (None, None) => Decision::Nothing,
        }
    }

    fn created(&self) -> Decision {
        if let Some(ended_ms) = self.memory.ended_ms {
            return self.after(ended_ms, 0, Step::Remove);
        }
        match (self.assignment, self.unwanted()) {
            (Some(_), Some((cause, _))) => Decision::Do(Step::RecordNeverRan(cause)),
            (Some(_), None) => Decision::Do(Step::Start),
            (None, Some(_)) => Decision::Do(Step::Remove),
            (None, None) => Decision::Nothing,
        }
    }

    fn running(&self, started_ms: u64) -> Decision {
        let now = self.situation.now_ms;
        if let Some(stop) = self.memory.stop {
            return match (stop.killed, self.memory.watched) {
                (_, false) => Decision::Do(Step::Watch),
                (true, true) => Decision::Nothing,
                (false, true) if stop.kill_at_ms <= now => Decision::Do(Step::Kill),
                (false, true) => Decision::LookAgainAt(stop.kill_at_ms),
            };
        }
        if let Some((cause, grace_ms)) = self.unwanted() {
            return Decision::Do(Step::Terminate { cause, grace_ms });
        }
        if !self.memory.watched {
            return Decision::Do(Step::Watch);
        }
        match self
            .assignment
            .and_then(|a| a.run_timeout_ms.map(|limit| (a, started_ms.saturating_add(limit))))
        {
            Some((assignment, end)) if end <= now => {
                let grace_ms = assignment.stop_grace_ms;
                Decision::Do(Step::Terminate { cause: StopCause::RunTimeout, grace_ms })
            }
            Some((_, end)) => Decision::LookAgainAt(end),
            None => Decision::Nothing,
        }
    }

    fn exited(&self) -> Decision {
        match self.memory.ended_ms {
            None => Decision::Do(Step::RecordExit),
            // Output and result are safe, so only the wish to look inside keeps the container.
            Some(ended_ms) if self.memory.logs_captured => {
                self.after(ended_ms, self.situation.cleanup_after_ms, Step::Remove)
            }
            Some(_) => Decision::Nothing,
        }
    }

    fn after(&self, since_ms: u64, wait_ms: u64, step: Step) -> Decision {
        let at = since_ms.saturating_add(wait_ms);
        if at <= self.situation.now_ms { Decision::Do(step) } else { Decision::LookAgainAt(at) }
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
