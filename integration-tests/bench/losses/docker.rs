//! The machine's Docker Engine out of reach, and containers that do not behave.

use std::time::{Duration, Instant};

use berth_integration_tests::cluster::{Cluster, Place, id_of};
use berth_integration_tests::docker::is_running;
use berth_integration_tests::engine::EngineDoor;
use berth_integration_tests::wait::{stays, until, until_within};
use berth_integration_tests::{docker, tools};
use serde_json::{Value, json};

use crate::Row;
use crate::support::{CLOCKS, SIZE, abort, end_of, executor_is, held, let_go, patient};

/// What happens to the way to the engine, and in containers.
pub const ROWS: &[Row] = &[
    Row::new(
        "engine-out-of-reach",
        "the engine's socket closed under two running jobs, later opened",
        out_of_reach,
    ),
    Row::new(
        "container-ignores-term",
        "abort, with a grace of 2 s, of a container that ignores SIGTERM",
        ignores_term,
    ),
    Row::new(
        "container-out-of-memory",
        "more memory than the limit used in a child, and in the main process",
        out_of_memory,
    ),
    Row::new("log-flood", "`yes` for 5 s", log_flood),
    Row::new(
        "double-executors",
        "a second process of a name, a copied folder, and two executors on one engine",
        doubles,
    ),
];

fn out_of_reach() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    let place = tools::folder();
    let socket = place.path().join("docker.sock");
    let mut door = EngineDoor::open(&socket);
    let host = format!("unix://{}", socket.display());
    let place = Place { environment: &[("DOCKER_HOST", host.as_str())], ..Place::default() };
    cluster.add_executor_in(place, "executor-1", SIZE, &[]);
    let (first, first_box) = cluster.running(&held("RETRY"));
    let (second, second_box) = cluster.running(&held("FAIL"));
    door.close();
    executor_is(&cluster, "executor-1", "NOT_READY", Duration::from_secs(20));
    let waiting = id_of(&cluster.submit(&patient(&["sh", "-c", "exit 5"])));
    // It ends while nobody can see it.
    let_go(&first_box);
    until("it has ended", || (!is_running(&first_box)).then_some(()));
    stays("no job is judged", Duration::from_secs(5), || {
        cluster.job(&first)["state"] == "RUNNING"
            && cluster.job(&second)["state"] == "RUNNING"
            && cluster.job(&waiting)["state"] == "PENDING"
    });
    std::fs::remove_file(&socket).expect("the socket is there");
    door = EngineDoor::open(&socket);
    executor_is(&cluster, "executor-1", "ACTIVE", Duration::from_secs(20));
    assert_eq!(end_of(&cluster.ended(&first)), ("FAILED".into(), 7, 1));
    assert_eq!(cluster.ended(&waiting)["exitCode"], 5);
    assert!(is_running(&second_box));
    let_go(&second_box);
    assert_eq!(end_of(&cluster.ended(&second)), ("FAILED".into(), 7, 1));
    drop(door);
    "NOT_READY, no job judged, none given; then ACTIVE, and the end that nobody saw was told with its 7"
        .to_owned()
}

fn ignores_term() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", SIZE, &[]);
    let (id, container) =
        cluster.running(&patient(&["sh", "-c", "trap '' TERM; while true; do sleep 0.1; done"]));
    let began = Instant::now();
    abort(&cluster, &id, json!({ "gracePeriod": "2s" }));
    until_within(Duration::from_secs(10), "the container is gone", || {
        (!is_running(&container)).then_some(())
    });
    let gone = began.elapsed();
    assert!(gone < Duration::from_secs(4), "grace and 2 s: {gone:?}");
    assert!(gone > Duration::from_millis(1_900), "not before its grace: {gone:?}");
    assert_eq!(cluster.ended(&id)["state"], "ABORTED");
    format!("gone {} ms after the abort, ABORTED", gone.as_millis())
}

fn out_of_memory() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", SIZE, &[]);
    let child = id_of(&cluster.submit(&patient(&["sh", "-c", "berth-job alloc 200; exit 0"])));
    let main = id_of(&cluster.submit(&patient(&["berth-job", "alloc", "200"])));
    let (child, main) = (cluster.ended(&child), cluster.ended(&main));
    assert_eq!((&child["state"], &child["exitCode"]), (&json!("SUCCEEDED"), &json!(0)), "{child}");
    assert_eq!((&main["state"], &main["endReason"]), (&json!("FAILED"), &json!("OOM_KILLED")), "{main}");
    format!("in a child SUCCEEDED by its exit code 0; in the main process OOM_KILLED: {}", main["message"])
}

fn size_of(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => size_of(&entry.path()),
        Ok(about) => about.len(),
        // Removed meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}

fn log_flood() -> String {
    const MOST: u64 = 80 << 20;
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", SIZE, &[]);
    let line = "yes flood-flood-flood-flood-flood-flood-flood-flood & sleep 5; kill $!; exit 3";
    let id = id_of(&cluster.submit(&patient(&["sh", "-c", line])));
    cluster.reaches(&id, &["RUNNING"]);
    let container = docker::containers_of(&id).pop().expect("it runs");
    let other = id_of(&cluster.submit(&patient(&["sh", "-c", "exit 5"])));
    assert_eq!(cluster.ended(&other)["exitCode"], 5, "others go on meanwhile");
    let ended = cluster.ended(&id);
    assert_eq!(end_of(&ended), ("FAILED".into(), 3, 1));
    let kept = size_of(cluster.executors[0].folder());
    assert!(kept < MOST, "{kept} bytes in the executor's folder");
    let log = docker::inspect(&container)["HostConfig"]["LogConfig"]["Config"].clone();
    assert!(log["max-size"].is_string() && log["max-file"].is_string(), "the engine's copy is capped: {log}");
    format!("its own 3; {} MiB kept by the executor, at most {log} by the engine", kept >> 20)
}

fn doubles() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", SIZE, &[]);
    cluster.add_executor("executor-2", SIZE, &[]);
    let mut ids: Vec<Value> = Vec::new();
    // Two jobs of this size fill an executor.
    let mut body = held("FAIL");
    body["cpus"] = json!(2);
    let jobs: Vec<(String, String)> = (0..4).map(|_| cluster.running(&body)).collect();
    let mut double = cluster.executor_in(Place::default(), "executor-1", SIZE, &[]);
    let refused = double.process.line_with("is already connected from");
    assert!(!refused.contains("on the same data folder"), "{refused}");
    let copy = tools::folder();
    let copied = std::process::Command::new("cp")
        .args(["-r", &format!("{}/.", cluster.executors[0].folder().display())])
        .arg(copy.path())
        .status();
    assert!(copied.expect("cp runs").success());
    let place = Place { folder: Some(copy.path()), ..Place::default() };
    let mut cloned = cluster.executor_in(place, "executor-1", SIZE, &[]);
    let told = cloned.process.line_with("is already connected from");
    assert!(told.contains("on the same data folder, or on a copy of it"), "{told}");
    cluster.restart_executor(1);
    stays("nobody touches what is another's", Duration::from_secs(3), || {
        jobs.iter().all(|(_, c)| is_running(c))
    });
    for (id, container) in &jobs {
        let_go(container);
        let ended = cluster.ended(id);
        assert_eq!(end_of(&ended), ("FAILED".into(), 7, 1));
        ids.push(ended["executorId"].clone());
    }
    ids.sort_by_key(Value::to_string);
    ids.dedup();
    assert_eq!(ids, [json!("executor-1"), json!("executor-2")]);
    format!(
        "both refused with what to do; the jobs of {} executors on one engine ran on to their 7",
        ids.len()
    )
}
