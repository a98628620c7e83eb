//! Executors that are cut off, lost, and back.

use std::time::{Duration, Instant};

use berth_integration_tests::cluster::{Cluster, id_of};
use berth_integration_tests::docker;
use berth_integration_tests::docker::is_running;
use berth_integration_tests::door::Door;
use berth_integration_tests::wait::{stays, until, until_within};
use serde_json::Value;

use crate::Row;
use crate::support::{
    CLOCKS, LOST_AFTER, SIZE, end_of, executor_is, executor_state, held, let_go, patient, stopped_within,
    twice,
};

/// What happens to executors and to the network between them and the schedulers.
pub const ROWS: &[Row] = &[
    Row::new(
        "executor-cut-off-fenced",
        "every way to the schedulers stalled; a fail, a hold and a retry job run there; opened after the verdict",
        cut_off,
    ),
    Row::new(
        "executor-killed",
        "kill -9 of an executor whose containers live on; later started again",
        killed,
    ),
    Row::new(
        "executor-moves",
        "the way to its replica cut, stalled both ways, up only, down only, while the other replica is there",
        moves,
    ),
    Row::new("many-lost-freeze", "kill -9 of three of four executors at once; two are started again", freeze),
];

fn two_executors(cluster: &mut Cluster, addresses: &str) {
    cluster.add_executor_at(addresses, "executor-1", SIZE, &[]);
}

fn cut_off() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    let second = cluster.another_scheduler("scheduler-2", &CLOCKS);
    let doors = [Door::before(&cluster.scheduler.grpc), Door::before(&second.grpc)];
    two_executors(&mut cluster, &format!("{},{}", doors[0].address(), doors[1].address()));
    let (fail, fail_box) = cluster.running(&twice("FAIL"));
    let (hold, hold_box) = cluster.running(&twice("HOLD"));
    let (retry, retry_box) = cluster.running(&twice("RETRY"));
    cluster.add_executor("executor-2", SIZE, &[]);
    let began = Instant::now();
    for door in &doors {
        door.hold(true, true);
    }
    let fenced =
        stopped_within(LOST_AFTER, "the fail job's container is stopped by its own executor", &fail_box);
    assert_ne!(cluster.executor("executor-1")["state"], "LOST", "before the verdict");
    assert_eq!(cluster.job(&fail)["state"], "RUNNING");
    executor_is(&cluster, "executor-1", "LOST", LOST_AFTER * 2);
    let verdict = began.elapsed();
    assert_eq!(end_of(&cluster.ended(&fail)).0, "FAILED");
    let moved = cluster.ended(&retry);
    assert_eq!((end_of(&moved), &moved["executorId"]), (("FAILED".into(), 8, 2), &Value::from("executor-2")));
    let elsewhere = began.elapsed();
    assert!(is_running(&hold_box) && is_running(&retry_box), "they run on");
    assert_eq!(cluster.job(&hold)["state"], "RUNNING", "it waits for its executor");
    // The old attempt of the retry job ends late, with another code, while nobody hears of it.
    let_go(&retry_box);
    let_go(&hold_box);
    until("both have ended", || (!is_running(&hold_box) && !is_running(&retry_box)).then_some(()));
    for door in &doors {
        door.open();
    }
    assert_eq!(end_of(&cluster.ended(&hold)), ("FAILED".into(), 7, 1), "its own exit code");
    executor_is(&cluster, "executor-1", "ACTIVE", LOST_AFTER);
    assert_eq!(end_of(&cluster.job(&retry)), ("FAILED".into(), 8, 2), "a late end changes nothing");
    assert_eq!(
        (end_of(&cluster.job(&fail)).2, docker::containers_of(&fail).len()),
        (1, 1),
        "one start, ever"
    );
    format!(
        "fail fenced after {} ms, verdict after {} ms, retry ran elsewhere by {} ms; hold ran on and told its 7; \
         the late 7 of the old attempt changed nothing",
        fenced.as_millis(),
        verdict.as_millis(),
        elsewhere.as_millis()
    )
}

fn killed() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", SIZE, &[]);
    let (fail, fail_box) = cluster.running(&twice("FAIL"));
    let (hold, hold_box) = cluster.running(&twice("HOLD"));
    let (retry, retry_box) = cluster.running(&twice("RETRY"));
    cluster.add_executor("executor-2", SIZE, &[]);
    cluster.executors[0].process.kill();
    let killed = jiff::Timestamp::now();
    let moved = cluster.ended(&retry);
    let started: jiff::Timestamp = moved["startTime"].as_str().expect("it ran").parse().expect("a time");
    let elsewhere = Duration::try_from(started.duration_since(killed)).expect("after the kill");
    assert_eq!((end_of(&moved), &moved["executorId"]), (("FAILED".into(), 8, 2), &Value::from("executor-2")));
    assert!(elsewhere < LOST_AFTER + Duration::from_secs(3), "elsewhere only after {elsewhere:?}");
    let failed = cluster.ended(&fail);
    assert_eq!((end_of(&failed).0, end_of(&failed).2), ("FAILED".into(), 1));
    assert_eq!(cluster.job(&hold)["state"], "RUNNING", "it waits for its executor");
    assert!(
        [&fail_box, &hold_box, &retry_box].iter().all(|container| is_running(container)),
        "nobody stops them"
    );
    cluster.restart_executor(0);
    for container in [&fail_box, &retry_box] {
        stopped_within(LOST_AFTER, "what is superseded is stopped once its executor is back", container);
    }
    assert!(is_running(&hold_box), "the hold job runs on");
    let_go(&hold_box);
    assert_eq!(end_of(&cluster.ended(&hold)), ("FAILED".into(), 7, 1));
    assert_eq!(
        (end_of(&cluster.job(&retry)), cluster.job(&fail)["state"].clone()),
        (end_of(&moved), failed["state"].clone())
    );
    format!(
        "retry ran elsewhere {} ms after the kill; fail FAILED with {}; hold waited and told its 7; superseded \
         containers stopped on return",
        elsewhere.as_millis(),
        failed["endReason"].as_str().unwrap_or_default()
    )
}

/// The door that an executor's heartbeats go through.
fn used(doors: &[Door; 2]) -> usize {
    let before = [doors[0].carried(), doors[1].carried()];
    until("heartbeats go through one of the doors", || {
        let now = [doors[0].carried(), doors[1].carried()];
        match (now[0] > before[0] + 1, now[1] > before[1] + 1) {
            (true, false) => Some(0),
            (false, true) => Some(1),
            (_, _) => None,
        }
    })
}

/// Clocks with room between the deadline of a heartbeat's answer, 3 s, and the end of the lease.
const ROOMY: [&str; 6] = ["--heartbeat-interval", "1s", "--lease", "15s", "--lost-after", "30s"];

fn moves() -> String {
    let mut cluster = Cluster::start_with(&ROOMY);
    let second = cluster.another_scheduler("scheduler-2", &ROOMY);
    let doors = [Door::before(&cluster.scheduler.grpc), Door::before(&second.grpc)];
    two_executors(&mut cluster, &format!("{},{}", doors[0].address(), doors[1].address()));
    let (id, container) = cluster.running(&held("FAIL"));
    let mut took = Vec::new();
    for (name, up, down) in
        [("cut", false, false), ("both", true, true), ("up", true, false), ("down", false, true)]
    {
        let from = used(&doors);
        if name == "cut" {
            doors[from].cut()
        } else {
            doors[from].hold(up, down)
        }
        let began = Instant::now();
        let before = doors[1 - from].carried();
        until_within(Duration::from_secs(15), &format!("it moves to the other replica ({name})"), || {
            assert_ne!(
                executor_state(&cluster.scheduler.http, "executor-1").as_deref(),
                Some("LOST"),
                "{name}"
            );
            (doors[1 - from].carried() > before + 4).then_some(())
        });
        took.push(format!("{name} {} ms", began.elapsed().as_millis()));
        let next = id_of(&cluster.submit(&patient(&["sh", "-c", "exit 5"])));
        assert_eq!(cluster.ended(&next)["exitCode"], 5, "it works there ({name})");
        doors[from].open();
    }
    assert!(is_running(&container), "containers run on");
    let_go(&container);
    assert_eq!(end_of(&cluster.ended(&id)), ("FAILED".into(), 7, 1));
    format!("moved after {}; never LOST; a fail job ran through all of it to its own 7", took.join(", "))
}

fn freeze() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    for index in 1..=4 {
        cluster.add_executor(&format!("executor-{index}"), SIZE, &["--runtime", "simulated"]);
    }
    // A new leader says nothing for as long; only then are verdicts at stake.
    until("the leader may judge", {
        let began = Instant::now();
        move || (began.elapsed() > LOST_AFTER).then_some(())
    });
    for executor in &mut cluster.executors[..3] {
        executor.process.kill();
    }
    let states = |cluster: &Cluster| {
        (1..=4)
            .filter_map(|n| executor_state(&cluster.scheduler.http, &format!("executor-{n}")))
            .collect::<Vec<_>>()
    };
    stays("no executor is LOST", LOST_AFTER + Duration::from_secs(7), || {
        let states = states(&cluster);
        states.len() == 4 && !states.iter().any(|state| state == "LOST")
    });
    let alarm = cluster.scheduler.process.line_with("verdicts are frozen");
    assert!(alarm.contains("ERROR"), "an error: {alarm}");
    cluster.restart_executor(0);
    cluster.restart_executor(1);
    let began = Instant::now();
    executor_is(&cluster, "executor-3", "LOST", LOST_AFTER);
    let spoken = began.elapsed();
    assert_eq!(executor_state(&cluster.scheduler.http, "executor-1").as_deref(), Some("ACTIVE"));
    format!(
        "no verdict for lost_after and 7 s, an error in the log; with two back the third was LOST after {} ms",
        spoken.as_millis()
    )
}
