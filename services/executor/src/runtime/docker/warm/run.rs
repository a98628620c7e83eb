//! One job in a warm container: to everybody else, a container that is made, runs and ends. It asks no engine.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::output::Output;
use super::pool::{Container, Kind};
use crate::runtime::{ContainerPlan, EngineState, Inspected, Listed};

/// The exit code of what SIGKILL ended.
const KILLED: i32 = 137;

/// Whether a job's container is killed on purpose. Once that was asked for, no further job gets it, whatever ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    /// It is not.
    No,
    /// The engine was asked, and has not answered.
    Asked,
    /// The engine has killed what ran.
    Done,
    /// It was dead already, or nobody knows.
    Missed,
}

/// Where a job in a warm container is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It has its container, and was not started.
    Made(Box<ContainerPlan>),
    /// It runs, or may.
    Running { started_ms: u64, kill: Kill },
    /// It has ended.
    Ended(Inspected),
    /// Its container ended under it, or may never have run it.
    Gone,
}

/// A job in a warm container.
#[derive(Debug)]
pub(in crate::runtime::docker) struct Run {
    labels: BTreeMap<String, String>,
    pub(super) kind: Kind,
    pub(super) container: Container,
    pub output: Output,
    state: watch::Sender<State>,
}

impl Run {
    pub(super) fn new(plan: ContainerPlan, kind: Kind, container: Container) -> Self {
        let labels = plan.labels.clone();
        let state = watch::Sender::new(State::Made(Box::new(plan)));
        Self { labels, kind, container, output: Output::default(), state }
    }

    /// What a list shows of it.
    pub fn listed(&self) -> Option<Listed> {
        let state = match &*self.state.borrow() {
            State::Made(_) => EngineState::Created,
            State::Running { .. } => EngineState::Running,
            State::Ended(_) => EngineState::Exited,
            State::Gone => return None,
        };
        Listed::of_labels(state, |key| self.labels.get(key).map(String::as_str))
    }

    /// What a close look shows; `None` where its container is gone.
    pub fn inspected(&self) -> Option<Inspected> {
        match &*self.state.borrow() {
            State::Made(_) => Some(inspected(EngineState::Created, None)),
            State::Running { started_ms, .. } => Some(inspected(EngineState::Running, Some(*started_ms))),
            State::Ended(inspected) => Some(inspected.clone()),
            State::Gone => None,
        }
    }

    /// What is to be run; `None` once it was started.
    pub fn plan(&self) -> Option<ContainerPlan> {
        match &*self.state.borrow() {
            State::Made(plan) => Some(ContainerPlan::clone(plan)),
            State::Running { .. } | State::Ended(_) | State::Gone => None,
        }
    }

    /// Says whether it was killed on purpose, with its container.
    pub fn was_killed(&self) -> bool {
        matches!(*self.state.borrow(), State::Running { kill: Kill::Done, .. })
    }

    /// It runs from now on.
    pub fn begin(&self, started_ms: u64) {
        self.state.send_replace(State::Running { started_ms, kill: Kill::No });
    }

    /// Its container is to be killed. `false` where it does not run: another job may be there by now.
    pub fn to_be_killed(&self) -> bool {
        self.state.send_if_modified(|state| match state {
            State::Running { kill, .. } => {
                if *kill != Kill::Done {
                    *kill = Kill::Asked;
                }
                true
            }
            State::Made(_) | State::Ended(_) | State::Gone => false,
        })
    }

    /// The engine has killed its container, or may not have.
    pub fn kill_answered(&self, is_done: bool) {
        self.state.send_modify(|state| {
            if let State::Running { kill: kill @ Kill::Asked, .. } = state {
                *kill = if is_done { Kill::Done } else { Kill::Missed };
            }
        });
    }

    /// Waits for the engine's answer, where it was asked to kill.
    pub async fn kill_settled(&self) {
        let is_settled = |state: &State| !matches!(state, State::Running { kill: Kill::Asked, .. });
        // The sender is this very value.
        let _ = self.state.subscribe().wait_for(is_settled).await;
    }

    /// It has ended by itself. `false` where it was to be killed before.
    pub fn ended_plainly(&self, code: i32, now_ms: u64) -> bool {
        self.state.send_if_modified(|state| match *state {
            State::Running { started_ms, kill: Kill::No } => {
                *state = State::Ended(exited(code, false, started_ms, now_ms));
                true
            }
            State::Running { .. } | State::Made(_) | State::Ended(_) | State::Gone => false,
        })
    }

    /// Its container is dead: it has ended with a code where one is known, or was killed because that was
    /// asked for; otherwise nobody knows what became of it.
    pub fn ended_with_container(&self, code: Option<i32>, oom_killed: bool, now_ms: u64) {
        self.state.send_modify(|state| {
            let State::Running { started_ms, kill } = *state else { return };
            let code = code.or_else(|| (kill == Kill::Done).then_some(KILLED));
            *state =
                code.map_or(State::Gone, |code| State::Ended(exited(code, oom_killed, started_ms, now_ms)));
        });
    }

    /// Waits until it runs no more.
    pub async fn end(&self) {
        let over = |state: &State| matches!(state, State::Ended(_) | State::Gone);
        // The sender is this very value.
        let _ = self.state.subscribe().wait_for(over).await;
    }
}

fn inspected(state: EngineState, started_ms: Option<u64>) -> Inspected {
    Inspected { state, exit_code: 0, oom_killed: false, started_ms, finished_ms: None, error: String::new() }
}

fn exited(exit_code: i32, oom_killed: bool, started_ms: u64, now_ms: u64) -> Inspected {
    Inspected {
        exit_code,
        oom_killed,
        finished_ms: Some(now_ms.max(started_ms)),
        ..inspected(EngineState::Exited, Some(started_ms))
    }
}

#[cfg(test)]
mod tests {
    use berth_domain::digest::SpecHash;
    use berth_domain::ids::{AttemptRef, JobId, Namespace};
    use berth_domain::spec::{Network, Reuse};

    use super::*;
    use crate::runtime::{ContainerName, Owner, attempt_labels};

    fn run() -> Run {
        let owner = Owner { cluster: "c".into(), executor: "e".into() };
        let attempt = AttemptRef { job: JobId::trusted("job"), number: 1, epoch: 1 };
        let plan = ContainerPlan {
            name: ContainerName::new(&owner, &attempt),
            image: "image".into(),
            command: vec!["true".into()],
            env: BTreeMap::new(),
            working_dir: String::new(),
            labels: attempt_labels(&owner, &attempt, SpecHash::default(), "boot"),
            cpu_millis: 1_000,
            memory_bytes: 64 << 20,
            gpus: Vec::new(),
            network: Network::None,
            namespace: Namespace::trusted("team"),
            reuse: Reuse::Warm,
        };
        let kind = Kind {
            image_id: "sha256:1".into(),
            namespace: plan.namespace.clone(),
            network: plan.network,
            cpu_millis: plan.cpu_millis,
            memory_bytes: plan.memory_bytes,
            working_dir: String::new(),
            boot_id: "boot".into(),
        };
        Run::new(plan, kind, Container { id: "1".into(), pid: 1, entrypoint: Vec::new() })
    }

    fn code(run: &Run) -> Option<i32> {
        run.inspected().map(|seen| seen.exit_code)
    }

    #[test]
    fn to_everybody_else_it_is_a_container_that_is_made_runs_and_ends() {
        let run = run();
        let state = || (run.inspected().map(|seen| seen.state), run.listed().map(|listed| listed.state));
        assert_eq!(state(), (Some(EngineState::Created), Some(EngineState::Created)));
        run.begin(1_000);
        assert_eq!(run.plan(), None, "it cannot be started twice");
        assert_eq!(state(), (Some(EngineState::Running), Some(EngineState::Running)));
        assert!(run.ended_plainly(3, 2_000));
        let seen = run.inspected().expect("it is there");
        assert_eq!((seen.exit_code, seen.started_ms, seen.finished_ms), (3, Some(1_000), Some(2_000)));
        assert!(!run.to_be_killed(), "another job may be in its container");
    }

    #[test]
    fn a_container_that_is_to_be_killed_is_given_to_nobody_whatever_ends_the_job() {
        let run = run();
        run.begin(1_000);
        assert!(run.to_be_killed());
        assert!(!run.ended_plainly(0, 2_000));
        run.ended_with_container(Some(0), false, 2_000);
        assert_eq!(code(&run), Some(0));
    }

    #[test]
    fn nothing_is_told_of_an_end_that_nobody_knows_unless_it_was_killed_on_purpose() {
        let (lost, missed, killed) = (run(), run(), run());
        for run in [&lost, &missed, &killed] {
            run.begin(1_000);
        }
        for (run, is_done) in [(&missed, false), (&killed, true)] {
            run.to_be_killed();
            run.kill_answered(is_done);
        }
        for run in [&lost, &missed, &killed] {
            run.ended_with_container(None, false, 2_000);
        }
        assert_eq!((code(&lost), code(&missed), code(&killed)), (None, None, Some(KILLED)));
        assert!(lost.listed().is_none());
    }
}
