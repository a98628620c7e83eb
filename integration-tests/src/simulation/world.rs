//! One simulated run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_api::v1;
use berth_api::v1::cluster_service_client::ClusterServiceClient;
use berth_api::v1::job_service_client::JobServiceClient;
use berth_domain::ids::{ExecutorId, SchedulerId};
use berth_domain::job::{JOB_STATES, JobState};
use berth_executor::clock::Clock;
use berth_executor::disk::{Disk, MemoryDisk};
use berth_executor::host::Host;
use berth_executor::random::SeededRandom;
use berth_executor::runtime::{Ran, SimulatedEngine, SimulatedRuntime};
use berth_executor::{Deps as ExecutorDeps, ExecutorConfig};
use berth_scheduler::{Deps, Replica, SchedulerConfig, SeededEntropy};
use berth_store::model::ModelStore;
use berth_store::{Change, Changes, Position, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::Report;
use super::network::{SimulatedConnect, incoming};
use crate::history::{Abort, History, Logged, Run, Submit};

const PORT: u16 = 50_051;
const SCHEDULERS: [&str; 2] = ["scheduler-1", "scheduler-2"];
const EXECUTORS: [&str; 2] = ["executor-1", "executor-2"];
/// The wall clock at the start of a run.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// How long a run may take, in simulated time.
const LIMIT: Duration = Duration::from_secs(600);
/// By then every fault is over, and was got over.
const QUIET_AT: Duration = Duration::from_secs(90);

/// The simulation's time, the same on every host.
struct SimulatedClock;

impl Clock for SimulatedClock {
    fn wall_ms(&self) -> u64 {
        now_ms()
    }
}

fn now_ms() -> u64 {
    let elapsed = turmoil::sim_elapsed().unwrap_or_default();
    EPOCH_MS + u64::try_from(elapsed.as_millis()).expect("a run is short")
}

/// What a client wants, and how it must end.
#[derive(Debug, Clone)]
struct Wish {
    command: Vec<String>,
    on_lost: v1::OnLost,
    end: JobState,
    /// The pause before its submit.
    pause: Duration,
    /// It is aborted after that time.
    abort_after: Option<Duration>,
}

/// What the clients were answered.
#[derive(Clone, Default)]
struct Answers {
    submits: Arc<Mutex<Vec<Submit>>>,
    aborts: Arc<Mutex<Vec<Abort>>>,
    /// How each acknowledged job must end.
    expected: Arc<Mutex<BTreeMap<String, JobState>>>,
}

/// What an observer of the store saw.
#[derive(Clone, Default)]
struct Seen {
    log: Arc<Mutex<Vec<Logged>>>,
    /// Seen, and lost afterwards.
    tail: Arc<Mutex<Vec<Logged>>>,
    /// The revision up to which the store that took over had everything.
    promoted: Arc<Mutex<Option<u64>>>,
    all_ended: Arc<AtomicBool>,
}

/// Runs a world to its end.
pub fn run(seed: u64) -> Report {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(std::time::UNIX_EPOCH + Duration::from_millis(EPOCH_MS))
        .tick_duration(Duration::from_millis(5))
        .simulation_duration(LIMIT)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .tcp_capacity(1_024)
        .build();
    let store = ModelStore::with_clock(Arc::new(now_ms), ModelStore::LOG_AGE, ModelStore::LOG_BYTES);
    let handles: Vec<ModelStore> = SCHEDULERS.iter().map(|_| store.replica()).collect();
    for (i, name) in SCHEDULERS.into_iter().enumerate() {
        let store = handles[i].clone();
        sim.host(name, move || scheduler(name, store.clone(), seed * 10 + i as u64));
    }
    let stops: Vec<Arc<Mutex<CancellationToken>>> = EXECUTORS.iter().map(|_| Arc::default()).collect();
    let engines: Vec<SimulatedEngine> = EXECUTORS.iter().map(|_| SimulatedEngine::default()).collect();
    for (i, name) in EXECUTORS.into_iter().enumerate() {
        let disk: Arc<MemoryDisk> = Arc::new(MemoryDisk::new(Arc::new(SimulatedClock)));
        let engine = engines[i].clone();
        // A restarted process draws on: each life has randomness of its own.
        let lives = Arc::new(Mutex::new(StdRng::seed_from_u64(seed * 100 + i as u64)));
        let stop = stops[i].clone();
        sim.host(name, move || {
            let life = CancellationToken::new();
            *stop.lock().unwrap() = life.clone();
            executor(name, disk.clone(), engine.clone(), lives.lock().unwrap().random(), life)
        });
    }
    let (answers, seen) = (Answers::default(), Seen::default());
    let jobs = jobs(&mut rng);
    sim.client("observer", observe(store.replica(), seen.clone(), jobs.len(), answers.clone()));
    sim.client("client", submit_all(jobs, answers.clone()));
    let drains = Arc::new(AtomicUsize::new(0));
    sim.client("operator", operate(Round::drawn(&mut rng), drains.clone()));
    let dead = rng.random_bool(0.2).then(|| rng.random_range(0..EXECUTORS.len()));
    if let Some(index) = dead {
        sim.client("fencer", fence(EXECUTORS[index]));
    }
    let machines = Machines { store: &store, stores: &handles, engines: &engines, stops: &stops, dead };
    let (faults, stuck) = play(&mut sim, &mut rng, &machines, &seen);
    let end_ms = EPOCH_MS + u64::try_from(sim.elapsed().as_millis()).expect("a run is short");
    let runs = EXECUTORS.iter().zip(&engines).flat_map(|(name, engine)| {
        engine.runs(end_ms).into_iter().map(|Ran { attempt, started_ms, ended }| Run {
            attempt,
            executor: (*name).to_owned(),
            started_ms,
            ended,
        })
    });
    let history = History {
        submits: answers.submits.lock().unwrap().clone(),
        aborts: answers.aborts.lock().unwrap().clone(),
        log: seen.log.lock().unwrap().clone(),
        tail: seen.tail.lock().unwrap().clone(),
        runs: runs.collect(),
        is_quiet: true,
    };
    let expected = answers.expected.lock().unwrap().clone();
    Report { history, expected, fenced: dead.is_some(), faults, drains: drains.load(Ordering::SeqCst), stuck }
}

/// What a fault may touch.
struct Machines<'a> {
    /// The store itself.
    store: &'a ModelStore,
    /// The store as each scheduler reaches it.
    stores: &'a [ModelStore],
    engines: &'a [SimulatedEngine],
    /// Tells an executor to stop, in its present life.
    stops: &'a [Arc<Mutex<CancellationToken>>],
    /// The executor whose machine dies for good.
    dead: Option<usize>,
}

/// Steps through the run; on the way a process crashes, a link is cut, an engine and the store stop to
/// answer for a while, and the store fails over to a copy that lacks its newest writes.
fn play(
    sim: &mut turmoil::Sim<'_>,
    rng: &mut StdRng,
    machines: &Machines<'_>,
    seen: &Seen,
) -> (usize, Option<String>) {
    let at = |rng: &mut StdRng| Duration::from_millis(rng.random_range(300..3_000));
    let (crash_at, cut_at, broken_at, silent_at) = (at(rng), at(rng), at(rng), at(rng));
    // Some outages are so long that an executor is judged lost.
    let mut outage =
        || Duration::from_millis(if rng.random_bool(0.3) { 60_000 } else { rng.random_range(100..20_000) });
    let (back_at, mended_at, whole_at) = (crash_at + outage(), cut_at + outage(), broken_at + outage());
    let silence = outage();
    let broken = &machines.engines[rng.random_range(0..2)];
    let crashed = ["executor-1", "executor-2", "scheduler-1", "scheduler-2"][rng.random_range(0..4)];
    let crashed = machines.dead.map_or(crashed, |index| EXECUTORS[index]);
    // An executor may stop in order instead.
    let told = EXECUTORS.iter().position(|name| *name == crashed).filter(|_| rng.random_bool(0.5));
    let told = told.filter(|_| machines.dead.is_none());
    let copied_at = Duration::from_millis(rng.random_range(200..3_000));
    let lost_at = copied_at + Duration::from_millis(rng.random_range(20..800));
    let mut copy = None;
    let cut = (EXECUTORS[rng.random_range(0..2)], SCHEDULERS[rng.random_range(0..2)]);
    let mut plan = vec![
        (crash_at, 0),
        (cut_at, 1),
        (broken_at, 2),
        (silent_at, 3),
        (back_at, 4),
        (mended_at, 5),
        (whole_at, 6),
        (copied_at, 7),
        (lost_at, 8),
    ];
    plan.sort();
    let mut plan = plan.into_iter().peekable();
    let mut faults = 0;
    loop {
        while let Some((_, act)) = plan.next_if(|(time, _)| *time <= sim.elapsed()) {
            match act {
                0 => match told {
                    Some(index) => machines.stops[index].lock().unwrap().cancel(),
                    None => {
                        sim.crash(crashed);
                        if let Some(index) = machines.dead {
                            let now_ms = EPOCH_MS + u64::try_from(sim.elapsed().as_millis()).expect("short");
                            machines.engines[index].reboot(now_ms, 137);
                        }
                    }
                },
                1 => sim.partition(cut.0, cut.1),
                2 => broken.set_broken(true),
                // From outside the simulation, its clock stands at its beginning.
                3 => machines
                    .stores
                    .iter()
                    .for_each(|store| store.set_unavailable_for(sim.elapsed() + silence)),
                4 if machines.dead.is_some() => {}
                4 => sim.bounce(crashed),
                5 => sim.repair(cut.0, cut.1),
                6 => broken.set_broken(false),
                7 => copy = Some(machines.store.snapshot()),
                _ => {
                    let copy = copy.take().expect("it was made before");
                    *seen.promoted.lock().unwrap() = Some(copy.position().revision);
                    machines.store.fail_over(copy);
                }
            }
            // A fault after the last end proves nothing.
            let is_fault = act < 4 || act == 8;
            faults += usize::from(is_fault && !seen.all_ended.load(Ordering::SeqCst));
        }
        match sim.step() {
            Ok(true) => return (faults, None),
            Ok(false) => {}
            Err(error) => return (faults, Some(error.to_string())),
        }
    }
}

async fn scheduler(name: &'static str, store: ModelStore, seed: u64) -> turmoil::Result {
    let mut config = SchedulerConfig::new(SchedulerId::trusted(name), "sim");
    config.advertise = format!("{name}:{PORT}");
    config.safety_interval = Duration::from_secs(3_600);
    // A process that finds no store ends, and is started again by whatever supervises it.
    while store.meta().await.is_err() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let deps = Deps {
        store: Arc::new(store),
        // The store's time tells one life of a process from the next.
        entropy: Arc::new(SeededEntropy::new(seed ^ now_ms().rotate_left(20))),
        connect: Arc::new(SimulatedConnect),
    };
    let listener = turmoil::net::TcpListener::bind(("0.0.0.0", PORT)).await?;
    let replica = Replica::start(deps, config, CancellationToken::new()).await?;
    replica.serve(incoming(listener)).await?;
    Ok(())
}

async fn executor(
    name: &'static str,
    disk: Arc<dyn Disk>,
    engine: SimulatedEngine,
    seed: u64,
    stop: CancellationToken,
) -> turmoil::Result {
    let clock: Arc<dyn Clock> = Arc::new(SimulatedClock);
    let mut config = ExecutorConfig::new("/simulated", SCHEDULERS.map(|s| format!("{s}:{PORT}")).to_vec());
    config.executor_id = Some(ExecutorId::trusted(name));
    config.cluster = "sim".to_owned();
    config.safety_interval = Duration::from_secs(3_600);
    let host = Host {
        hostname: name.to_owned(),
        boot_id: format!("boot-{name}"),
        cores: 2,
        memory_bytes: 2 << 30,
        gpus: Vec::new(),
    };
    let deps = ExecutorDeps {
        runtime: Arc::new(SimulatedRuntime::new(engine, clock.clone(), Duration::from_millis(5))),
        connector: Arc::new(SimulatedConnect),
        disk,
        host,
        clock,
        random: Arc::new(SeededRandom::new(seed)),
        ready: watch::channel(None).0,
    };
    berth_executor::run(deps, config, stop).await?;
    Ok(())
}

/// Draws the jobs.
fn jobs(rng: &mut StdRng) -> Vec<Wish> {
    let mut job = || {
        let (command, end) = match rng.random_range(0..4) {
            _ if rng.random_bool(0.1) => (vec!["sleep".to_owned(), "300".to_owned()], JobState::Aborted),
            0 => (vec!["true".to_owned()], JobState::Succeeded),
            1 => (vec!["exit".to_owned(), "3".to_owned()], JobState::Failed),
            _ => {
                let seconds = f64::from(rng.random_range(1..60)) / 10.0;
                (vec!["sleep".to_owned(), seconds.to_string()], JobState::Succeeded)
            }
        };
        let on_lost = match rng.random_range(0..6) {
            0 => v1::OnLost::Fail,
            1 => v1::OnLost::Hold,
            _ => v1::OnLost::Retry,
        };
        let aborted = end == JobState::Aborted;
        let abort_after = aborted.then(|| Duration::from_millis(rng.random_range(0..8_000)));
        Wish { command, on_lost, end, pause: Duration::from_millis(rng.random_range(0..400)), abort_after }
    };
    (0..20).map(|_| job()).collect()
}

/// Submits every job until it is acknowledged, by whichever replica answers, and aborts those that are to
/// be aborted.
async fn submit_all(jobs: Vec<Wish>, answers: Answers) -> turmoil::Result {
    let mut aborts = tokio::task::JoinSet::new();
    for (i, wish) in jobs.into_iter().enumerate() {
        tokio::time::sleep(wish.pause).await;
        for attempt in 0.. {
            let address = format!("{}:{PORT}", SCHEDULERS[attempt % 2]);
            let job = submit(&address, i, &wish).await;
            let (key, spec) = (format!("job-{i}"), wish.command.join(" "));
            answers.submits.lock().unwrap().push(Submit { key, spec, job: job.clone() });
            if let Some(id) = job {
                answers.expected.lock().unwrap().insert(id.clone(), wish.end);
                if let Some(pause) = wish.abort_after {
                    aborts.spawn(abort(id, pause, answers.clone()));
                }
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    while aborts.join_next().await.is_some() {}
    Ok(())
}

/// Aborts a job until it is answered with its end, by whichever replica.
async fn abort(id: String, pause: Duration, answers: Answers) {
    tokio::time::sleep(pause).await;
    for attempt in 0.. {
        if let Some(channel) = channel(&format!("{}:{PORT}", SCHEDULERS[attempt % 2])).await {
            let request = v1::AbortJobRequest { id: id.clone(), ..Default::default() };
            let mut client = JobServiceClient::new(channel);
            match tokio::time::timeout(Duration::from_secs(5), client.abort_job(request)).await {
                Ok(Ok(answer)) => {
                    let job = answer.into_inner().job.expect("an answer has a job");
                    let state = state_of(job.state());
                    answers.aborts.lock().unwrap().push(Abort { job: job.id, state, at_ms: now_ms() });
                    if state.is_terminal() {
                        return;
                    }
                }
                // It has ended otherwise, or the store has lost it.
                Ok(Err(status))
                    if matches!(status.code(), tonic::Code::FailedPrecondition | tonic::Code::NotFound) =>
                {
                    return;
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn state_of(state: v1::JobState) -> JobState {
    JOB_STATES.into_iter().find(|known| state.as_str_name().ends_with(known.name())).expect("it has a state")
}

async fn channel(address: &str) -> Option<Channel> {
    let connect = <SimulatedConnect as berth_executor::connect::Connect>::connect(&SimulatedConnect, address);
    tokio::time::timeout(Duration::from_secs(2), connect).await.ok()?.ok()
}

async fn submit(address: &str, index: usize, wish: &Wish) -> Option<String> {
    let channel = channel(address).await?;
    let resources = v1::Resources { cpu_millis: 500, memory_bytes: 64 << 20, ..Default::default() };
    let spec = v1::JobSpec {
        image: "job".into(),
        command: wish.command.clone(),
        on_lost: wish.on_lost.into(),
        resources: Some(resources),
        queue_timeout: Some(Default::default()),
        ..Default::default()
    };
    let request =
        v1::SubmitJobRequest { spec: Some(spec), request_id: format!("job-{index}"), ..Default::default() };
    let mut client = JobServiceClient::new(channel);
    let answer = tokio::time::timeout(Duration::from_secs(2), client.submit_job(request)).await.ok()?.ok()?;
    answer.into_inner().job.map(|job| job.id)
}

/// An operator's round: an executor is emptied, and put back into service.
struct Round {
    executor: &'static str,
    begins: Duration,
    /// What still runs then is stopped and put back.
    deadline: Option<u64>,
    lasts: Duration,
}

impl Round {
    fn drawn(rng: &mut StdRng) -> Self {
        Self {
            executor: EXECUTORS[rng.random_range(0..2)],
            begins: Duration::from_millis(rng.random_range(500..4_000)),
            deadline: rng.random_bool(0.7).then(|| rng.random_range(500..5_000)),
            lasts: Duration::from_millis(rng.random_range(1_000..30_000)),
        }
    }
}

/// Makes one round; each of its calls is repeated until it is answered, by whichever replica.
async fn operate(round: Round, drains: Arc<AtomicUsize>) -> turmoil::Result {
    tokio::time::sleep(round.begins).await;
    for attempt in 0.. {
        let request = v1::DrainExecutorRequest {
            id: round.executor.to_owned(),
            deadline: round.deadline.map(berth_api::convert::duration),
            ..Default::default()
        };
        if let Some(channel) = channel(&format!("{}:{PORT}", SCHEDULERS[attempt % 2])).await {
            let mut client = ClusterServiceClient::new(channel);
            let answer = tokio::time::timeout(Duration::from_secs(2), client.drain_executor(request)).await;
            if matches!(answer, Ok(Ok(_))) {
                drains.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(round.lasts).await;
    for attempt in 0.. {
        let request = v1::ResumeExecutorRequest { id: round.executor.to_owned() };
        if let Some(channel) = channel(&format!("{}:{PORT}", SCHEDULERS[attempt % 2])).await {
            let mut client = ClusterServiceClient::new(channel);
            let answer = tokio::time::timeout(Duration::from_secs(2), client.resume_executor(request)).await;
            if matches!(answer, Ok(Ok(_))) {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Declares an executor dead once it is judged lost, by whichever replica.
async fn fence(executor: &'static str) -> turmoil::Result {
    for attempt in 0.. {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Some(channel) = channel(&format!("{}:{PORT}", SCHEDULERS[attempt % 2])).await else { continue };
        let mut client = ClusterServiceClient::new(channel);
        let all = client.list_executors(v1::ListExecutorsRequest::default());
        let Ok(Ok(all)) = tokio::time::timeout(Duration::from_secs(2), all).await else { continue };
        let all = all.into_inner().executors;
        if !all.iter().any(|known| known.id == executor && known.state() == v1::ExecutorState::Lost) {
            continue;
        }
        let request = v1::FenceExecutorRequest { id: executor.to_owned(), ..Default::default() };
        let fenced = tokio::time::timeout(Duration::from_secs(2), client.fence_executor(request)).await;
        if matches!(fenced, Ok(Ok(_))) {
            return Ok(());
        }
    }
    Ok(())
}

impl Seen {
    fn note(&self, generation: u64, entries: Vec<(u64, Change)>) {
        let logged = |(revision, change)| Logged { generation, revision, change };
        self.log.lock().unwrap().extend(entries.into_iter().map(logged));
    }

    /// Says whether every job was submitted and has ended, or was lost by the store.
    fn is_over(&self, count: usize, answers: &Answers) -> bool {
        let expected = answers.expected.lock().unwrap();
        let (log, tail) = (self.log.lock().unwrap(), self.tail.lock().unwrap());
        let newest = |logged: &[Logged], id: &str| {
            logged.iter().rev().find_map(|logged| match &logged.change {
                Change::Job(job) if job.id.as_str() == id => Some(job.state),
                _ => None,
            })
        };
        expected.len() == count
            && expected.keys().all(|id| match newest(&log, id) {
                Some(state) => state.is_terminal(),
                None => newest(&tail, id).is_some(),
            })
    }

    /// Strikes what the store lost, and gives where the log of the one that took over begins.
    fn strike(&self, generation: u64) -> Position {
        let revision = self.promoted.lock().unwrap().expect("only a fail-over begins a generation");
        let mut log = self.log.lock().unwrap();
        let kept = log.partition_point(|logged| logged.revision <= revision);
        self.tail.lock().unwrap().extend(log.drain(kept..));
        Position { generation, revision }
    }
}

/// Follows the store's log until every job has ended.
async fn observe(store: ModelStore, seen: Seen, count: usize, answers: Answers) -> turmoil::Result {
    let mut position = Position::default();
    // The first change makes the first generation.
    while position.generation == 0 {
        position.generation = store.meta().await.map_or(0, |meta| meta.position.generation);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while !seen.is_over(count, &answers) {
        match store.changes(position, Duration::from_secs(5)).await {
            // The store is silent: what happened is told after.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Ok(Changes::Entries { entries, position: next }) => {
                position = next;
                seen.note(position.generation, entries);
            }
            Ok(Changes::Resync) => {
                let generation = store.meta().await?.position.generation;
                if generation == position.generation {
                    return Err("the log was trimmed before it was read".into());
                }
                position = seen.strike(generation);
            }
        }
    }
    seen.all_ended.store(true, Ordering::SeqCst);
    // Whoever is away comes back, and stops what is no longer wanted; a second end of any job would follow.
    let quiet = QUIET_AT.saturating_sub(turmoil::elapsed()).max(Duration::from_secs(30));
    tokio::time::sleep(quiet).await;
    if let Changes::Entries { entries, position } = store.changes(position, Duration::ZERO).await? {
        seen.note(position.generation, entries);
    }
    Ok(())
}
