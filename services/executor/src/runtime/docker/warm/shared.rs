//! Runs jobs in warm containers: gives each its container, follows it to its end, and looks at what it leaves.
//! A container is given to the next job only after a plain end of which nothing is left; whatever is not known
//! for certain ends the container, and nothing is told of the job before that is dead.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::container::LogOutput;
use futures::StreamExt;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::engine::{self, Begun, Exit, Image, Killed, Pieces};
use super::left;
use super::output::Cutter;
use super::pool::{Container, Kind, Pool, Taken};
use super::run::Run;
use crate::runtime::docker::engine::{LONG, Link, timed};
use crate::runtime::docker::slots::pause;
use crate::runtime::{
    ContainerName, ContainerPlan, CreateError, Delivery, EngineError, Listed, OutputStream, labels,
};

/// The largest exit code that is not made of a signal.
const MOST_PLAIN: i32 = 128;
/// The exit code of what SIGKILL ended.
const KILLED: i32 = 137;
/// Processes in a container without a job: the init process, and what waits.
const IDLE_PROCESSES: usize = 2;
/// How long a container may take to end after it took a job with it.
const END_WAIT: Duration = Duration::from_secs(5);
/// How long a job waits for what an earlier process left to be dead, before it is tried again.
const SETTLED_SOON: Duration = Duration::from_secs(5);
/// How often the engine is asked how a job ended that it still shows as running.
const MOST_LOOKS: u32 = 5;
/// Waits between those.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Waits between attempts to kill a container.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// The warm containers of an engine, and the jobs in them. Until its keeper begins, there are none.
pub(in crate::runtime::docker) struct Warm {
    pub(super) link: Arc<Link>,
    /// Held for moments only, as is the next one.
    pool: Mutex<Pool>,
    runs: Mutex<BTreeMap<ContainerName, Arc<Run>>>,
    /// Wakes the keeper.
    pub(super) changed: Notify,
    /// Nothing runs any more of what an earlier process left.
    pub(super) settled: watch::Sender<bool>,
    /// That there can be none on this engine was told.
    unable: AtomicBool,
}

impl Warm {
    pub fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            pool: Mutex::default(),
            runs: Mutex::default(),
            changed: Notify::new(),
            settled: watch::Sender::new(false),
            unable: AtomicBool::new(false),
        }
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<ContainerName, Arc<Run>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job of this name, where it is in a warm container.
    pub fn run(&self, name: &ContainerName) -> Option<Arc<Run>> {
        self.runs().get(name).cloned()
    }

    /// What a list shows of the jobs in warm containers.
    pub fn listed(&self) -> Vec<Listed> {
        self.runs().values().filter_map(|run| run.listed()).collect()
    }

    /// Waits until nothing runs any more of what an earlier process left.
    pub async fn settle(&self) -> Result<(), EngineError> {
        let mut settled = self.settled.subscribe();
        // The sender is this very value.
        timed(LONG, settled.wait_for(|settled| *settled)).await.map(drop)
    }

    /// Gives a job its container. `None` where it is to have one of its own.
    pub async fn create(&self, plan: &ContainerPlan) -> Option<Result<(), CreateError>> {
        if self.run(&plan.name).is_some() {
            return Some(Ok(()));
        }
        if !self.is_able().await {
            return None;
        }
        // Nothing is started while something of an earlier process may run; nor does anybody wait long for that here.
        let mut settled = self.settled.subscribe();
        if let Err(error) = timed(SETTLED_SOON, settled.wait_for(|settled| *settled)).await {
            return Some(Err(error.into()));
        }
        let image = match engine::image(&self.link, &plan.image).await {
            Ok(Some(image)) => image,
            Ok(None) => return Some(Err(CreateError::NoImage)),
            // The engine says what is wrong when it is asked for the job's own container.
            Err(_) => return None,
        };
        let kind = Kind {
            image_id: image.id.clone(),
            namespace: plan.namespace.clone(),
            network: plan.network,
            cpu_millis: plan.cpu_millis,
            memory_bytes: plan.memory_bytes,
            working_dir: plan.working_dir.clone(),
            boot_id: plan.labels.get(labels::BOOT).cloned().unwrap_or_default(),
        };
        let container = self.container(plan, &kind, image).await?;
        let run = Arc::new(Run::new(plan.clone(), kind, container));
        self.runs().insert(plan.name.clone(), run);
        Some(Ok(()))
    }

    /// Says whether the engine can have warm containers at all; where not, that is told once.
    async fn is_able(&self) -> bool {
        let Ok(engine) = self.link.engine().await else { return false };
        let able = engine.has_init && pause(&engine.arch, "/x").is_some();
        if !able && !self.unable.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                has_init = engine.has_init,
                arch = engine.arch,
                "no container is reused on this engine: jobs with reuse warm get containers of their own"
            );
        }
        able
    }

    async fn container(&self, plan: &ContainerPlan, kind: &Kind, image: Image) -> Option<Container> {
        let taken = self.pool().take(kind, Instant::now());
        match taken {
            Taken::Have(container) => Some(container),
            Taken::Not => None,
            Taken::Make => self.make(plan, kind, image).await,
        }
    }

    async fn make(&self, plan: &ContainerPlan, kind: &Kind, image: Image) -> Option<Container> {
        let label = |key: &str| plan.labels.get(key).map(String::as_str).unwrap_or_default();
        let nonce: String = uuid::Uuid::new_v4().simple().to_string().chars().take(12).collect();
        let name = format!("berth-warm-{}-{}-{nonce}", label(labels::CLUSTER), label(labels::EXECUTOR));
        match engine::make(&self.link, &name, plan, image).await {
            Ok(container) => {
                tracing::debug!(container = container.id, image = plan.image, "warm container made");
                self.pool().made(kind.clone(), container.clone(), Instant::now());
                Some(container)
            }
            Err(error) => {
                let now = Instant::now();
                self.pool().not_removed(name.clone(), now);
                match error {
                    EngineError::Failed(_) => self.refuse(kind, &error),
                    // What did not answer may make it yet.
                    EngineError::Unavailable(_) | EngineError::Unreachable(_) => {
                        self.pool().not_removed(name, Pool::again(now));
                    }
                }
                self.changed.notify_one();
                None
            }
        }
    }

    /// Jobs of a kind get containers of their own for a while, which is told once.
    fn refuse(&self, kind: &Kind, reason: &EngineError) {
        if self.pool().refuse(kind, Instant::now()) {
            tracing::warn!(
                image = kind.image_id,
                %reason,
                "no warm container can be had: for a while, such jobs get containers of their own"
            );
        }
    }

    /// Starts a job. An error says that nothing of it ran, or will, and gives what was to be run: it is no job of
    /// a warm container any more.
    pub async fn start(self: &Arc<Self>, run: &Arc<Run>) -> Result<(), ContainerPlan> {
        let Some(plan) = run.plan() else { return Ok(()) };
        match self.begin(run, &plan).await {
            Ok((exec, Begun::Pieces(pieces))) => {
                tokio::spawn(self.clone().follow(run.clone(), plan.name, exec, pieces));
                Ok(())
            }
            Ok((_, Begun::Unknown(reason))) => {
                tracing::info!(container = %plan.name, reason, "nobody knows whether it was started: it is ended");
                tokio::spawn(self.clone().give_up(run.clone(), plan.name));
                Ok(())
            }
            Err(error) => {
                tracing::info!(container = %plan.name, reason = %error, "it gets a container of its own");
                self.discard(run);
                self.runs().remove(&plan.name);
                Err(plan)
            }
        }
    }

    async fn begin(&self, run: &Run, plan: &ContainerPlan) -> Result<(String, Begun), EngineError> {
        let exec = engine::prepare(&self.link, &run.container, plan).await?;
        let started_ms = now_ns() / 1_000_000;
        match engine::begin(&self.link, &exec).await {
            Ok(begun) => {
                run.begin(started_ms);
                Ok((exec, begun))
            }
            Err(error) => {
                // Whoever stands before the engine may have refused what the engine does all the same.
                self.kill(&run.container.id).await;
                Err(error)
            }
        }
    }

    /// Follows a job to its end.
    async fn follow(self: Arc<Self>, run: Arc<Run>, name: ContainerName, exec: String, pieces: Pieces) {
        copy(&run, pieces).await;
        let exit = self.exit(&exec).await;
        if let Exit::Code(code) = exit
            && (0..=MOST_PLAIN).contains(&code)
        {
            let is_clean = self.is_clean(&run).await;
            if !is_clean {
                // Nothing of a job runs on once its end is told.
                self.kill(&run.container.id).await;
            }
            let may_stay = self.pool().ended(&run.container.id, Instant::now());
            if run.ended_plainly(code, now_ns() / 1_000_000) {
                run.output.close();
                match (may_stay, is_clean) {
                    (true, true) => self.pool().is_clean(&run.container.id, Instant::now()),
                    (true, false) => self.discard(&run),
                    (false, _) => {}
                }
                return self.changed.notify_one();
            }
        }
        if exit == Exit::NeverRan {
            let reason = EngineError::Failed("a command could not be begun in it".to_owned());
            self.refuse(&run.kind, &reason);
        }
        self.end_badly(&run, &name, exit).await;
    }

    async fn exit(&self, exec: &str) -> Exit {
        for _ in 0..MOST_LOOKS {
            match engine::exit(&self.link, exec).await {
                Ok(Exit::Unknown) | Err(EngineError::Unavailable(_) | EngineError::Unreachable(_)) => {}
                Ok(exit @ (Exit::Code(_) | Exit::NeverRan)) => return exit,
                Err(EngineError::Failed(_)) => break,
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Exit::Unknown
    }

    /// Says whether nothing is left of a job that has ended plainly: no process, and no lack of memory, which would be
    /// told of the next job.
    async fn is_clean(&self, run: &Run) -> bool {
        let (id, root) = (&run.container.id, Path::new("/"));
        if left::has_lacked_memory(root, &run.container) == Some(true) {
            return false;
        }
        // One that is just going away counts, too: the engine is asked wherever it seems that something is left.
        let seen = left::processes(root, &run.container).filter(|count| *count <= IDLE_PROCESSES);
        let count = match seen {
            Some(count) => Ok(count),
            None => engine::processes(&self.link, id).await,
        };
        match count {
            Ok(count) if count <= IDLE_PROCESSES => true,
            Ok(count) => {
                tracing::debug!(container = id, count, "processes are left: the container goes");
                false
            }
            Err(error) => {
                if let EngineError::Failed(_) = error {
                    self.refuse(&run.kind, &error);
                }
                false
            }
        }
    }

    /// Ends the container of a job of which nobody knows whether it was started.
    async fn give_up(self: Arc<Self>, run: Arc<Run>, name: ContainerName) {
        self.end_badly(&run, &name, Exit::Unknown).await;
    }

    /// Ends the container of a job that did not end plainly, and then the job.
    async fn end_badly(&self, run: &Run, name: &ContainerName, exit: Exit) {
        let id = &run.container.id;
        run.kill_settled().await;
        let code = match exit {
            Exit::Code(code) if run.was_killed() || self.outlived(run, code).await => Some(code),
            Exit::Code(_) | Exit::NeverRan | Exit::Unknown => None,
        };
        let oom_killed = self.kill(id).await;
        run.ended_with_container(code, oom_killed, now_ns() / 1_000_000);
        if run.inspected().is_none() {
            tracing::info!(container = %name, ?exit, "its warm container ended under it");
            self.runs().remove(name);
        }
        run.output.close();
        self.discard(run);
    }

    /// Says whether a job's container has outlived it: otherwise its exit code says nothing.
    async fn outlived(&self, run: &Run, code: i32) -> bool {
        let id = &run.container.id;
        if code == KILLED {
            // A container that ends kills what is in it first, and is told as ended a moment later.
            let _ = tokio::time::timeout(END_WAIT, engine::wait(&self.link, id)).await;
        }
        let found = engine::inspect(&self.link, id).await;
        found.is_ok_and(|found| engine::running(&found) == Some(run.container.pid))
    }

    /// Kills a container, however long it takes; says whether memory ran out in it.
    async fn kill(&self, id: &str) -> bool {
        loop {
            match engine::kill(&self.link, id).await {
                Ok(Killed::Gone) => return false,
                Ok(Killed::Now | Killed::Before) => match engine::inspect(&self.link, id).await {
                    Ok(found) if engine::running(&found).is_none() => {
                        return found.state.is_some_and(|state| state.oom_killed == Some(true));
                    }
                    Ok(_) | Err(EngineError::Unavailable(_) | EngineError::Unreachable(_)) => {}
                    // It is gone.
                    Err(EngineError::Failed(_)) => return false,
                },
                Err(error) => {
                    tracing::debug!(container = id, %error, "a warm container cannot be killed yet")
                }
            }
            tokio::time::sleep(KILL_AGAIN).await;
        }
    }

    /// No further job gets the container.
    fn discard(&self, run: &Run) {
        self.pool().condemn(&run.container.id, Instant::now());
        self.changed.notify_one();
    }

    /// Kills a job, and its container with it: a single process in one cannot be sent a signal.
    pub async fn signal(&self, run: &Run) -> Result<Delivery, EngineError> {
        if !run.to_be_killed() {
            return Ok(Delivery::NotRunning);
        }
        let killed = engine::kill(&self.link, &run.container.id).await;
        run.kill_answered(killed == Ok(Killed::Now));
        killed.map(|killed| match killed {
            Killed::Now => Delivery::Sent,
            Killed::Before | Killed::Gone => Delivery::NotRunning,
        })
    }

    /// Forgets a job, which is ended first where it runs.
    pub async fn remove(&self, name: &ContainerName, run: &Run) -> Result<(), EngineError> {
        if run.plan().is_some() {
            self.pool().unused(&run.container.id, Instant::now());
            self.changed.notify_one();
        } else {
            self.signal(run).await?;
            timed(LONG, run.end()).await?;
        }
        self.runs().remove(name);
        Ok(())
    }
}

/// Copies a job's output until it ends, or breaks: how the job ended is looked up either way.
async fn copy(run: &Run, mut pieces: Pieces) {
    let mut cutter = Cutter::default();
    while let Some(Ok(piece)) = pieces.next().await {
        let (stream, bytes) = match &piece {
            LogOutput::StdOut { message } => (OutputStream::Stdout, message),
            LogOutput::StdErr { message } => (OutputStream::Stderr, message),
            LogOutput::StdIn { .. } | LogOutput::Console { .. } => continue,
        };
        cutter.take(&run.output, stream, bytes, now_ns()).await;
    }
    cutter.finish(&run.output, now_ns()).await;
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
