//! The same job through every kind of client: curl, grpcurl with no proto file, a generated one in
//! Python, and a replica that was started after the submit.

use std::process::{Command, Output};

use berth_integration_tests::cluster::{Cluster, id_of};
use berth_integration_tests::docker::IMAGE;
use berth_integration_tests::{http, tools};
use serde_json::{Value, json};

use crate::small_cluster;

fn grpcurl(address: &str, body: Option<&Value>, target: &[&str]) -> Output {
    let mut command = Command::new(tools::tool("grpcurl"));
    command.arg("-plaintext");
    if let Some(body) = body {
        command.args(["-d", &body.to_string()]);
    }
    command.arg(address).args(target).output().expect("grpcurl runs")
}

fn grpcurl_ok(address: &str, body: Option<&Value>, target: &[&str]) -> String {
    let output = grpcurl(address, body, target);
    assert!(output.status.success(), "grpcurl {target:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn call(cluster: &Cluster, method: &str, body: &Value) -> Value {
    let text = grpcurl_ok(&cluster.scheduler.grpc, Some(body), &[&format!("berth.v1.JobService/{method}")]);
    serde_json::from_str(&text).expect("grpcurl prints JSON")
}

#[test]
fn grpcurl_needs_no_proto_file() {
    let cluster = small_cluster();
    let services = grpcurl_ok(&cluster.scheduler.grpc, None, &["list"]);
    for service in [
        "berth.v1.JobService",
        "berth.v1.ExecutorService",
        "berth.v1.ClusterService",
        "grpc.health.v1.Health",
    ] {
        assert!(services.lines().any(|line| line == service), "{service} in {services}");
    }
    let described = grpcurl_ok(&cluster.scheduler.grpc, None, &["describe", "berth.v1.JobSpec"]);
    assert!(described.contains("string image = 1"), "{described}");
    let health = grpcurl_ok(&cluster.scheduler.grpc, Some(&json!({})), &["grpc.health.v1.Health/Check"]);
    assert!(health.contains("SERVING"), "{health}");

    let spec = json!({ "image": IMAGE, "command": ["sh", "-c", "echo hi; exit 3"],
        "resources": { "cpuMillis": 100, "memoryBytes": 33_554_432 } });
    let submitted = call(&cluster, "SubmitJob", &json!({ "spec": spec }));
    let id = id_of(&submitted["job"]);
    let watch = json!({ "filter": format!("id = \"{id}\"") });
    let mut watching = Command::new(tools::tool("grpcurl"));
    watching.args(["-plaintext", "-max-time", "30", "-d", &watch.to_string(), &cluster.scheduler.grpc]);
    let watching = watching.arg("berth.v1.JobService/WatchJobs");
    let mut watching = berth_integration_tests::process::Process::start("grpcurl watch", watching);
    berth_integration_tests::wait::until("the watch shows the end", || {
        watching.output().contains("JOB_STATE_FAILED").then_some(())
    });
    watching.kill();
    let got = call(&cluster, "GetJob", &json!({ "id": id }));
    assert_eq!((&got["job"]["state"], &got["job"]["exitCode"]), (&json!("JOB_STATE_FAILED"), &json!(3)));

    let running = id_of(
        &call(&cluster, "SubmitJob", &json!({ "spec": { "image": IMAGE, "command": ["sleep", "300"] } }))["job"],
    );
    let aborted = call(&cluster, "AbortJob", &json!({ "id": running, "gracePeriod": "1s" }));
    assert_eq!(aborted["job"]["state"], "JOB_STATE_ABORTED");
}

fn curl(arguments: &[&str]) -> Value {
    let output =
        Command::new("curl").args(["-sS", "--fail-with-body"]).args(arguments).output().expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "curl {arguments:?}: {text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn curl_reaches_the_six_routes() {
    let cluster = small_cluster();
    let base = format!("http://{}", cluster.scheduler.http);
    let body = json!({ "image": IMAGE, "command": ["sleep", "300"], "memory": "32Mi" }).to_string();
    // Without a Content-Type of JSON, as curl sends by default.
    let job = curl(&["-d", &body, &format!("{base}/jobs")]);
    let id = id_of(&job);
    for name in [
        "id",
        "displayName",
        "namespace",
        "state",
        "phase",
        "exitCode",
        "endReason",
        "message",
        "executorId",
        "attempt",
        "attemptEpoch",
        "gpuDeviceIds",
        "pendingReason",
        "createTime",
        "startTime",
        "endTime",
        "revision",
    ] {
        assert!(job.get(name).is_some(), "{name} is printed: {job}");
    }
    cluster.reaches(&id, &["RUNNING"]);
    let list = curl(&[&format!("{base}/jobs?state=running")]);
    assert_eq!(list["jobs"][0]["id"], json!(id));
    assert!(list["nextPageToken"].is_string(), "{list}");
    assert_eq!(curl(&[&format!("{base}/jobs/{id}")])["state"], "RUNNING");
    let executors = curl(&[&format!("{base}/executors")]);
    for name in ["capacity", "reserved", "available", "used"] {
        assert!(executors["executors"][0][name].is_object(), "{name}: {executors}");
    }
    let stats = curl(&[&format!("{base}/stats")]);
    assert_eq!(
        (&stats["leaderSchedulerId"], &stats["runningCount"]),
        (&json!("scheduler-1"), &json!(1)),
        "{stats}"
    );
    for name in [
        "leaderEpoch",
        "capacity",
        "reserved",
        "pendingCount",
        "assignedCount",
        "succeededCount",
        "failedCount",
        "abortedCount",
    ] {
        assert!(stats.get(name).is_some(), "{name}: {stats}");
    }
    let waited = curl(&[&format!("{base}/v1/jobs/{id}:wait?timeout=1s")]);
    assert_eq!(
        (&waited["done"], &waited["job"]["state"]),
        (&json!(false), &json!("RUNNING")),
        "running out of time is no error"
    );
    let aborted = curl(&["-X", "POST", &format!("{base}/jobs/{id}/abort")]);
    assert_eq!(aborted["state"], "ABORTED");
}

#[test]
fn a_python_client_generated_from_the_protos_sees_the_job_to_its_end() {
    let cluster = small_cluster();
    let folder = tools::folder();
    let examples = tools::root().join("examples/python");
    let generated = folder.path().join("gen");
    let python = tools::tool("python");
    let status = Command::new("sh")
        .arg(examples.join("generate.sh"))
        .arg(&generated)
        .env("PYTHON", &python)
        .output()
        .expect("sh runs");
    assert!(status.status.success(), "generate.sh: {}", String::from_utf8_lossy(&status.stderr));
    let output = Command::new(&python)
        .arg(examples.join("submit_and_watch.py"))
        .args(["--addr", &cluster.scheduler.grpc, "--image", IMAGE, "--"])
        .args(["sh", "-c", "echo to stdout; echo to stderr >&2; exit 7"])
        .env("PYTHONPATH", &generated)
        .env("BERTH_PYTHON_GEN", &generated)
        .output()
        .expect("python runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "to stdout\n", "{stderr}");
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    assert!(stderr.contains("to stderr"), "{stderr}");
}

#[test]
fn every_client_and_a_replica_started_later_see_the_same_job() {
    let cluster = small_cluster();
    let id = cluster.shell("echo seen by all; exit 9");
    let ended = cluster.ended(&id);
    let later = cluster.another_scheduler("scheduler-2", &[]);
    assert_eq!(http::get(&later.http, &format!("/jobs/{id}")), ended, "REST of the later replica");
    let text = grpcurl_ok(&later.grpc, Some(&json!({ "id": id })), &["berth.v1.JobService/GetJob"]);
    let by_grpc: Value = serde_json::from_str(&text).expect("grpcurl prints JSON");
    assert_eq!(
        (&by_grpc["job"]["exitCode"], &by_grpc["job"]["revision"]),
        (&json!(9), &json!(ended["revision"].to_string()))
    );
    let by_cli =
        Command::new(tools::berth()).args(["--addr", &later.grpc, "get", &id, "-o", "json"]).output();
    let by_cli: Value = serde_json::from_slice(&by_cli.expect("berth runs").stdout).expect("it prints JSON");
    assert_eq!(by_cli, ended, "-o json equals REST");
    // The executor's session is at the first replica; the later one asks there.
    let logs =
        Command::new(tools::berth()).args(["--addr", &later.grpc, "logs", &id]).output().expect("berth runs");
    assert_eq!(
        String::from_utf8_lossy(&logs.stdout),
        "seen by all\n",
        "{}",
        String::from_utf8_lossy(&logs.stderr)
    );
    assert_eq!(http::get(&later.http, "/stats")["leaderSchedulerId"], "scheduler-1");
}
