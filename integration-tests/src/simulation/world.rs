//! The cluster of one run: real schedulers and executors on simulated machines.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_domain::digest::SpecHash;
use berth_domain::ids::{AttemptRef, ExecutorId, JobId, Namespace, SchedulerId};
use berth_domain::resources::GpuDevice;
use berth_domain::spec::{Network, Reuse};
use berth_executor::clock::Clock;
use berth_executor::disk::MemoryDisk;
use berth_executor::host::Host;
use berth_executor::random::SeededRandom;
use berth_executor::runtime::{
    ContainerName, ContainerPlan, NO_CODE, Owner, Ran, Runtime, SimulatedEngine, SimulatedRuntime,
    attempt_labels,
};
use berth_executor::{Deps as ExecutorDeps, ExecutorConfig};
use berth_scheduler::{Deps, Replica, SchedulerConfig, SeededEntropy};
use berth_store::Store;
use berth_store::model::ModelStore;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::engine::{Quirks, QuirkyRuntime};
use super::fault::Process;
use super::network::{SimulatedConnect, incoming};
use super::plan::{Machine, Plan};
use crate::failpoints::{FaultyConnect, FaultyDisk, FaultyEngine, FaultyStore, Points};
use crate::history::Run;

const PORT: u16 = 50_051;
/// What containers of others call their job.
const NEIGHBOUR: &str = "neighbour";
/// The wall clock at the start of a run.
pub const EPOCH_MS: u64 = 1_700_000_000_000;

/// The true time.
pub fn now_ms() -> u64 {
    at_ms(turmoil::sim_elapsed().unwrap_or_default())
}

/// The true time, so long after the start.
pub fn at_ms(elapsed: Duration) -> u64 {
    EPOCH_MS + u64::try_from(elapsed.as_millis()).expect("a run is short")
}

/// Where a scheduler is reached.
pub fn address(index: usize) -> String {
    format!("{}:{PORT}", Process::Scheduler(index))
}

/// A machine's clock: so far from the truth, and as fast.
struct SkewedClock(i64);

impl Clock for SkewedClock {
    fn wall_ms(&self) -> u64 {
        now_ms().saturating_add_signed(self.0)
    }
}

/// What one process is made of, over all of its lives.
#[derive(Clone)]
pub struct Lives {
    /// Tells it to stop, in its present life.
    stop: Arc<Mutex<CancellationToken>>,
    /// Where it can be made to die.
    pub points: Arc<Points>,
    /// It reached the point at which it is to die.
    pub fell: Arc<AtomicBool>,
    /// It ended by itself, which no supervisor leaves so.
    pub ended: Arc<AtomicBool>,
    random: Arc<Mutex<StdRng>>,
}

impl Lives {
    fn new(seed: u64) -> Self {
        let fell = Arc::new(AtomicBool::new(false));
        let falls = fell.clone();
        Self {
            stop: Arc::default(),
            points: Arc::new(Points::new(move || falls.store(true, Ordering::SeqCst))),
            fell,
            ended: Arc::default(),
            random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
        }
    }

    /// Tells its present life to stop in order.
    pub fn stop(&self) {
        self.stop.lock().expect("nobody panics with it").cancel();
    }

    /// Begins a life: how it is told to stop, and the seed of its randomness.
    fn begin(&self) -> (CancellationToken, u64) {
        let stop = CancellationToken::new();
        *self.stop.lock().expect("nobody panics with it") = stop.clone();
        // A restarted process draws on: each life has randomness of its own.
        (stop, self.random.lock().expect("nobody panics with it").random())
    }

    /// Notes how a life ended; what failed is started again.
    fn note<E: std::fmt::Display>(&self, result: Result<(), E>) -> turmoil::Result {
        if let Err(error) = result {
            tracing::info!(%error, "a process ended by itself");
            self.ended.store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// An executor's machine, over all lives of its processes.
pub struct Site {
    /// Its containers.
    pub engine: SimulatedEngine,
    /// What is wrong with its engine.
    pub quirks: Quirks,
    /// Its executor's folder.
    pub disk: Arc<MemoryDisk>,
    /// How often it was started.
    pub boots: Arc<AtomicU32>,
    /// How far its clock is from the truth.
    pub skew_ms: i64,
    has_neighbours: Arc<AtomicBool>,
}

/// Everything that faults touch.
pub struct World {
    /// The store itself.
    pub store: ModelStore,
    /// The store as each scheduler reaches it.
    pub handles: Vec<ModelStore>,
    /// How far the store's clock is from the truth.
    pub store_skew_ms: Arc<AtomicI64>,
    /// The schedulers.
    pub schedulers: Vec<Lives>,
    /// The executors.
    pub executors: Vec<Lives>,
    /// Their machines.
    pub sites: Vec<Site>,
}

impl World {
    /// Builds the cluster of a plan.
    pub fn new(sim: &mut turmoil::Sim<'_>, plan: &Plan) -> Self {
        let store_skew_ms = Arc::new(AtomicI64::new(0));
        let skew = store_skew_ms.clone();
        let clock = Arc::new(move || now_ms().saturating_add_signed(skew.load(Ordering::SeqCst)));
        let store = ModelStore::with_clock(clock, plan.log_age, ModelStore::LOG_BYTES);
        let lives = |kind: u64, index: usize| Lives::new(plan.seed * 100 + kind * 10 + index as u64);
        let mut world = Self {
            handles: (0..plan.schedulers).map(|_| store.replica()).collect(),
            schedulers: (0..plan.schedulers).map(|index| lives(0, index)).collect(),
            executors: (0..plan.machines.len()).map(|index| lives(1, index)).collect(),
            sites: Vec::new(),
            store,
            store_skew_ms,
        };
        for (index, handle) in world.handles.iter().enumerate() {
            let (lives, handle) = (world.schedulers[index].clone(), handle.clone());
            sim.host(Process::Scheduler(index).to_string(), move || {
                scheduler(index, handle.clone(), lives.clone())
            });
        }
        let all: Arc<Vec<String>> = Arc::new((0..plan.schedulers).map(address).collect());
        for (index, machine) in plan.machines.iter().enumerate() {
            let site = Site::new(machine);
            let (lives, machine, all) = (world.executors[index].clone(), machine.clone(), all.clone());
            let parts = site.parts();
            sim.host(Process::Executor(index).to_string(), move || {
                executor(index, machine.clone(), all.clone(), parts.clone(), lives.clone())
            });
            world.sites.push(site);
        }
        world
    }

    /// One process.
    pub fn lives(&self, process: Process) -> &Lives {
        match process {
            Process::Scheduler(index) => &self.schedulers[index],
            Process::Executor(index) => &self.executors[index],
        }
    }

    /// Every process.
    pub fn processes(&self) -> Vec<Process> {
        let schedulers = (0..self.schedulers.len()).map(Process::Scheduler);
        schedulers.chain((0..self.executors.len()).map(Process::Executor)).collect()
    }

    /// What the cluster's containers did until now, by the true time.
    pub fn runs(&self, end_ms: u64) -> Vec<Run> {
        self.all_runs(end_ms).into_iter().filter(|run| run.attempt.job.as_str() != NEIGHBOUR).collect()
    }

    /// What those of others on the same engines did. Whoever turns a machine off ends them, too.
    pub fn neighbours(&self, end_ms: u64) -> Vec<Run> {
        let is_theirs = |run: &Run| run.attempt.job.as_str() == NEIGHBOUR;
        let is_lost = |run: &Run| run.ended.is_some_and(|(_, code)| code == NO_CODE);
        self.all_runs(end_ms).into_iter().filter(|run| is_theirs(run) && !is_lost(run)).collect()
    }

    fn all_runs(&self, end_ms: u64) -> Vec<Run> {
        let mut all = Vec::new();
        for (index, site) in self.sites.iter().enumerate() {
            let truly = |ms: u64| ms.saturating_add_signed(-site.skew_ms);
            let runs = site.engine.runs(end_ms.saturating_add_signed(site.skew_ms));
            all.extend(runs.into_iter().map(|Ran { attempt, started_ms, ended }| Run {
                attempt,
                executor: Process::Executor(index).to_string(),
                started_ms: truly(started_ms),
                ended: ended.map(|(at_ms, code)| (truly(at_ms), code)),
            }));
        }
        all
    }
}

/// What an executor's process finds on its machine.
#[derive(Clone)]
struct Parts {
    engine: SimulatedEngine,
    quirks: Quirks,
    disk: Arc<MemoryDisk>,
    boots: Arc<AtomicU32>,
    has_neighbours: Arc<AtomicBool>,
}

impl Site {
    fn new(machine: &Machine) -> Self {
        Self {
            engine: SimulatedEngine::default(),
            has_neighbours: Arc::default(),
            quirks: Quirks::default(),
            disk: Arc::new(MemoryDisk::new(Arc::new(SkewedClock(machine.skew_ms)))),
            boots: Arc::default(),
            skew_ms: machine.skew_ms,
        }
    }

    fn parts(&self) -> Parts {
        Parts {
            engine: self.engine.clone(),
            quirks: self.quirks.clone(),
            disk: self.disk.clone(),
            boots: self.boots.clone(),
            has_neighbours: self.has_neighbours.clone(),
        }
    }
}

/// Starts containers of another cluster that has an executor of the same name, and of another executor of
/// this cluster.
async fn settle_neighbours(runtime: &dyn Runtime, executor: &str) {
    for (cluster, owner) in [("other", executor), ("sim", "another-executor")] {
        let owner = Owner { cluster: cluster.to_owned(), executor: owner.to_owned() };
        let attempt = AttemptRef { job: JobId::trusted(NEIGHBOUR), number: 1, epoch: 1 };
        let plan = ContainerPlan {
            name: ContainerName::new(&owner, &attempt),
            image: "job".to_owned(),
            command: vec!["sleep".to_owned(), "100000".to_owned()],
            env: BTreeMap::new(),
            working_dir: String::new(),
            labels: attempt_labels(&owner, &attempt, SpecHash::default(), "boot"),
            cpu_millis: 1,
            memory_bytes: 1,
            gpus: Vec::new(),
            network: Network::None,
            namespace: Namespace::trusted("default"),
            reuse: Reuse::None,
        };
        runtime.create(&plan).await.expect("nothing is wrong with it yet");
        runtime.start(&plan.name).await.expect("nothing is wrong with it yet");
    }
}

async fn scheduler(index: usize, store: ModelStore, lives: Lives) -> turmoil::Result {
    let (stop, seed) = lives.begin();
    let name = Process::Scheduler(index).to_string();
    let mut config = SchedulerConfig::new(SchedulerId::trusted(name), "sim");
    config.advertise = address(index);
    config.safety_interval = Duration::from_secs(3_600);
    let inner: Arc<dyn Store> = Arc::new(store);
    let deps = Deps {
        store: Arc::new(FaultyStore { inner, points: lives.points.clone() }),
        entropy: Arc::new(SeededEntropy::new(seed)),
        connect: Arc::new(SimulatedConnect),
    };
    let listener = turmoil::net::TcpListener::bind(("0.0.0.0", PORT)).await?;
    match Replica::start(deps, config, stop).await {
        Ok(replica) => lives.note(replica.serve(incoming(listener)).await),
        Err(error) => lives.note(Err(error)),
    }
}

async fn executor(
    index: usize,
    machine: Machine,
    schedulers: Arc<Vec<String>>,
    parts: Parts,
    lives: Lives,
) -> turmoil::Result {
    let (stop, seed) = lives.begin();
    let name = Process::Executor(index).to_string();
    let clock: Arc<dyn Clock> = Arc::new(SkewedClock(machine.skew_ms));
    let mut config = ExecutorConfig::new("/simulated", schedulers.to_vec());
    config.executor_id = Some(ExecutorId::trusted(name.clone()));
    config.cluster = "sim".to_owned();
    config.safety_interval = Duration::from_secs(3_600);
    let zone = machine.zones[usize::from(seed % 2 == 1)];
    if !zone.is_empty() {
        config.labels = [("zone".to_owned(), zone.to_owned())].into();
    }
    let (count, model) = machine.gpus;
    let device =
        |number| GpuDevice { id: format!("{name}-gpu-{number}"), model: model.to_owned(), emulated: false };
    let host = Host {
        hostname: name.clone(),
        boot_id: format!("boot-{name}-{}", parts.boots.load(Ordering::SeqCst)),
        cores: machine.cores,
        memory_bytes: 2 << 30,
        gpus: (0..count).map(device).collect(),
    };
    let runtime = SimulatedRuntime::new(parts.engine, clock.clone(), Duration::from_millis(5));
    if !parts.has_neighbours.swap(true, Ordering::SeqCst) {
        settle_neighbours(&runtime, &name).await;
    }
    let runtime = QuirkyRuntime { inner: runtime, quirks: parts.quirks };
    let points = lives.points.clone();
    let deps = ExecutorDeps {
        runtime: Arc::new(FaultyEngine { inner: Arc::new(runtime), points: points.clone() }),
        connector: Arc::new(FaultyConnect { inner: Arc::new(SimulatedConnect), points: points.clone() }),
        disk: Arc::new(FaultyDisk { inner: parts.disk, points }),
        host,
        clock,
        random: Arc::new(SeededRandom::new(seed)),
        ready: watch::channel(None).0,
    };
    lives.note(berth_executor::run(deps, config, stop).await)
}
