//! What a process of the executor makes of what another one left.

use super::*;
use crate::logs::LogStore as Logs;

const HOLDER: &str = "it holds the name";

fn once(command: &str) -> Order {
    order(JobSpec { on_lost: OnLost::Fail, ..spec(command) })
}

fn lease(seconds: u64, entitled: bool) -> Lease {
    Lease { until: Instant::now() + Duration::from_secs(seconds), entitled }
}

impl Machine {
    /// Waits until it is on disk that an attempt was asked to stop; gives when that was.
    async fn asked_to_stop(&self, job: &str) -> Instant {
        let outbox = Outbox::new(self.disk.clone());
        loop {
            let found = outbox.load().await.expect("the outbox is readable");
            if found.stopping.iter().any(|stopping| stopping.attempt == key(job)) {
                return Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_never_had_the_name_only_looks() {
    let machine = machine();
    let mut holder = machine.start().await;
    holder.start("once", once("sleep 40")).await;
    holder.start("short", run("exit 3")).await;
    holder.runs("once").await;
    holder.end("short").await;
    // A copy of its folder, beside it on the same engine.
    let disk = Arc::new(MemoryDisk::new(machine.clock.clone()));
    let beside = Machine { disk: disk.clone(), engine: machine.engine.clone(), ..self::machine() };
    let beside = Machine { clock: machine.clock.clone(), ..beside };
    let mut copy = beside.start_with(lease(5, false)).await;
    copy.snapshot.wait_for(|shown| shown.containers_known).await.expect("the engine answers");
    seconds(30).await;
    assert_eq!(machine.running(), 1, "{HOLDER}");
    assert_eq!(machine.engine.container_count(), 2, "{HOLDER}");
    assert!(copy.inventory().await.ended.is_empty(), "it takes no note of ends either");
    assert_eq!(holder.end("once").await.cause, exited(0));
    // Once a scheduler gives it the name, what is left is its own.
    holder.crash().await;
    copy.lease.send_replace(lease(60, true));
    assert_eq!(copy.end("once").await.cause, exited(0));
    let kept = Logs::new(disk, LogLimits::default());
    assert!(kept.reader(&key("once"), 0, false).await.expect("readable").is_some(), "its output too");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_the_lease_counts_after_a_restart() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", once("sleep 600")).await;
    process.runs("a").await;
    process.crash().await;
    let mut process = machine.start_with(lease(100, true)).await;
    seconds(99).await;
    assert_eq!(machine.running(), 1);
    assert_eq!(process.end("a").await.cause, EndCause::ExecutorFault);
}

#[tokio::test(start_paused = true)]
async fn why_a_container_was_stopped_outlives_the_process() {
    let causes = [
        ("abort", EndCause::Aborted { code: Some(137) }),
        ("timeout", EndCause::RunTimeout { code: Some(137) }),
        ("lease", EndCause::ExecutorFault),
    ];
    for (why, expected) in causes {
        let machine = machine();
        let mut process = machine.start().await;
        let clocks = Clocks {
            stop_grace_ms: 4_000,
            run_timeout_ms: (why == "timeout").then_some(10_000),
            ..Clocks::default()
        };
        let on_lost = if why == "lease" { OnLost::Fail } else { OnLost::Retry };
        let stubborn = order(JobSpec { clocks, on_lost, ..spec("ignore-term 600") });
        process.start("a", stubborn.clone()).await;
        process.runs("a").await;
        match why {
            "abort" => process.abort("a", None).await,
            "lease" => {
                process.lease.send_replace(lease(0, true));
            }
            _ => {}
        }
        let asked = machine.asked_to_stop("a").await;
        process.crash().await;
        assert_eq!(machine.running(), 1, "{why}: it is in its grace");
        seconds(2).await;
        let mut process = machine.start().await;
        process.whole_set(vec![(key("a"), stubborn)]).await;
        assert_eq!(process.end("a").await.cause, expected, "{why}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{why}: the grace goes on where it was");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_under_way_is_shortened_by_a_shorter_grace_and_never_lengthened() {
    let machine = machine();
    let mut process = machine.start().await;
    let begun = Instant::now();
    process.start("a", run("ignore-term 600")).await;
    process.runs("a").await;
    process.abort("a", Some(60_000)).await;
    machine.asked_to_stop("a").await;
    process.abort("a", Some(1_000)).await;
    process.abort("a", Some(90_000)).await;
    assert_eq!(process.end("a").await.cause, EndCause::Aborted { code: Some(137) });
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_at_the_start_hinders_nobody_and_loses_nothing() {
    let machine = machine();
    let mut process = machine.start().await;
    process.start("a", run("sleep 30")).await;
    process.runs("a").await;
    process.crash().await;
    machine.engine.set_broken(true);
    let mut process = machine.start_with(lease(60, true)).await;
    let inventory = process.inventory().await;
    assert!(!inventory.containers_known, "it answers all the same, and says that it does not know");
    // A scheduler that was told so gives names and orders, never a whole set.
    process.start("b", run("exit 2")).await;
    seconds(10).await;
    machine.engine.set_broken(false);
    process.snapshot.wait_for(|shown| shown.containers_known).await.expect("the engine answers");
    process.runs("a").await;
    assert_eq!(process.end("b").await.cause, exited(2));
    process.whole_set(vec![(key("a"), run("sleep 30"))]).await;
    assert_eq!(process.end("a").await.cause, exited(0));
    assert!(machine.engine.starts().values().all(|starts| *starts == 1));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_a_machine_went_down_with_before_its_start_is_made_again() {
    let mut machine = machine();
    let process = machine.start().await;
    process.start("a", run("exit 6")).await;
    while machine.engine.container_count() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    machine.engine.set_broken(true);
    process.crash().await;
    seconds(1).await;
    machine.engine.set_broken(false);
    assert!(machine.engine.starts().is_empty(), "it is made and not started");
    machine.engine.reboot(machine.clock.wall_ms(), 0);
    machine.boot_id = "boot-2".into();
    let mut process = machine.start().await;
    process.whole_set(vec![(key("a"), run("exit 6"))]).await;
    assert_eq!(process.end("a").await.cause, exited(6), "and its exit is of this boot");
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_comes_before_the_order_has_the_orders_grace_and_cause() {
    let machine = machine();
    let mut process = machine.start().await;
    let patient = || {
        let clocks = Clocks { stop_grace_ms: 8_000, ..Clocks::default() };
        order(JobSpec { clocks, ..spec("ignore-term 600") })
    };
    process.start("a", patient()).await;
    process.runs("a").await;
    process.crash().await;
    let mut process = machine.start().await;
    let stops = vec![(key("a"), None)];
    let named = Orders { full_set: true, confirmed: vec![key("a")], stops, ..Orders::default() };
    process.orders(named).await;
    seconds(1).await;
    let asked = Instant::now();
    process.start("a", patient()).await;
    assert_eq!(process.end("a").await.cause, EndCause::Aborted { code: Some(137) });
    assert!(asked.elapsed() >= Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_started_since_the_whole_set_is_left_alone() {
    let machine = machine();
    let frozen = machine.start().await;
    frozen.whole_set(Vec::new()).await;
    let other = Machine {
        refusals: Arc::default(),
        engine: machine.engine.clone(),
        clock: machine.clock.clone(),
        disk: Arc::new(MemoryDisk::new(machine.clock.clone())),
        boot_id: machine.boot_id.clone(),
    };
    let mut holder = other.start().await;
    holder.start("once", once("sleep 60")).await;
    holder.start("many", run("sleep 60")).await;
    holder.runs("many").await;
    // Its lease is over, and it does not know yet that another one has the name.
    frozen.lease.send_replace(lease(0, true));
    seconds(30).await;
    assert_eq!(machine.running(), 2);
    frozen.lease.send_replace(lease(15, true));
    // One of before it was frozen may come as late as this.
    frozen.whole_set(Vec::new()).await;
    seconds(10).await;
    assert_eq!(machine.running(), 2);
    frozen.commands.send(Command::Registered).await.expect("it runs");
    seconds(1).await;
    assert_eq!(machine.running(), 2, "what is wanted is told next");
    frozen.whole_set(Vec::new()).await;
    seconds(10).await;
    assert_eq!(machine.running(), 0, "the name is its own again, and they are not wanted");
}

#[tokio::test(start_paused = true)]
async fn a_run_timeout_that_an_earlier_process_enforced_is_told_as_one() {
    let machine = machine();
    let mut process = machine.start().await;
    let clocks = Clocks { run_timeout_ms: Some(5_000), ..Clocks::default() };
    let timed = order(JobSpec { clocks, ..spec("sleep 600") });
    process.start("a", timed.clone()).await;
    process.runs("a").await;
    // The cause of the stop cannot be written down.
    machine.disk.set_full(true);
    while machine.running() > 0 {
        seconds(1).await;
    }
    process.crash().await;
    machine.disk.set_full(false);
    let mut process = machine.start().await;
    process.confirm(&["a"]).await;
    seconds(5).await;
    process.start("a", timed).await;
    assert_eq!(process.end("a").await.cause, EndCause::RunTimeout { code: Some(143) });
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_never_reached_the_engine_says_nothing_of_a_later_one() {
    let machine = machine();
    let mut process = machine.start().await;
    let clocks = Clocks { run_timeout_ms: Some(60_000), ..Clocks::default() };
    process.start("a", order(JobSpec { clocks, on_lost: OnLost::Fail, ..spec("sleep 600") })).await;
    process.runs("a").await;
    machine.engine.set_broken(true);
    process.lease.send_replace(lease(0, true));
    seconds(5).await;
    process.lease.send_replace(lease(600, true));
    machine.engine.set_broken(false);
    assert_eq!(process.end("a").await.cause, EndCause::RunTimeout { code: Some(143) });
}
