//! What an executor's process makes of what another one left: leases, stops, an engine that is away, and
//! the containers of somebody else.

use std::process::Command;
use std::time::Duration;

use berth_integration_tests::cluster::{Cluster, Place, id_of, job};
use berth_integration_tests::docker::is_running;
use berth_integration_tests::process::Process;
use berth_integration_tests::wait::{stays, until};
use berth_integration_tests::{docker, tools};
use serde_json::{Value, json};

/// Clocks at which verdicts come in seconds.
const CLOCKS: [&str; 6] = ["--heartbeat-interval", "1s", "--lease", "3s", "--lost-after", "13s"];
/// Runs until it is let go, then exits with 7; ends with 0 when it is asked to stop.
const POLITE: &str = "trap 'exit 0' TERM; while ! [ -e /tmp/go ]; do sleep 0.1; done; exit 7";
/// Runs until it is killed on its first attempt, and ends with 8 on a later one.
const DEAF: &str = "[ \"$BERTH_ATTEMPT\" != 1 ] && exit 8; trap '' TERM; while true; do sleep 0.1; done";

fn with(line: &str, more: Value) -> Value {
    let mut wanted = job(&["sh", "-c", line]);
    let (Some(wanted_fields), Some(more)) = (wanted.as_object_mut(), more.as_object()) else {
        panic!("a job is an object");
    };
    wanted_fields.extend(more.clone());
    wanted
}

#[test]
fn a_second_process_of_a_name_touches_nothing_of_the_first() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", crate::MEDIUM, &["--cleanup-after", "1s"]);
    let (once, container) = cluster.running(&with(POLITE, json!({ "onLost": "ON_LOST_FAIL" })));
    let mut twin =
        cluster.executor_in(Place::default(), "executor-1", crate::MEDIUM, &["--cleanup-after", "0s"]);
    twin.process.line_with("is already connected from");
    let ended = cluster.shell("exit 3");
    assert_eq!(cluster.ended(&ended)["exitCode"], 3);
    // Longer than a process without a lease has.
    stays("the job runs", Duration::from_secs(7), || {
        is_running(&container) && cluster.job(&once)["state"] == "RUNNING"
    });
    docker::let_go(&container);
    let job = cluster.ended(&once);
    assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(7), &json!(1)), "{job}");
    assert_eq!(twin.process.stop(), Some(0));
}

#[test]
fn a_planned_restart_that_finds_no_scheduler_keeps_jobs_that_may_start_only_once() {
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    let (once, container) = cluster.running(&with(POLITE, json!({ "onLost": "ON_LOST_FAIL" })));
    assert_eq!(cluster.executors[0].process.stop(), Some(0));
    cluster.scheduler.process.stop();
    cluster.start_executor(0);
    cluster.executors[0].process.line_with("not registered");
    stays("the job runs", Duration::from_secs(8), || is_running(&container));
    cluster.restart_scheduler(&CLOCKS);
    cluster.executors[0].process.line("ready role=executor");
    docker::let_go(&container);
    let job = cluster.ended(&once);
    assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(7), &json!(1)), "{job}");
}

#[test]
fn why_a_container_is_stopped_outlives_the_executors_process() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    let grace = json!({ "stopGrace": "4s" });
    let aborted = id_of(&cluster.submit(&with(DEAF, grace.clone())));
    let timed = json!({ "stopGrace": "4s", "runTimeout": "2s" });
    let timed = id_of(&cluster.submit(&with(DEAF, timed)));
    let drained = id_of(&cluster.submit(&with(DEAF, grace)));
    for id in [&aborted, &timed, &drained] {
        cluster.reaches(id, &["RUNNING"]);
    }
    cluster.executors[0].process.line_with("cause=RunTimeout");
    let mut abort = Command::new(tools::berth());
    abort.args(["abort", &aborted]).env("BERTH_ADDR", &cluster.scheduler.grpc);
    let _abort = Process::start("berth abort", &mut abort);
    cluster.berth_ok(&["drain", "--detach", "--deadline", "100ms", "executor-1"]);
    cluster.executors[0].process.line_with("cause=Abort");
    cluster.executors[0].process.line_with("cause=Abort");
    let stopping = [&aborted, &timed, &drained].map(|id| docker::containers_of(id)[0].clone());
    assert!(stopping.iter().any(|container| is_running(container)), "they are in their grace");
    cluster.restart_executor(0);
    let job = cluster.ended(&aborted);
    assert_eq!((&job["state"], &job["endReason"]), (&json!("ABORTED"), &json!("ABORTED_BY_USER")), "{job}");
    let job = cluster.ended(&timed);
    assert_eq!((&job["state"], &job["endReason"]), (&json!("FAILED"), &json!("RUN_TIMEOUT")), "{job}");
    cluster.reaches(&drained, &["PENDING"]);
    cluster.berth_ok(&["resume", "executor-1"]);
    let job = cluster.ended(&drained);
    assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(8), &json!(2)), "{job}");
}

#[test]
fn a_stop_that_was_asked_for_while_the_executor_was_away_leaves_the_jobs_grace() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    let tidy = "trap 'sleep 1; exit 5' TERM; while true; do sleep 0.1; done";
    let (id, _) = cluster.running(&with(tidy, json!({})));
    assert_eq!(cluster.executors[0].process.stop(), Some(0));
    let mut abort = Command::new(tools::berth());
    abort.args(["abort", &id]).env("BERTH_ADDR", &cluster.scheduler.grpc);
    let mut abort = Process::start("berth abort", &mut abort);
    until("it is to be aborted", || (cluster.job(&id)["abortRequested"] == true).then_some(()));
    cluster.restart_executor(0);
    let job = cluster.ended(&id);
    assert_eq!((&job["state"], &job["exitCode"]), (&json!("ABORTED"), &json!(5)), "{job}");
    assert_eq!(abort.ended(Duration::from_secs(30)), Some(0), "{}", abort.output());
}

#[test]
fn an_executor_whose_engine_is_away_at_its_start_is_not_lost_and_takes_up_its_jobs() {
    let mut cluster = Cluster::start_with(&CLOCKS);
    let sockets = tools::folder();
    let socket = sockets.path().join("docker.sock");
    let link = || std::os::unix::fs::symlink("/var/run/docker.sock", &socket).expect("a link can be made");
    link();
    let host = format!("unix://{}", socket.display());
    let environment = [("DOCKER_HOST", host.as_str())];
    let place = Place { environment: &environment, ..Place::default() };
    cluster.add_executor_in(place, "executor-1", crate::MEDIUM, &[]);
    let (id, container) = cluster.running(&with(POLITE, json!({})));
    std::fs::remove_file(&socket).expect("it is there");
    cluster.restart_executor(0);
    // A verdict would have come.
    stays("no verdict is given", Duration::from_secs(15), || {
        cluster.executor("executor-1")["state"] == "NOT_READY" && cluster.job(&id)["state"] == "RUNNING"
    });
    link();
    until("it takes jobs again", || (cluster.executor("executor-1")["state"] == "ACTIVE").then_some(()));
    docker::let_go(&container);
    let job = cluster.ended(&id);
    assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(7), &json!(1)), "{job}");
}

#[test]
fn an_abort_with_a_shorter_grace_shortens_the_stop_under_way() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    let (id, _) = cluster.running(&with(DEAF, json!({ "stopGrace": "600s" })));
    let mut patient = Command::new(tools::berth());
    patient.args(["abort", &id]).env("BERTH_ADDR", &cluster.scheduler.grpc);
    let mut patient = Process::start("berth abort", &mut patient);
    cluster.executors[0].process.line_with("cause=Abort");
    assert!(cluster.berth_ok(&["abort", &id, "--grace", "0s"]).contains("ABORTED"));
    assert_eq!(cluster.job(&id)["exitCode"], 137);
    assert_eq!(patient.ended(Duration::from_secs(30)), Some(0), "{}", patient.output());
}

#[test]
fn a_drain_outlives_a_verdict_and_a_second_one_keeps_its_deadline() {
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    let (running, container) = cluster.running(&with(POLITE, json!({})));
    cluster.berth_ok(&["drain", "--detach", "--deadline", "1h", "executor-1"]);
    cluster.berth_ok(&["drain", "--detach", "executor-1"]);
    assert_ne!(cluster.executor("executor-1")["drainDeadline"], json!(null), "it has the deadline still");
    docker::let_go(&container);
    cluster.ended(&running);
    let seen = cluster.executor("executor-1")["heartbeatTime"].clone();
    cluster.executors[0].process.kill();
    until("it is lost", || (cluster.executor("executor-1")["state"] == "LOST").then_some(()));
    let lost = cluster.executor("executor-1");
    assert!(lost["heartbeatTime"].as_str() >= seen.as_str(), "it was heard of last when it was: {lost}");
    let told = cluster.berth(&["drain", "executor-1"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("drained once it is back"), "{told:?}");
    let mut waiting = job(&["true"]);
    waiting["queueTimeout"] = json!("0s");
    let waiting = id_of(&cluster.submit(&waiting));
    cluster.restart_executor(0);
    assert_eq!(cluster.executor("executor-1")["state"], "DRAINED");
    let pending = cluster.job(&waiting);
    let why = pending["pendingReason"]["message"].as_str().expect("it waits").to_owned();
    assert_eq!(why, "Fits 1 executor, which takes no jobs now; 0 jobs ahead.");
    cluster.berth_ok(&["resume", "executor-1"]);
    assert_eq!(cluster.ended(&waiting)["state"], "SUCCEEDED");
}

#[test]
fn a_fenced_executor_that_lives_returns_without_its_jobs() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    let ids: Vec<String> = (0..3).map(|_| cluster.shell(DEAF)).collect();
    for id in ids.iter().take(2) {
        cluster.reaches(id, &["RUNNING"]);
    }
    cluster.add_executor("executor-2", crate::MEDIUM, &[]);
    cluster.berth_ok(&["fence", "executor-1"]);
    for id in &ids {
        let job = cluster.ended(id);
        assert_eq!(job["exitCode"], 8, "{job}");
    }
    until("it is back", || (cluster.executor("executor-1")["state"] == "ACTIVE").then_some(()));
    let containers = || ids.iter().flat_map(|id| docker::containers_of(id));
    until("nothing of them runs on", || (!containers().any(|one| is_running(&one))).then_some(()));
}
