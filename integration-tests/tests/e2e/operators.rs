//! What operators do to executors, and what executors say of themselves.

use std::process::Command;
use std::time::Duration;

use berth_integration_tests::cluster::{Cluster, id_of, job};
use berth_integration_tests::process::Process;
use berth_integration_tests::wait::{stays, until};
use berth_integration_tests::{docker, http, tools};
use serde_json::{Value, json};

/// Runs until it is let go, then exits with 7; SIGTERM ends it with 143.
const UNTIL_LET_GO: &str = "trap 'exit 143' TERM; while ! [ -e /tmp/go ]; do sleep 0.1; done; exit 7";

/// A job that runs until it is let go on its first attempt, and ends with 8 on a later one.
fn twice(on_lost: &str) -> Value {
    let line = format!("[ \"$BERTH_ATTEMPT\" != 1 ] && exit 8; {UNTIL_LET_GO}");
    let mut job = job(&["sh", "-c", &line]);
    job["onLost"] = json!(on_lost);
    job
}

fn waits_in(cluster: &Cluster, id: &str, state: &str) {
    until(&format!("{id} is {state}"), || (cluster.executor(id)["state"] == state).then_some(()));
}

#[test]
fn a_drained_executor_finishes_its_jobs_and_gets_no_new_ones_until_it_is_resumed() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    let running = cluster.shell(UNTIL_LET_GO);
    cluster.reaches(&running, &["RUNNING"]);
    let mut drain = Command::new(tools::berth());
    drain.args(["drain", "executor-1", "--reason", "a new disk"]).env("BERTH_ADDR", &cluster.scheduler.grpc);
    let mut drain = Process::start("berth drain", &mut drain);
    assert_eq!(drain.line_with("takes no new"), "berth: executor-1 takes no new jobs; 1 job is left");
    assert_eq!(cluster.executor("executor-1")["state"], "DRAINING");
    let mut waiting = job(&["true"]);
    waiting["queueTimeout"] = json!("0s");
    let waiting = id_of(&cluster.submit(&waiting));
    docker::let_go(&docker::containers_of(&running)[0]);
    assert_eq!(drain.ended(Duration::from_secs(30)), Some(0), "{}", drain.output());
    assert!(drain.output().contains("executor-1 DRAINED"), "{}", drain.output());
    assert_eq!(cluster.job(&running)["exitCode"], 7, "it was left to end by itself");
    assert_eq!(cluster.job(&waiting)["state"], "PENDING");
    // A drain outlives the executor's process.
    cluster.restart_executor(0);
    assert_eq!(cluster.executor("executor-1")["state"], "DRAINED");
    assert_eq!(cluster.job(&waiting)["state"], "PENDING");
    assert_eq!(cluster.berth_ok(&["resume", "executor-1"]), "executor-1 ACTIVE\n");
    assert_eq!(cluster.ended(&waiting)["state"], "SUCCEEDED");
}

#[test]
fn at_the_deadline_of_a_drain_jobs_are_stopped_and_run_elsewhere() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    let ids: Vec<String> = ["ON_LOST_RETRY", "ON_LOST_HOLD", "ON_LOST_FAIL"]
        .iter()
        .map(|kind| id_of(&cluster.submit(&twice(kind))))
        .collect();
    for id in &ids {
        cluster.reaches(id, &["RUNNING"]);
    }
    cluster.add_executor("executor-2", crate::MEDIUM, &[]);
    let body = json!({ "deadline": "1s" });
    let drained = http::post(&cluster.scheduler.http, "/v1/executors/executor-1:drain", &body);
    assert_eq!(drained["executor"]["state"], "DRAINING", "{drained}");
    for id in &ids[..2] {
        let ended = cluster.ended(id);
        assert_eq!(
            (&ended["exitCode"], &ended["executorId"], &ended["attempt"]),
            (&json!(8), &json!("executor-2"), &json!(2)),
            "{ended}"
        );
        assert_eq!(docker::containers_of(id).len(), 2, "the first was stopped before the second began");
    }
    let once = cluster.ended(&ids[2]);
    assert_eq!((&once["state"], &once["attempt"]), (&json!("FAILED"), &json!(1)), "{once}");
    waits_in(&cluster, "executor-1", "DRAINED");
}

#[test]
fn a_job_on_hold_waits_for_its_lost_executor_until_that_is_fenced() {
    let clocks = ["--heartbeat-interval", "1s", "--lease", "3s", "--lost-after", "13s"];
    let mut cluster = Cluster::start_with(&clocks);
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    let id = id_of(&cluster.submit(&twice("ON_LOST_HOLD")));
    cluster.reaches(&id, &["RUNNING"]);
    cluster.add_executor("executor-2", crate::MEDIUM, &[]);
    cluster.executors[0].process.kill();
    waits_in(&cluster, "executor-1", "LOST");
    assert_eq!(cluster.job(&id)["state"], "RUNNING", "it may still run there");
    assert_eq!(
        cluster.berth_ok(&["fence", "executor-1", "--reason", "its plug is pulled"]),
        "executor-1 LOST\n"
    );
    let ended = cluster.ended(&id);
    assert_eq!((&ended["exitCode"], &ended["executorId"]), (&json!(8), &json!("executor-2")), "{ended}");
    let unknown = cluster.berth(&["fence", "executor-9"]);
    assert_eq!(unknown.status.code(), Some(3), "{}", String::from_utf8_lossy(&unknown.stderr));
}

#[test]
fn an_executor_that_stops_by_plan_gets_no_jobs_and_keeps_those_it_has() {
    let clocks = ["--heartbeat-interval", "1s", "--lease", "3s", "--lost-after", "13s"];
    let mut cluster = Cluster::start_with(&clocks);
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    let id = cluster.shell(UNTIL_LET_GO);
    cluster.reaches(&id, &["RUNNING"]);
    assert_eq!(cluster.executors[0].process.stop(), Some(0));
    waits_in(&cluster, "executor-1", "NOT_READY");
    let mut waiting = job(&["true"]);
    waiting["queueTimeout"] = json!("0s");
    let waiting = id_of(&cluster.submit(&waiting));
    // Longer than the verdict would take without the announcement.
    stays("no verdict is given, and no job", Duration::from_secs(16), || {
        cluster.executor("executor-1")["state"] == "NOT_READY" && cluster.job(&waiting)["state"] == "PENDING"
    });
    docker::let_go(&docker::containers_of(&id)[0]);
    cluster.restart_executor(0);
    let ended = cluster.ended(&id);
    assert_eq!((&ended["exitCode"], &ended["attempt"]), (&json!(7), &json!(1)), "{ended}");
    assert_eq!(cluster.ended(&waiting)["state"], "SUCCEEDED");
}

#[test]
fn a_copy_of_a_data_folder_does_not_take_the_place_of_its_original() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    let copy = tools::folder();
    let copied = Command::new("cp")
        .args(["-r", &format!("{}/.", cluster.executors[0].folder().display())])
        .arg(copy.path())
        .status()
        .expect("cp runs");
    assert!(copied.success());
    let other = cluster.another_scheduler("scheduler-2", &[]);
    let mut command = Command::new(tools::berth());
    command
        .args(["executor", "--cluster", &cluster.name, "--schedulers", &other.grpc])
        .args(["--data-dir", &copy.path().display().to_string()])
        .env("EXECUTOR_ID", "executor-1");
    let mut double = Process::start("double", &mut command);
    let refused = double.line_with("is already connected from");
    assert!(refused.contains("on the same data folder, or on a copy of it"), "{refused}");
    let id = cluster.shell("exit 7");
    assert_eq!(cluster.ended(&id)["exitCode"], 7, "the original goes on");
    assert_eq!(double.stop(), Some(0));
    // The original may return at once, its own stream being closed.
    cluster.restart_executor(0);
}
