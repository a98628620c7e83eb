//! What a job's container is, and what is left of it.

use std::process::Command;

use berth_integration_tests::cluster::{Cluster, id_of, job};
use berth_integration_tests::docker;
use berth_integration_tests::wait::until;
use serde_json::json;

use crate::{MEDIUM, small_cluster};

#[test]
fn a_container_gets_just_what_the_job_may_have() {
    let cluster = small_cluster();
    let mut body = job(&["sh", "-c", "sleep 300"]);
    body["env"] = json!({ "GREETING": "hello" });
    body["workingDir"] = json!("/tmp");
    body["cpus"] = json!(0.5);
    let submitted = cluster.submit(&body);
    let id = id_of(&submitted);
    let running = cluster.reaches(&id, &["RUNNING"]);
    let container = docker::inspect(&docker::containers_of(&id)[0]);
    let host = &container["HostConfig"];
    assert_eq!(
        host["NanoCpus"].as_i64().unwrap_or(0).max(host["CpuQuota"].as_i64().unwrap_or(0) * 10_000),
        500_000_000
    );
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&json!(32 << 20), &json!(32 << 20)));
    assert_eq!(host["CapDrop"], json!(["ALL"]));
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
    assert_eq!((&host["PidsLimit"], &host["Privileged"]), (&json!(512), &json!(false)));
    assert!(host["Binds"].as_array().is_none_or(Vec::is_empty), "{host}");
    assert_eq!((&host["AutoRemove"], &host["NetworkMode"]), (&json!(false), &json!("none")));
    assert!(["no", ""].contains(&host["RestartPolicy"]["Name"].as_str().unwrap_or("")), "{host}");
    assert_eq!(host["LogConfig"]["Type"], "json-file");
    assert!(host["LogConfig"]["Config"]["max-size"].is_string(), "logs are capped: {host}");
    let config = &container["Config"];
    assert_eq!((&config["WorkingDir"], &config["Cmd"]), (&json!("/tmp"), &json!(["sh", "-c", "sleep 300"])));
    assert!(config["Env"].to_string().contains("GREETING=hello"));
    let labels = &config["Labels"];
    let expected = [
        ("berth.cluster", json!(cluster.name)),
        ("berth.executor", json!("executor-1")),
        ("berth.job", json!(id)),
        ("berth.attempt", json!("1")),
        ("berth.epoch", json!(running["attemptEpoch"].to_string())),
        ("berth.spec-hash", running["specHash"].clone()),
    ];
    for (label, value) in expected {
        assert_eq!(labels[label], value, "{label}");
    }
}

#[test]
fn a_job_sees_no_capabilities_and_its_limits_from_inside() {
    let cluster = small_cluster();
    let id = id_of(&cluster.submit(&job(&["berth-job", "whoami"])));
    assert_eq!(cluster.ended(&id)["state"], "SUCCEEDED");
    let output = cluster.berth_ok(&["logs", &id]);
    assert!(output.contains("0000000000000000"), "no capability is left: {output}");
    assert!(output.contains("NoNewPrivs"), "{output}");
}

#[test]
fn a_container_is_removed_after_its_time_and_its_output_stays() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", MEDIUM, &["--cleanup-after", "1s"]);
    let id = cluster.shell("echo out; echo err >&2; exit 3");
    cluster.ended(&id);
    until("its container is gone", || docker::containers_of(&id).is_empty().then_some(()));
    let logs = cluster.berth(&["logs", &id]);
    assert_eq!(String::from_utf8_lossy(&logs.stdout), "out\n");
    assert_eq!(String::from_utf8_lossy(&logs.stderr), "err\n");
}

#[test]
fn logs_follow_a_running_job_to_its_end_and_nothing_is_missing() {
    let cluster = small_cluster();
    let id =
        cluster.shell("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; sleep 1; echo end");
    let followed = cluster.berth_ok(&["logs", "-f", &id]);
    let expected: String = (0..2_000).map(|i| format!("line {i}\n")).chain(["end\n".to_owned()]).collect();
    assert_eq!(followed, expected);
    assert_eq!(cluster.berth_ok(&["logs", &id]), expected, "and again after the end");
    assert_eq!(cluster.berth_ok(&["logs", "--tail", "2", &id]), "line 1999\nend\n");
}

#[test]
fn a_followed_tail_shows_the_last_lines_at_once_and_then_what_comes() {
    let cluster = small_cluster();
    let id = cluster.shell("echo 1; echo 2; echo 3; while ! [ -e /tmp/go ]; do sleep 0.1; done; echo 4");
    cluster.reaches(&id, &["RUNNING"]);
    until("three lines are there", || (cluster.berth_ok(&["logs", &id]) == "1\n2\n3\n").then_some(()));
    let mut follow = Command::new(berth_integration_tests::tools::berth());
    follow.args(["--addr", &cluster.scheduler.grpc, "logs", "-f", "--tail", "2", &id]);
    let mut follow = berth_integration_tests::process::Process::start("logs -f", &mut follow);
    until("the tail is shown while the job runs", || (follow.output() == "2\n3\n").then_some(()));
    docker::let_go(&docker::containers_of(&id)[0]);
    follow.ended(berth_integration_tests::wait::PATIENCE);
    until("the rest is shown", || (follow.output() == "2\n3\n4\n").then_some(()));
}

#[test]
fn only_containers_of_this_cluster_and_executor_are_touched() {
    let mut cluster = Cluster::start();
    let other = berth_integration_tests::tools::unique("other");
    let foreign = |labels: &[(&str, &str)]| {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("--label=berth.{name}={value}")).collect();
        let mut arguments = vec!["run", "-d", "--network", "none"];
        arguments.extend(labels.iter().map(String::as_str));
        arguments.extend([docker::IMAGE, "sleep", "300"]);
        docker::docker_ok(&arguments)
    };
    // Before the executor starts, so that it sees them when it looks for what it should adopt.
    let attempt = [("job", "x"), ("attempt", "1"), ("epoch", "1")];
    let of_another_cluster =
        foreign(&[&[("cluster", other.as_str()), ("executor", "executor-1")], &attempt[..]].concat());
    let of_another_executor =
        foreign(&[&[("cluster", cluster.name.as_str()), ("executor", "executor-2")], &attempt[..]].concat());
    cluster.add_executor("executor-1", MEDIUM, &["--cleanup-after", "0s"]);
    let id = cluster.shell("true");
    cluster.ended(&id);
    cluster.restart_executor(0);
    let id = cluster.shell("true");
    cluster.ended(&id);
    let running =
        [of_another_cluster, of_another_executor].map(|id| docker::inspect(&id)["State"]["Running"].clone());
    docker::remove_containers(&other);
    assert_eq!(running, [true, true]);
}

#[test]
fn finished_jobs_are_gone_after_their_retention() {
    let mut cluster = Cluster::start_with(&["--retention", "2s"]);
    cluster.add_executor("executor-1", MEDIUM, &["--cleanup-after", "0s"]);
    let id = cluster.shell("true");
    cluster.ended(&id);
    until("the job is gone", || {
        let path = format!("/jobs/{id}");
        let answer = berth_integration_tests::http::request(&cluster.scheduler.http, "GET", &path, &[], b"");
        (answer.status == 404).then_some(())
    });
    let keys = cluster.redis.cli(&["--scan", "--pattern", &format!("*{id}*")]);
    assert_eq!(keys, "", "nothing of it is left in Redis");
    let list =
        Command::new("docker").args(["ps", "-aq", "--filter", &format!("label=berth.job={id}")]).output();
    assert!(list.expect("docker runs").stdout.is_empty());
}
