//! An engine without containers, for simulations, benchmarks and machines without Docker. It
//! understands `true`, `false`, `exit N`, `sleep S`, `echo TEXT` and `ignore-term S`; images whose
//! name starts with `missing` do not exist, and those with `slow-pull` take 5 s to come. What runs
//! is a function of the time, so that the containers outlive a crash of their executor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use berth_domain::ids::AttemptRef;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{Notify, watch};

use super::{
    ContainerName, ContainerPlan, CreateError, Delivery, EngineError, EngineState, Inspected, Listed,
    OutputLine, OutputStream, Owner, PullError, PullProgress, Runtime, Signal, StartError, attempt_of_labels,
    labels,
};
use crate::clock::Clock;

/// How long a pull of an image named `slow-pull` takes.
const SLOW_PULL: Duration = Duration::from_secs(5);
/// Exit code of a process that SIGTERM ended.
const TERMINATED: i32 = 143;
/// Exit code of a process that SIGKILL ended.
const KILLED: i32 = 137;

#[derive(Debug, Clone)]
struct Process {
    started_ms: u64,
    ends_ms: u64,
    exit_code: i32,
    ignores_term: bool,
    /// It went down with its machine: its exit code means nothing.
    is_lost: bool,
}

#[derive(Debug, Clone)]
struct Container {
    attempt: AttemptRef,
    plan: ContainerPlan,
    process: Option<Process>,
    output: String,
}

/// A process that an engine ran, for those who judge a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The attempt of its container.
    pub attempt: AttemptRef,
    /// When it started.
    pub started_ms: u64,
    /// When it ended, and with which code; `None` while it runs. The code is `NO_CODE` where it went down with
    /// its machine, whatever the engine says of it.
    pub ended: Option<(u64, i32)>,
}

/// The exit code of a process that never exited.
pub const NO_CODE: i32 = i32::MIN;

#[derive(Debug, Default)]
struct Engine {
    containers: BTreeMap<String, Container>,
    /// What containers ran that are removed.
    removed: Vec<Ran>,
    images: BTreeSet<String>,
    starts: BTreeMap<String, u32>,
    broken: bool,
}

/// The engine of one simulated machine: it keeps its containers while executors come and go.
#[derive(Debug, Clone, Default)]
pub struct SimulatedEngine {
    engine: Arc<Mutex<Engine>>,
    /// Wakes those who wait for an exit when a signal may have changed its time.
    changed: Arc<Notify>,
}

impl SimulatedEngine {
    fn state(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every call fail as if the engine were stopped, or ends that. Containers run on.
    pub fn set_broken(&self, broken: bool) {
        self.state().broken = broken;
    }

    /// Ends every process as a reboot of the machine does: with a code that means nothing.
    pub fn reboot(&self, now_ms: u64, exit_code: i32) {
        for container in self.state().containers.values_mut() {
            if let Some(process) = container.process.as_mut().filter(|process| process.ends_ms > now_ms) {
                process.ends_ms = now_ms;
                process.exit_code = exit_code;
                process.is_lost = true;
            }
        }
        self.changed.notify_waiters();
    }

    /// Counts the starts of each container name ever seen: more than 1 is a broken promise.
    pub fn starts(&self) -> BTreeMap<String, u32> {
        self.state().starts.clone()
    }

    /// Lists the attempts whose process runs at a time.
    pub fn running(&self, now_ms: u64) -> Vec<AttemptRef> {
        let state = self.state();
        let running = state.containers.values().filter(|c| c.state(now_ms) == EngineState::Running);
        running.map(|container| container.attempt.clone()).collect()
    }

    /// Tells what every process did until now, those of removed containers too.
    pub fn runs(&self, now_ms: u64) -> Vec<Ran> {
        let state = self.state();
        let there = state.containers.values().filter_map(|container| container.ran(now_ms));
        state.removed.iter().cloned().chain(there).collect()
    }

    /// Counts the containers, in any state.
    pub fn container_count(&self) -> usize {
        self.state().containers.len()
    }
}

impl Container {
    fn belongs_to(&self, owner: &Owner) -> bool {
        let label = |key: &str| self.plan.labels.get(key).map(String::as_str);
        label(labels::CLUSTER) == Some(&owner.cluster) && label(labels::EXECUTOR) == Some(&owner.executor)
    }

    fn ran(&self, now_ms: u64) -> Option<Ran> {
        let process = self.process.as_ref()?;
        let code = if process.is_lost { NO_CODE } else { process.exit_code };
        let ended = (process.ends_ms <= now_ms).then_some((process.ends_ms, code));
        Some(Ran { attempt: self.attempt.clone(), started_ms: process.started_ms, ended })
    }

    fn state(&self, now_ms: u64) -> EngineState {
        match &self.process {
            None => EngineState::Created,
            Some(process) if process.ends_ms > now_ms => EngineState::Running,
            Some(_) => EngineState::Exited,
        }
    }
}

/// What a command does.
struct Behaviour {
    runs: Duration,
    exit_code: i32,
    ignores_term: bool,
    output: String,
}

fn behaviour(command: &[String]) -> Result<Behaviour, StartError> {
    // A shell or the job helper in front changes nothing about what is understood.
    let front = |word: &&str| matches!(*word, "sh" | "/bin/sh" | "-c" | "berth-job" | "/bin/berth-job");
    let words = command.iter().flat_map(|argument| argument.split_whitespace());
    let words: Vec<&str> = words.skip_while(front).collect();
    let quiet =
        |runs, exit_code, ignores_term| Behaviour { runs, exit_code, ignores_term, output: String::new() };
    let seconds = |text: Option<&&str>| {
        let seconds = text.and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
    };
    Ok(match words.first().copied() {
        None | Some("true") => quiet(Duration::ZERO, 0, false),
        Some("false") => quiet(Duration::ZERO, 1, false),
        Some("exit") => quiet(Duration::ZERO, words.get(1).and_then(|w| w.parse().ok()).unwrap_or(0), false),
        Some("sleep") => quiet(seconds(words.get(1)), 0, false),
        Some("ignore-term") => quiet(seconds(words.get(1)), 0, true),
        Some("echo") => {
            Behaviour { output: format!("{}\n", words[1..].join(" ")), ..quiet(Duration::ZERO, 0, false) }
        }
        Some(program) => {
            let message = format!("exec: {program:?}: executable file not found in $PATH");
            return Err(StartError::Command { code: 127, message });
        }
    })
}

/// The engine as executors see it.
#[derive(Clone)]
pub struct SimulatedRuntime {
    engine: SimulatedEngine,
    clock: Arc<dyn Clock>,
    latency: Duration,
}

impl SimulatedRuntime {
    /// Sees an engine. The clock must tell the same time before and after a simulated crash. Every
    /// call takes `latency`.
    pub fn new(engine: SimulatedEngine, clock: Arc<dyn Clock>, latency: Duration) -> Self {
        Self { engine, clock, latency }
    }

    async fn call(&self) -> Result<(), EngineError> {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        if self.engine.state().broken {
            return Err(EngineError::Unavailable("the simulated engine is stopped".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Runtime for SimulatedRuntime {
    async fn list(&self, owner: &Owner) -> Result<Vec<Listed>, EngineError> {
        self.call().await?;
        let now_ms = self.clock.wall_ms();
        let state = self.engine.state();
        let ours = state.containers.values().filter(|container| container.belongs_to(owner));
        let listed = ours.filter_map(|container| {
            let label = |key: &str| container.plan.labels.get(key).map(String::as_str);
            Listed::of_labels(container.state(now_ms), label)
        });
        Ok(listed.collect())
    }

    async fn ping(&self) -> Result<(), EngineError> {
        self.call().await
    }

    async fn images(&self) -> Result<Vec<String>, EngineError> {
        self.call().await?;
        Ok(self.engine.state().images.iter().cloned().collect())
    }

    async fn pull(&self, image: &str, progress: watch::Sender<PullProgress>) -> Result<(), PullError> {
        self.call().await.map_err(|error| PullError::Transient(error.to_string()))?;
        if image.starts_with("missing") {
            return Err(PullError::Permanent(format!("manifest for {image} not found")));
        }
        if image.starts_with("slow-pull") {
            for step in 1..=5 {
                tokio::time::sleep(SLOW_PULL / 5).await;
                progress.send_replace(PullProgress { pulled_bytes: step, total_bytes: 5, steps: step });
            }
        }
        self.engine.state().images.insert(image.to_owned());
        Ok(())
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<(), CreateError> {
        self.call().await?;
        let get = |key: &str| plan.labels.get(key).map(String::as_str);
        let attempt = attempt_of_labels(get)
            .ok_or_else(|| EngineError::Failed("the container has no attempt".to_owned()))?;
        let mut state = self.engine.state();
        let needs_pull = plan.image.starts_with("missing") || plan.image.starts_with("slow-pull");
        if needs_pull && !state.images.contains(&plan.image) {
            return Err(CreateError::NoImage);
        }
        state.images.insert(plan.image.clone());
        let made = Container { attempt, plan: plan.clone(), process: None, output: String::new() };
        state.containers.entry(plan.name.to_string()).or_insert(made);
        Ok(())
    }

    async fn start(&self, name: &ContainerName) -> Result<(), StartError> {
        self.call().await?;
        let now_ms = self.clock.wall_ms();
        let mut state = self.engine.state();
        let container = state.containers.get_mut(name.as_str()).ok_or(StartError::Gone)?;
        if container.process.is_some() {
            return Ok(());
        }
        let behaviour = behaviour(&container.plan.command)?;
        container.output = behaviour.output;
        container.process = Some(Process {
            started_ms: now_ms,
            ends_ms: now_ms.saturating_add(crate::clock::millis(behaviour.runs)),
            exit_code: behaviour.exit_code,
            ignores_term: behaviour.ignores_term,
            is_lost: false,
        });
        *state.starts.entry(name.to_string()).or_default() += 1;
        Ok(())
    }

    async fn wait(&self, name: &ContainerName) -> Result<(), EngineError> {
        loop {
            // Enlisted before looking, so that no change falls between.
            let changed = self.engine.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.call().await?;
            let now_ms = self.clock.wall_ms();
            let ends_ms = match self.engine.state().containers.get(name.as_str()) {
                None => return Ok(()),
                Some(container) => container.process.as_ref().map_or(now_ms, |process| process.ends_ms),
            };
            if ends_ms <= now_ms {
                return Ok(());
            }
            let end = tokio::time::sleep(Duration::from_millis(ends_ms - now_ms));
            tokio::select! { biased; () = changed => {} () = end => {} }
        }
    }

    async fn inspect(&self, name: &ContainerName) -> Result<Option<Inspected>, EngineError> {
        self.call().await?;
        let now_ms = self.clock.wall_ms();
        let state = self.engine.state();
        let inspected = state.containers.get(name.as_str()).map(|container| {
            let state = container.state(now_ms);
            let process = container.process.as_ref();
            let ended = process.filter(|_| state == EngineState::Exited);
            Inspected {
                state,
                exit_code: ended.map_or(0, |process| process.exit_code),
                oom_killed: false,
                started_ms: process.map(|process| process.started_ms),
                finished_ms: ended.map(|process| process.ends_ms),
                error: String::new(),
            }
        });
        Ok(inspected)
    }

    async fn signal(&self, name: &ContainerName, signal: Signal) -> Result<Delivery, EngineError> {
        self.call().await?;
        let now_ms = self.clock.wall_ms();
        let mut state = self.engine.state();
        let process = state.containers.get_mut(name.as_str()).and_then(|c| c.process.as_mut());
        let Some(process) = process.filter(|process| process.ends_ms > now_ms) else {
            return Ok(Delivery::NotRunning);
        };
        match signal {
            Signal::Term if process.ignores_term => {}
            Signal::Term => (process.ends_ms, process.exit_code) = (now_ms, TERMINATED),
            Signal::Kill => (process.ends_ms, process.exit_code) = (now_ms, KILLED),
        }
        drop(state);
        self.engine.changed.notify_waiters();
        Ok(Delivery::Sent)
    }

    async fn remove(&self, name: &ContainerName) -> Result<(), EngineError> {
        self.call().await?;
        let now_ms = self.clock.wall_ms();
        let mut state = self.engine.state();
        // A forced removal ends what runs.
        let gone = state.containers.remove(name.as_str()).and_then(|container| container.ran(now_ms));
        let gone = gone.map(|ran| Ran { ended: ran.ended.or(Some((now_ms, KILLED))), ..ran });
        state.removed.extend(gone);
        Ok(())
    }

    async fn logs(
        &self,
        name: &ContainerName,
        _since_seconds: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Vec<OutputLine>, EngineError>>, EngineError> {
        self.call().await?;
        let output = self.engine.state().containers.get(name.as_str()).map(|container| {
            let started_ms = container.process.as_ref().map_or(0, |process| process.started_ms);
            (started_ms, container.output.clone())
        });
        let lines = output.filter(|(_, text)| !text.is_empty()).map(|(started_ms, text)| {
            Ok(vec![OutputLine {
                stream: OutputStream::Stdout,
                time_ns: started_ms.saturating_mul(1_000_000),
                bytes: Bytes::from(text),
            }])
        });
        let lines = stream::iter(lines);
        if !follow {
            return Ok(lines.boxed());
        }
        let (this, name) = (self.clone(), name.clone());
        let end = stream::once(async move { this.wait(&name).await })
            .filter_map(|ended| async move { ended.err().map(Err) });
        Ok(lines.chain(end).boxed())
    }
}
