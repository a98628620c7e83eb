//! Promises of the reconciler, with a simulated engine, a disk in memory and paused time.

use berth_domain::ids::{JobId, Namespace};
use berth_domain::lifecycle::{AttemptEnd, EndCause};
use berth_domain::resources::Demand;
use berth_domain::spec::{Clocks, JobSpec, Network, OnLost, PullPolicy, Reuse};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::{Clock, TokioClock};
use crate::config::LogLimits;
use crate::disk::MemoryDisk;
use crate::logs::{Capture, LogStore};
use crate::outbox::Outbox;
use crate::random::SeededRandom;
use crate::reconciler::{Inventory, Order, Orders, Progress};
use crate::runtime::{Runtime, SimulatedEngine, SimulatedRuntime};

#[path = "restart_tests.rs"]
mod restarts;
#[path = "slot_tests.rs"]
mod slots;
#[path = "warm_tests.rs"]
mod warm;

/// A machine: what outlives the executor's process.
struct Machine {
    engine: SimulatedEngine,
    disk: Arc<MemoryDisk>,
    clock: Arc<dyn Clock>,
    boot_id: String,
    refusals: Arc<slots::Refusals>,
}

/// A process of the executor.
struct Process {
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Snapshot>,
    lease: watch::Sender<Lease>,
    progress: mpsc::Receiver<Progress>,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

fn machine() -> Machine {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::at(1_000_000));
    Machine {
        engine: SimulatedEngine::default(),
        disk: Arc::new(MemoryDisk::new(clock.clone())),
        clock,
        boot_id: "boot-1".into(),
        refusals: Arc::default(),
    }
}

impl Machine {
    async fn start(&self) -> Process {
        let mut process = self.start_with(Lease { until: Instant::now() + LONG, entitled: true }).await;
        process.snapshot.wait_for(|shown| shown.containers_known).await.expect("the engine answers");
        process
    }

    /// Starts a process that may not know yet what is there.
    async fn start_with(&self, lease: Lease) -> Process {
        let random = Arc::new(SeededRandom::new(7));
        let latency = Duration::from_millis(2);
        let inner = SimulatedRuntime::new(self.engine.clone(), self.clock.clone(), latency);
        let runtime: Arc<dyn Runtime> = Arc::new(slots::Refusing { inner, refusals: self.refusals.clone() });
        let owner = Owner { cluster: "c".into(), executor: "e".into() };
        let outbox = Outbox::new(self.disk.clone());
        let found = outbox.load().await.expect("the outbox is readable");
        let (commands_in, commands) = mpsc::channel(16);
        let (snapshot, snapshot_out) = watch::channel(Snapshot::default());
        let (lease_in, lease) = watch::channel(lease);
        let (progress, progress_out) = mpsc::channel(64);
        let parts = Parts {
            steps: StepsParts {
                runtime: runtime.clone(),
                outbox,
                capture: Capture {
                    runtime,
                    store: LogStore::new(self.disk.clone(), LogLimits::default()),
                    clock: self.clock.clone(),
                    random: random.clone(),
                    stuck: Arc::default(),
                },
                clock: self.clock.clone(),
                random,
                progress,
                parallelism: 4,
            },
            owner,
            boot_id: self.boot_id.clone(),
            gpus: Vec::new(),
            cleanup_after: Duration::from_secs(120),
            safety_interval: Duration::from_secs(10),
            commands,
            snapshot,
            lease,
            found,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(Reconciler::new(parts, stop.clone()).run());
        Process {
            commands: commands_in,
            snapshot: snapshot_out,
            lease: lease_in,
            progress: progress_out,
            task,
            stop,
        }
    }

    fn running(&self) -> usize {
        self.engine.running(self.clock.wall_ms()).len()
    }
}

impl Process {
    async fn orders(&self, orders: Orders) {
        self.commands.send(Command::Orders(orders)).await.expect("it runs");
    }

    async fn start(&self, job: &str, order: Order) {
        self.orders(Orders { starts: vec![(key(job), order)], ..Orders::default() }).await;
    }

    async fn whole_set(&self, starts: Vec<(AttemptRef, Order)>) {
        self.orders(Orders { full_set: true, starts, ..Orders::default() }).await;
    }

    async fn abort(&self, job: &str, grace_ms: Option<u64>) {
        self.orders(Orders { stops: vec![(key(job), grace_ms)], ..Orders::default() }).await;
    }

    /// Says the whole set by names alone.
    async fn confirm(&self, jobs: &[&str]) {
        let confirmed = jobs.iter().map(|job| key(job)).collect();
        self.orders(Orders { full_set: true, confirmed, ..Orders::default() }).await;
    }

    async fn acknowledge(&self, job: &str, ended: bool, current: bool) {
        let command = Command::Acknowledged { attempt: key(job), ended, current };
        self.commands.send(command).await.expect("it runs");
    }

    async fn inventory(&self) -> Inventory {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Inventory(answer)).await.expect("it runs");
        answered.await.expect("it answers")
    }

    async fn reported(&mut self, job: &str, wanted: impl Fn(&Reportable) -> bool) -> Reportable {
        let seen = |snapshot: &Snapshot| snapshot.reports.get(&key(job)).is_some_and(&wanted);
        let wait = self.snapshot.wait_for(seen);
        let snapshot = tokio::time::timeout(Duration::from_secs(600), wait).await.expect("in time");
        snapshot.expect("it runs").reports[&key(job)].clone()
    }

    async fn runs(&mut self, job: &str) {
        self.reported(job, |report| *report == Reportable::Running).await;
    }

    async fn end(&mut self, job: &str) -> AttemptEnd {
        match self.reported(job, |report| matches!(report, Reportable::Ended(_))).await {
            Reportable::Ended(end) => end.as_ref().clone(),
            Reportable::Running => unreachable!("it has ended"),
        }
    }

    /// Stops as a killed process does: between any two lines.
    async fn crash(self) {
        self.stop.cancel();
        self.task.abort();
        let _ = self.task.await;
    }
}

fn key(job: &str) -> AttemptRef {
    AttemptRef { job: JobId::trusted(job), number: 1, epoch: 5 }
}

fn spec(command: &str) -> JobSpec {
    JobSpec {
        image: "busybox".into(),
        command: command.split_whitespace().map(str::to_owned).collect(),
        env: BTreeMap::new(),
        working_dir: String::new(),
        demand: Demand { cpu_millis: 100, memory_bytes: 1 << 20, ..Demand::default() },
        priority: 50,
        clocks: Clocks { stop_grace_ms: 2_000, pull_timeout_ms: 3_000, ..Clocks::default() },
        max_retries: 0,
        labels: BTreeMap::new(),
        on_lost: OnLost::Retry,
        network: Network::Bridge,
        pull_policy: PullPolicy::Missing,
        reuse: Reuse::None,
        namespace: Namespace::trusted("default"),
    }
}

fn order(spec: JobSpec) -> Order {
    Order { spec: Ok(spec), gpu_device_ids: Vec::new(), array_index: None, traceparent: String::new() }
}

fn run(command: &str) -> Order {
    order(spec(command))
}

fn exited(code: i32) -> EndCause {
    EndCause::Exited { code, oom: false }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn an_ordered_job_runs_and_its_exit_code_is_reported() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", run("exit 3")).await;
    process.start("b", run("nonsense")).await;
    process.start("c", run("sleep 5")).await;
    assert_eq!(process.end("a").await.cause, exited(3));
    assert_eq!(process.end("b").await.cause, exited(127));
    process.runs("c").await;
    assert_eq!(process.snapshot.borrow().used.cpu_millis, 100);
    let end = process.end("c").await;
    assert_eq!(end.cause, exited(0));
    assert!(end.end_time_ms - end.start_time_ms.expect("it started") >= 5_000);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ignores_sigterm_is_killed_after_the_grace() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", run("ignore-term 600")).await;
    process.runs("a").await;
    let asked_ms = machine.clock.wall_ms();
    process.abort("a", Some(5_000)).await;
    let end = process.end("a").await;
    assert_eq!(end.cause, EndCause::Aborted { code: Some(137) });
    let took_ms = end.end_time_ms - asked_ms;
    assert!((5_000..5_200).contains(&took_ms), "killed after {took_ms} ms");
}

#[tokio::test(start_paused = true)]
async fn an_abort_without_a_grace_of_its_own_has_the_specs() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", run("ignore-term 600")).await;
    process.runs("a").await;
    let asked_ms = machine.clock.wall_ms();
    process.abort("a", None).await;
    let took_ms = process.end("a").await.end_time_ms - asked_ms;
    assert!((2_000..2_200).contains(&took_ms), "killed after {took_ms} ms");
}

#[tokio::test(start_paused = true)]
async fn what_the_whole_set_names_runs_on_and_what_it_does_not_is_stopped() {
    let machine = machine();
    let mut process = machine.start().await;
    for job in ["a", "b"] {
        process.start(job, run("sleep 600")).await;
        process.runs(job).await;
    }
    process.confirm(&["a"]).await;
    seconds(30).await;
    assert_eq!(machine.engine.running(machine.clock.wall_ms()), [key("a")]);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_names_an_adopted_attempt_without_its_order_does_not_stop_it() {
    let machine = machine();
    let mut process = machine.start().await;
    for job in ["a", "b"] {
        process.start(job, run("sleep 600")).await;
        process.runs(job).await;
    }
    process.crash().await;
    let mut process = machine.start().await;
    process.confirm(&["a"]).await;
    seconds(30).await;
    assert_eq!(machine.engine.running(machine.clock.wall_ms()), [key("a")]);
    process.runs("a").await;
    process.confirm(&[]).await;
    seconds(1).await;
    assert_eq!(machine.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_abort_during_a_pull_ends_the_attempt_at_once_and_nothing_ever_runs() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", order(JobSpec { image: "slow-pull".into(), ..spec("true") })).await;
    seconds(1).await;
    process.abort("a", Some(5_000)).await;
    assert_eq!(process.end("a").await.cause, EndCause::Aborted { code: None });
    seconds(20).await;
    assert!(machine.engine.starts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_timeout_stops_the_job_and_says_so() {
    let machine = machine();
    let mut process = machine.start().await;
    let mut limited = spec("sleep 600");
    limited.clocks.run_timeout_ms = Some(3_000);
    process.start("a", order(limited)).await;
    let end = process.end("a").await;
    assert_eq!(end.cause, EndCause::RunTimeout { code: Some(143) });
    let ran_ms = end.end_time_ms - end.start_time_ms.expect("it started");
    assert!((3_000..3_100).contains(&ran_ms), "ran {ran_ms} ms");
}

#[tokio::test(start_paused = true)]
async fn images_are_pulled_or_the_reason_is_told() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", order(JobSpec { image: "missing".into(), ..spec("true") })).await;
    process.start("b", order(JobSpec { image: "slow-pull".into(), ..spec("true") })).await;
    let never = JobSpec { image: "slow-pull:2".into(), pull_policy: PullPolicy::Never, ..spec("true") };
    process.start("c", order(never)).await;
    assert_eq!(process.end("a").await.cause, EndCause::ImageNotFound);
    assert_eq!(process.end("b").await.cause, exited(0));
    assert_eq!(process.end("c").await.cause, EndCause::ImageNotFound);
    let mut phases = Vec::new();
    while let Ok(progress) = process.progress.try_recv() {
        phases.push(progress.phase);
    }
    assert!(phases.contains(&crate::reconciler::Phase::Pulling), "{phases:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_run_here_is_refused_or_a_fault() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", Order { spec: Err("spec.image: is empty".into()), ..run("true") }).await;
    process.start("b", Order { gpu_device_ids: vec!["GPU-9".into()], ..run("true") }).await;
    assert_eq!(process.end("a").await.cause, EndCause::Refused);
    assert_eq!(process.end("b").await.cause, EndCause::ExecutorFault);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_executor_adopts_and_learns_the_exits_it_missed() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("short", run("sleep 5")).await;
    process.start("long", run("sleep 60")).await;
    process.runs("short").await;
    process.runs("long").await;
    process.crash().await;
    seconds(10).await;
    let mut process = machine.start().await;
    // Nothing is stopped, and nothing is started twice, before the whole set is known.
    seconds(1).await;
    process.whole_set(vec![(key("short"), run("sleep 5")), (key("long"), run("sleep 60"))]).await;
    assert_eq!(process.end("short").await.cause, exited(0));
    assert_eq!(process.end("long").await.cause, exited(0));
    assert!(machine.engine.starts().values().all(|starts| *starts == 1));
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_time_neither_repeats_a_start_nor_loses_an_end() {
    for crash_ms in 0..40 {
        let machine = machine();
        let process = machine.start().await;
        let orders = || vec![(key("a"), run("exit 7"))];
        process.whole_set(orders()).await;
        tokio::time::sleep(Duration::from_millis(crash_ms)).await;
        process.crash().await;
        let mut process = machine.start().await;
        process.whole_set(orders()).await;
        assert_eq!(process.end("a").await.cause, exited(7), "crash after {crash_ms} ms");
        assert!(machine.engine.starts().values().all(|starts| *starts == 1), "crash after {crash_ms} ms");
        process.crash().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_exit_across_a_reboot_is_never_believed() {
    let mut machine = machine();
    let mut process = machine.start().await;
    process.start("a", run("sleep 600")).await;
    process.runs("a").await;
    process.crash().await;
    machine.engine.reboot(machine.clock.wall_ms(), 0);
    machine.boot_id = "boot-2".into();
    let mut process = machine.start().await;
    assert_eq!(process.end("a").await.cause, EndCause::ExecutorFault);
}

#[tokio::test(start_paused = true)]
async fn only_the_whole_set_can_make_a_container_unwanted() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", run("sleep 600")).await;
    process.start("b", run("sleep 600")).await;
    process.runs("a").await;
    process.runs("b").await;
    assert_ne!(process.snapshot.borrow().assigned_digest, 0);
    process.whole_set(vec![(key("b"), run("sleep 600"))]).await;
    seconds(1).await;
    assert_eq!(machine.engine.running(machine.clock.wall_ms()), [key("b")]);
    assert!(!process.snapshot.borrow().reports.contains_key(&key("a")), "nobody wants to hear of it");
    let only_b = assigned_digest(std::iter::once(&key("b")));
    assert_eq!(process.snapshot.borrow().assigned_digest, only_b);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_not_current_is_stopped() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", run("sleep 600")).await;
    process.runs("a").await;
    process.acknowledge("a", false, false).await;
    seconds(1).await;
    assert_eq!(machine.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_only_once_it_is_on_disk() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", run("sleep 1")).await;
    process.runs("a").await;
    machine.disk.set_full(true);
    seconds(30).await;
    assert!(!matches!(process.snapshot.borrow().reports.get(&key("a")), Some(Reportable::Ended(_))));
    machine.disk.set_full(false);
    assert_eq!(process.end("a").await.cause, exited(0));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_fails_no_job() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", run("sleep 5")).await;
    process.runs("a").await;
    machine.engine.set_broken(true);
    process.start("b", run("exit 2")).await;
    seconds(120).await;
    assert!(process.inventory().await.ended.is_empty());
    machine.engine.set_broken(false);
    assert_eq!(process.end("a").await.cause, exited(0));
    assert_eq!(process.end("b").await.cause, exited(2));
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_only_jobs_that_start_once_are_stopped() {
    let machine = machine();
    let mut process = machine.start().await;
    let once = || order(JobSpec { on_lost: OnLost::Fail, ..spec("sleep 600") });
    process.start("once", once()).await;
    process.start("many", run("sleep 600")).await;
    process.runs("once").await;
    process.runs("many").await;
    process.lease.send_replace(Lease { until: Instant::now() + Duration::from_secs(15), entitled: true });
    seconds(14).await;
    assert_eq!(machine.running(), 2);
    let end = process.end("once").await;
    assert_eq!(end.cause, EndCause::ExecutorFault);
    assert!(end.start_time_ms.is_some(), "it may have done its work");
    process.start("later", order(JobSpec { on_lost: OnLost::Fail, ..spec("true") })).await;
    seconds(30).await;
    assert_eq!(machine.engine.running(machine.clock.wall_ms()), [key("many")]);
    assert_eq!(machine.engine.starts().len(), 2, "nothing starts without a lease that may start only once");
    process.lease.send_replace(Lease { until: Instant::now() + LONG, entitled: true });
    assert_eq!(process.end("later").await.cause, exited(0));
}

#[tokio::test(start_paused = true)]
async fn containers_are_removed_after_their_time_and_ends_forgotten_after_theirs() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", run("echo hello")).await;
    process.end("a").await;
    process.acknowledge("a", true, true).await;
    seconds(100).await;
    assert_eq!(machine.engine.container_count(), 1);
    seconds(30).await;
    assert_eq!(machine.engine.container_count(), 0);
    assert_eq!(process.inventory().await.ended.len(), 1, "a cluster that lost it can be told again");
    seconds(3_600).await;
    let inventory = process.inventory().await;
    assert!(inventory.live.is_empty() && inventory.ended.is_empty());
    let logs = LogStore::new(machine.disk.clone(), LogLimits::default());
    assert!(logs.reader(&key("a"), 0, false).await.expect("readable").is_some(), "output stays");
}

#[tokio::test(start_paused = true)]
async fn an_end_of_before_the_restart_is_reported_and_its_container_removed() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", run("exit 4")).await;
    process.end("a").await;
    process.crash().await;
    let mut process = machine.start().await;
    assert_eq!(process.end("a").await.cause, exited(4));
    process.whole_set(vec![(key("a"), run("exit 4"))]).await;
    process.acknowledge("a", true, true).await;
    // A set that was made before the acknowledgement changes nothing.
    process.whole_set(vec![(key("a"), run("exit 4"))]).await;
    seconds(130).await;
    assert_eq!(machine.engine.container_count(), 0);
    assert_eq!(process.snapshot.borrow().assigned_digest, 0);
    assert!(machine.engine.starts().values().all(|starts| *starts == 1));
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let machine = machine();
        let mut process = machine.start().await;
        let begun_ms = machine.clock.wall_ms();
        for job in ["a", "b", "c", "d", "e", "f"] {
            process.start(job, run("sleep 2")).await;
        }
        let mut ends = Vec::new();
        for job in ["a", "b", "c", "d", "e", "f"] {
            let end = process.end(job).await;
            ends.push((end.start_time_ms.map(|ms| ms - begun_ms), end.end_time_ms - begun_ms));
        }
        runs.push(ends);
        process.crash().await;
    }
    assert_eq!(runs[0], runs[1]);
}
