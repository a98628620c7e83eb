//! Where jobs go, and what is shown of it.

use berth_integration_tests::cluster::{Cluster, Size, id_of, job};
use berth_integration_tests::wait::until;
use berth_integration_tests::{docker, http, tools};
use serde_json::{Value, json};

fn two_executors() -> Cluster {
    let mut cluster = Cluster::start();
    cluster.add_executor("large", Size { cpus: "8", memory: "4g", gpus: "a100:2" }, &[]);
    cluster.add_executor("small", Size { cpus: "2", memory: "512m", gpus: "" }, &[]);
    cluster
}

fn sized(cpus: f64, line: &str) -> Value {
    let mut body = job(&["sh", "-c", line]);
    body["cpus"] = json!(cpus);
    body
}

#[test]
fn two_executors_share_one_engine_with_resources_of_their_own_and_the_tighter_one_is_chosen() {
    let cluster = two_executors();
    let fits_both = id_of(&cluster.submit(&sized(1.0, "true")));
    let fits_large = id_of(&cluster.submit(&sized(4.0, "true")));
    assert_eq!(cluster.ended(&fits_both)["executorId"], "small");
    assert_eq!(cluster.ended(&fits_large)["executorId"], "large");
    for (id, executor) in [(&fits_both, "small"), (&fits_large, "large")] {
        let containers = docker::containers_of(id);
        assert_eq!(containers.len(), 1);
        assert_eq!(docker::inspect(&containers[0])["Config"]["Labels"]["berth.executor"], executor);
    }
}

#[test]
fn what_is_reserved_and_available_follows_the_jobs() {
    let cluster = two_executors();
    assert_eq!(cluster.executor("small")["available"]["cpuMillis"], 2_000);
    let id = id_of(&cluster.submit(&sized(1.5, "sleep 300")));
    cluster.reaches(&id, &["RUNNING"]);
    let busy = cluster.executor("small");
    assert_eq!(busy["reserved"]["cpuMillis"], 1_500, "{busy}");
    assert_eq!(busy["available"]["cpuMillis"], 500, "{busy}");
    assert_eq!(busy["reserved"]["memoryBytes"], 32 << 20, "{busy}");
    let assigned = format!("{{{}}}:assigned:small", cluster.name);
    let members = |cluster: &Cluster| cluster.redis.cli(&["ZRANGE", &assigned, "0", "-1"]);
    assert_eq!(members(&cluster).trim(), id, "the job is in its executor's assigned set");
    cluster.berth_ok(&["abort", &id]);
    until("the job has left its executor's assigned set", || {
        members(&cluster).trim().is_empty().then_some(())
    });
    let free = cluster.executor("small");
    assert_eq!((&free["reserved"]["cpuMillis"], &free["available"]["cpuMillis"]), (&json!(0), &json!(2_000)));
}

#[test]
fn emulated_gpus_are_given_to_one_job_each_and_seen_in_its_environment() {
    let cluster = two_executors();
    let mut body = job(&["sh", "-c", "env; sleep 300"]);
    body["gpus"] = json!("a100:1");
    body["queueTimeout"] = json!("0s");
    let ids: Vec<String> = (0..3).map(|_| id_of(&cluster.submit(&body))).collect();
    let mut devices: Vec<String> = Vec::new();
    for id in &ids[..2] {
        let running = cluster.reaches(id, &["RUNNING"]);
        let device = running["gpuDeviceIds"][0].as_str().expect("it has a device").to_owned();
        let container = docker::inspect(&docker::containers_of(id)[0]);
        let environment = container["Config"]["Env"].to_string();
        assert!(environment.contains(&device), "{environment}");
        assert_eq!(
            container["HostConfig"]["DeviceRequests"],
            Value::Null,
            "an emulated device is not asked of the engine"
        );
        devices.push(device);
    }
    devices.dedup();
    assert_eq!(devices.len(), 2, "each device is given once");
    let third = cluster.job(&ids[2]);
    assert_eq!(
        (&third["state"], &third["pendingReason"]["code"]),
        (&json!("PENDING"), &json!("BUSY")),
        "{third}"
    );
    cluster.berth_ok(&["abort", &ids[0]]);
    cluster.reaches(&ids[2], &["RUNNING"]);
}

#[test]
fn a_higher_priority_goes_first() {
    let mut cluster = Cluster::start();
    let mut ids = Vec::new();
    for (name, priority) in [("low", 10), ("high", 90), ("middle", 50)] {
        let mut body = sized(2.0, "true");
        body["priority"] = json!(priority);
        body["queueTimeout"] = json!(0);
        body["displayName"] = json!(name);
        ids.push(id_of(&cluster.submit(&body)));
    }
    cluster.add_executor("one-at-a-time", Size { cpus: "2", memory: "512m", gpus: "" }, &[]);
    let mut order: Vec<(String, String)> = ids
        .iter()
        .map(|id| cluster.ended(id))
        .map(|job| {
            (job["startTime"].as_str().unwrap().to_owned(), job["displayName"].as_str().unwrap().to_owned())
        })
        .collect();
    order.sort();
    assert_eq!(order.into_iter().map(|(_, name)| name).collect::<Vec<_>>(), ["high", "middle", "low"]);
}

#[test]
fn what_explain_and_plan_say_is_what_becomes_of_the_job() {
    let cluster = two_executors();
    let folder = tools::folder();
    let planned = |body: &Value| {
        let file = folder.path().join("job.json");
        std::fs::write(&file, body.to_string()).expect("it is written");
        let output = cluster.berth(&["plan", "-o", "json", "-f", &file.display().to_string()]);
        let answer: Value = serde_json::from_slice(&output.stdout).expect("is JSON");
        (output.status.code(), answer)
    };
    let first = sized(8.0, "sleep 300");
    let (code, answer) = planned(&first);
    assert_eq!((code, &answer["executorId"]), (Some(0), &json!("large")), "{answer}");
    let id = id_of(&cluster.submit(&first));
    assert_eq!(cluster.reaches(&id, &["RUNNING"])["executorId"], "large");

    let mut second = sized(4.0, "true");
    second["queueTimeout"] = json!("0s");
    let (code, answer) = planned(&second);
    assert_eq!((code, &answer["reason"]["code"]), (Some(3), &json!("BUSY")), "{answer}");
    assert_eq!(planned(&sized(9.0, "true")).0, Some(5));
    let waiting = id_of(&cluster.submit(&second));
    let explained = http::get(&cluster.scheduler.http, &format!("/v1/jobs/{waiting}:explain"));
    assert_eq!(explained["verdicts"], answer["verdicts"], "{explained}");
    let shown = cluster.berth_ok(&["explain", &waiting]);
    assert!(shown.contains("large     no        yes         Needs 4 CPUs, 0 of 8 free."), "{shown}");
    assert!(shown.contains("small     no        no          Needs 4 CPUs, has 2."), "{shown}");
    assert!(shown.contains("It fits large once 1 job there has ended."), "{shown}");
    cluster.berth_ok(&["abort", &id]);
    assert_eq!(cluster.ended(&waiting)["executorId"], "large");
}
