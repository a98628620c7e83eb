//! A fleet with GPUs of three models and with labels: its schedulers and executors are real, its containers are played.

use std::collections::BTreeSet;

use berth_integration_tests::cluster::{Cluster, Size, id_of};
use berth_integration_tests::http;
use serde_json::{Value, json};

fn fleet() -> Cluster {
    let mut cluster = Cluster::start();
    let mut add = |id: &str, cpus: &str, gpus: &str, label: &str| {
        let mut arguments = vec!["--runtime", "simulated"];
        if !label.is_empty() {
            arguments.extend(["--label", label]);
        }
        cluster.add_executor(id, Size { cpus, memory: "64g", gpus }, &arguments);
    };
    add("eight-a100", "64", "a100:8", "");
    add("four-v100", "32", "v100:4", "");
    add("four-t4", "32", "t4:4", "zone=edge");
    add("two-t4", "16", "t4:2", "zone=core");
    add("plain", "8", "none", "zone=core");
    cluster
}

/// A job that stays where it is put.
fn asking(gpus: u32, models: &[&str], constraints: &[&str]) -> Value {
    json!({
        "image": "played", "command": ["sleep", "600"], "queueTimeout": "0s", "constraints": constraints,
        "resources": { "cpuMillis": 1_000, "memoryBytes": 64 << 20, "gpuCount": gpus, "gpuModels": models },
    })
}

/// Submits a job, waits until it runs, and says where.
fn placed(cluster: &Cluster, body: &Value) -> (String, String) {
    let id = id_of(&cluster.submit(body));
    let job = cluster.reaches(&id, &["RUNNING"]);
    (id, job["executorId"].as_str().expect("it is somewhere").to_owned())
}

#[test]
fn jobs_find_their_models_and_labels_and_the_scarce_ones_are_spared() {
    let cluster = fleet();
    let on = |body: &Value| placed(&cluster, body).1;
    for _ in 0..2 {
        assert_eq!(on(&asking(1, &["a100"], &[])), "eight-a100");
        assert_eq!(on(&asking(1, &["v100"], &[])), "four-v100");
    }
    assert_eq!(on(&asking(1, &[], &["zone=edge"])), "four-t4");
    assert_eq!(on(&asking(1, &["t4"], &["zone!=edge"])), "two-t4");
    assert_eq!(on(&asking(0, &[], &["zone in (core, far)"])), "plain");
    let executor = on(&asking(0, &[], &["!zone"]));
    assert!(["eight-a100", "four-v100"].contains(&executor.as_str()), "{executor} has a zone");
    // Any model will do: those that nobody asks for by name.
    for _ in 0..3 {
        let executor = on(&asking(1, &[], &[]));
        assert!(executor.ends_with("-t4"), "{executor} is spared");
    }
    // So the large job still has its place, and either model is taken where there is room.
    assert_eq!(on(&asking(6, &["a100"], &[])), "eight-a100");
    assert_eq!(on(&asking(2, &["a100", "v100"], &[])), "four-v100");

    let all = http::get(&cluster.scheduler.http, "/jobs?pageSize=100");
    let jobs = all["jobs"].as_array().expect("they are listed");
    let devices = |job: &Value| job["gpuDeviceIds"].as_array().cloned().unwrap_or_default();
    let given: Vec<String> = jobs.iter().flat_map(devices).map(|id| id.to_string()).collect();
    assert_eq!(given.len(), 2 + 2 + 2 + 3 + 6 + 2);
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), given.len(), "each device is given once");
}

#[test]
fn a_job_that_waits_for_a_model_is_explained_and_starts_when_it_is_free() {
    let cluster = fleet();
    let (holder, executor) = placed(&cluster, &asking(1, &["v100"], &[]));
    assert_eq!(executor, "four-v100");
    let waiting = id_of(&cluster.submit(&asking(4, &["v100"], &[])));
    let explained = http::get(&cluster.scheduler.http, &format!("/v1/jobs/{waiting}:explain"));
    assert_eq!(explained["reason"]["code"], "BUSY", "{explained}");
    let verdict = |id: &str| {
        let verdicts = explained["verdicts"].as_array().expect("there are some");
        verdicts.iter().find(|verdict| verdict["executorId"] == id).expect("each executor has one").clone()
    };
    assert_eq!(verdict("four-v100")["message"], "Needs 4 GPUs of model v100, 3 of 4 free.");
    assert_eq!(verdict("four-v100")["fitsEmpty"], true);
    assert_eq!(verdict("eight-a100")["message"], "Needs 4 GPUs of model v100, has 0.");
    assert_eq!(verdict("plain")["fitsEmpty"], false);
    let nowhere = id_of(&cluster.submit(&asking(0, &[], &["zone=moon"])));
    let why = cluster.job(&nowhere)["pendingReason"].clone();
    assert_eq!(why["code"], "CONSTRAINTS", "{why}");
    assert_eq!(why["message"], "No executor meets zone=moon. It waits until one that does joins.");
    cluster.berth_ok(&["abort", &holder]);
    assert_eq!(cluster.reaches(&waiting, &["RUNNING"])["executorId"], "four-v100");
}
