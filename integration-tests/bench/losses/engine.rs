//! A Docker Engine of the recipe's own that is killed, stopped, and stuck. It lives in a network namespace
//! of its own: the machine's engine, and its bridge, are left alone.

use std::process::Command;
use std::time::{Duration, Instant};

use berth_integration_tests::cluster::{Cluster, Place, id_of, job};
use berth_integration_tests::dockerd::Dockerd;
use berth_integration_tests::wait::{stays, until_within};
use serde_json::{Value, json};

use crate::Row;
use crate::support::{CLOCKS, SIZE, UNTIL_LET_GO, end_of, executor_is, held, patient, signal, with};

/// What happens to the engine itself.
pub const ROWS: &[Row] = &[
    Row::rooted(
        "dockerd-killed-live-restore",
        "kill -9 of a dockerd with --live-restore, started again",
        live_restore,
    ),
    Row::rooted("dockerd-killed", "kill -9 of a dockerd without --live-restore, started again", killed),
    Row::rooted("dockerd-hangs", "SIGSTOP of a dockerd for 20 s under running and waiting jobs", hangs),
    Row::rooted("container-stuck", "SIGSTOP of one container's shim while others start and end", stuck),
    Row::rooted("bridge-missing", "a job on a bridge, given to an engine that has none", no_bridge),
    Row::rooted("bridge-vanished", "the engine's bridge removed under it, then a job on it", vanished),
];

/// An executor on an engine.
fn executor(engine: &Dockerd, cluster: &mut Cluster, id: &str) {
    let host = engine.host();
    let place = Place { environment: &[("DOCKER_HOST", host.as_str())], ..Place::default() };
    cluster.add_executor_in(place, id, SIZE, &[]);
}

fn cluster_on(engine: &Dockerd) -> Cluster {
    let mut cluster = Cluster::start_with(&CLOCKS);
    executor(engine, &mut cluster, "executor-1");
    cluster
}

/// Submits a job and waits until it runs; gives its id and container.
fn running(cluster: &Cluster, engine: &Dockerd, body: &Value) -> (String, String) {
    let id = id_of(&cluster.submit(body));
    cluster.reaches(&id, &["RUNNING"]);
    let container = engine.container_of(&id);
    (id, container)
}

fn live_restore() -> String {
    let mut engine = Dockerd::start(&["--bridge", "none", "--live-restore"]);
    let cluster = cluster_on(&engine);
    let (fail, fail_box) = running(&cluster, &engine, &held("FAIL"));
    let (retry, retry_box) = running(&cluster, &engine, &held("RETRY"));
    engine.process.kill();
    executor_is(&cluster, "executor-1", "NOT_READY", Duration::from_secs(20));
    stays("no job is judged", Duration::from_secs(2), || {
        cluster.job(&fail)["state"] == "RUNNING" && cluster.job(&retry)["state"] == "RUNNING"
    });
    engine.again();
    executor_is(&cluster, "executor-1", "ACTIVE", Duration::from_secs(20));
    for (id, container) in [(&fail, &fail_box), (&retry, &retry_box)] {
        engine.let_go(container);
        assert_eq!(end_of(&cluster.ended(id)), ("FAILED".into(), 7, 1));
        assert_eq!(engine.starts_of(id), 1);
    }
    "NOT_READY, no job judged, ACTIVE again; both containers ran on to their 7, one start each".to_owned()
}

fn killed() -> String {
    let mut engine = Dockerd::start(&["--bridge", "none"]);
    let cluster = cluster_on(&engine);
    let line = format!("[ \"$BERTH_ATTEMPT\" != 1 ] && exit 8; {UNTIL_LET_GO}");
    let (fail, _) = running(&cluster, &engine, &with(job(&["sh", "-c", &line]), "FAIL"));
    let (retry, _) = running(&cluster, &engine, &with(job(&["sh", "-c", &line]), "RETRY"));
    engine.process.kill();
    executor_is(&cluster, "executor-1", "NOT_READY", Duration::from_secs(20));
    engine.again();
    executor_is(&cluster, "executor-1", "ACTIVE", Duration::from_secs(20));
    // Such an engine stops at its start what ran: the codes that it gives say nothing of the jobs.
    let again = cluster.ended(&retry);
    assert_eq!(end_of(&again), ("FAILED".into(), 8, 2), "an infrastructure retry: {again}");
    let once = cluster.ended(&fail);
    assert_eq!(
        (&once["state"], &once["endReason"], &once["attempt"]),
        (&json!("FAILED"), &json!("EXECUTOR_FAULT"), &json!(1)),
        "{once}"
    );
    format!("retry ran again and ended with its own 8; fail ended once: {}", once["message"])
}

fn hangs() -> String {
    let engine = Dockerd::start(&["--bridge", "none"]);
    let cluster = cluster_on(&engine);
    let (id, container) = running(&cluster, &engine, &held("FAIL"));
    engine.process.signal("STOP");
    let began = Instant::now();
    executor_is(&cluster, "executor-1", "NOT_READY", Duration::from_secs(20));
    let noticed = began.elapsed();
    let waiting = id_of(&cluster.submit(&patient(&["sh", "-c", "exit 5"])));
    stays("no job is judged and none is given", Duration::from_secs(20).saturating_sub(noticed), || {
        cluster.job(&id)["state"] == "RUNNING" && cluster.job(&waiting)["state"] == "PENDING"
    });
    engine.process.signal("CONT");
    executor_is(&cluster, "executor-1", "ACTIVE", Duration::from_secs(20));
    assert_eq!(cluster.ended(&waiting)["exitCode"], 5);
    engine.let_go(&container);
    assert_eq!(end_of(&cluster.ended(&id)), ("FAILED".into(), 7, 1));
    format!(
        "NOT_READY after {} ms; no job judged in 20 s; then all went on to their own ends",
        noticed.as_millis()
    )
}

fn parent_of(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("it has a parent");
    line.trim().parse().expect("a process id")
}

fn stuck() -> String {
    let engine = Dockerd::start(&["--bridge", "none"]);
    let cluster = cluster_on(&engine);
    let (stuck, container) = running(&cluster, &engine, &held("RETRY"));
    let shim = parent_of(engine.pid_of(&container));
    signal(shim, "STOP");
    crate::support::abort(&cluster, &stuck, json!({ "gracePeriod": "0s" }));
    let began = Instant::now();
    let others: Vec<String> =
        (0..6).map(|_| id_of(&cluster.submit(&patient(&["sh", "-c", "exit 5"])))).collect();
    let all = others.iter().all(|id| cluster.ended_within(Duration::from_secs(30), id)["exitCode"] == 5);
    let took = began.elapsed();
    let state = cluster.executor("executor-1")["state"].clone();
    signal(shim, "CONT");
    assert!(all, "the others end");
    assert_eq!(state, "ACTIVE", "one stuck container does not fail the node");
    assert_eq!(cluster.ended(&stuck)["state"], "ABORTED");
    format!(
        "six others ended with their 5 within {} ms; the executor stayed ACTIVE; the stuck one ended ABORTED",
        took.as_millis()
    )
}

/// A job on a bridge, on an engine that cannot give it one; gives what the job was told.
fn without_a_bridge(engine: &Dockerd) -> String {
    let mut cluster = cluster_on(engine);
    let mut body = patient(&["sh", "-c", "exit 5"]);
    body["network"] = json!("bridge");
    let id = id_of(&cluster.submit(&body));
    let told = until_within(Duration::from_secs(60), "the job says what is wrong", || {
        let job = cluster.job(&id);
        let message = job["message"].as_str().unwrap_or_default().to_owned();
        assert_ne!(job["endReason"], "EXIT_CODE", "never the job's own failure: {job}");
        (job["attempt"].as_i64() >= Some(1) && !message.is_empty()).then_some(message)
    });
    // The machine's engine has a bridge, or it could run no such job either.
    cluster.add_executor("executor-2", SIZE, &[]);
    let ended = cluster.ended_within(Duration::from_secs(90), &id);
    assert_eq!((&ended["exitCode"], &ended["executorId"]), (&json!(5), &json!("executor-2")), "{ended}");
    format!("an infrastructure retry ({told}); it ended with its 5 on an engine that has a bridge")
}

fn no_bridge() -> String {
    without_a_bridge(&Dockerd::start(&["--bridge", "none"]))
}

fn vanished() -> String {
    let engine = Dockerd::start(&["--bip", "172.30.0.1/24"]);
    let deleted = Command::new("ip").args(["-n", &engine.namespace, "link", "del", "docker0"]).status();
    assert!(deleted.expect("ip runs").success(), "the engine's bridge can be removed");
    without_a_bridge(&engine)
}
