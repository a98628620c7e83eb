//! What is said of jobs that wait, and of jobs that are not written as they should be.

use std::process::Command;

use berth_integration_tests::cluster::{Cluster, id_of};
use berth_integration_tests::process::Process;
use berth_integration_tests::wait::until;
use berth_integration_tests::{http, tools};
use serde_json::{Value, json};

use crate::golden::check;
use crate::{simulated, stderr};

fn sized(cpus: u32, command: &[&str]) -> Value {
    json!({ "image": "simulated", "command": command, "cpus": cpus, "queueTimeout": 0 })
}

fn why(cluster: &Cluster, id: &str, code: &str) -> String {
    let waits = |job: &Value| job["pendingReason"]["code"] == code;
    let job = until(&format!("the job waits as {code}"), || Some(cluster.job(id)).filter(waits));
    job["pendingReason"]["message"].as_str().expect("it has a message").to_owned()
}

#[test]
fn a_job_too_large_for_every_executor_is_told_what_there_is() {
    let mut cluster = Cluster::start();
    simulated(&mut cluster, "executor-1", "8");
    simulated(&mut cluster, "executor-2", "4");
    let mut body = sized(64, &["true"]);
    body["queueTimeout"] = Value::Null;
    let id = id_of(&cluster.submit(&body));
    check("impossible", &why(&cluster, &id, "TOO_LARGE"), &[]);
    let mut command = Command::new(tools::berth());
    command.args(["--addr", &cluster.scheduler.grpc, "run", "--cpus", "64", "simulated", "true"]);
    let mut run = Process::start("berth run", &mut command);
    check("impossible_run", &run.line_with("largest executor"), &[]);
}

#[test]
fn a_job_that_waits_for_room_is_told_how_many_are_ahead() {
    let mut cluster = Cluster::start();
    for id in ["executor-1", "executor-2", "executor-3"] {
        simulated(&mut cluster, id, "1");
        // Each takes its job before the next one joins.
        let id = id_of(&cluster.submit(&sized(1, &["sleep", "300"])));
        cluster.reaches(&id, &["RUNNING"]);
    }
    for _ in 0..14 {
        cluster.submit(&sized(1, &["true"]));
    }
    let id = id_of(&cluster.submit(&sized(1, &["true"])));
    check("busy", &why(&cluster, &id, "BUSY"), &[]);
    let mut command = Command::new(tools::berth());
    command.args(["--addr", &cluster.scheduler.grpc, "run", "--queue-timeout", "0", "simulated", "true"]);
    let mut run = Process::start("berth run", &mut command);
    check("busy_run", &run.line_with("none free now"), &[]);
}

#[test]
fn a_shell_line_is_answered_with_the_list_to_write() {
    let cluster = Cluster::start();
    for body in [
        json!({ "image": "x", "command": "echo hi" }),
        json!({ "spec": { "image": "x", "command": "echo hi" } }),
    ] {
        let answer =
            http::request(&cluster.scheduler.http, "POST", "/jobs", &[], body.to_string().as_bytes());
        assert_eq!(answer.status, 400, "{}", String::from_utf8_lossy(&answer.body));
        check("shell_line", answer.json()["error"]["message"].as_str().expect("it has a message"), &[]);
    }
    let folder = tools::folder();
    let file = folder.path().join("job.yaml");
    std::fs::write(&file, "image: x\ncommand: echo hi\n").expect("a file can be written");
    let submit = cluster.berth(&["submit", "-f", file.to_str().expect("a plain path")]);
    assert_eq!(submit.status.code(), Some(5), "{}", stderr(&submit));
    check("shell_line_command_line", &stderr(&submit), &[]);
}
