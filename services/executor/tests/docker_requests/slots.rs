//! What is asked of the engine for networks that are kept ready, and what becomes of jobs where that fails.

use std::time::Duration;

use berth_domain::digest::SpecHash;
use berth_domain::ids::{AttemptRef, JobId, Namespace};
use berth_domain::spec::Network;
use berth_executor::runtime::{
    ContainerName, ContainerPlan, EngineError, Runtime, StartError, Upkeep, attempt_labels,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::engine::{Answers, RecordingEngine};
use super::{owner, plan};

/// How long something may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// An engine on which everything succeeds.
fn able() -> Answers {
    let slot = json!({
        "Id": "slot", "State": { "Status": "running", "Running": true },
        "HostsPath": "/d/hosts", "ResolvConfPath": "/d/resolv.conf", "HostnamePath": "/d/hostname"
    });
    vec![
        ("POST", "/containers/create", 201, json!({ "Id": "slot", "Warnings": [] })),
        ("POST", "/start", 204, Value::Null),
        ("GET", "/containers/json", 200, json!([])),
        ("GET", "/slot/json", 200, slot),
        ("GET", "/networks/bridge", 200, json!({})),
        ("POST", "/images/create", 200, json!({ "status": "sha256:0" })),
        ("DELETE", "", 204, Value::Null),
    ]
}

fn job(number: u32) -> ContainerPlan {
    let attempt = AttemptRef { job: JobId::trusted("job-1"), number, epoch: 7 };
    let (name, labels) = (
        ContainerName::new(&owner(), &attempt),
        attempt_labels(&owner(), &attempt, SpecHash::default(), "b"),
    );
    ContainerPlan { name, labels, network: Network::None, ..plan() }
}

/// What a close look shows of a job's container in a slot.
fn in_slot(status: &str) -> Value {
    let host = json!({ "NetworkMode": "container:slot" });
    json!({ "Id": "job", "State": { "Status": status }, "HostConfig": host })
}

fn keep(engine: &RecordingEngine, network_slots: usize, stop: &CancellationToken) -> JoinHandle<()> {
    let upkeep = Upkeep { owner: owner(), network_slots, stop: stop.clone() };
    tokio::spawn(engine.runtime.upkeep(upkeep).expect("Docker has slots"))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

/// Makes containers, numbered from 1, until one is put into a slot; gives its plan and what was asked.
async fn in_a_slot(engine: &RecordingEngine) -> (ContainerPlan, Value) {
    for number in 1.. {
        let plan = job(number);
        engine.runtime.create(&plan).await.expect("it is made");
        let asked = engine.requests("POST", "/containers/create").pop().expect("it was asked").body;
        if asked["HostConfig"]["NetworkMode"] == "container:slot" {
            return (plan, asked);
        }
        engine.runtime.remove(&plan.name).await.expect("it is removed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("numbers do not end")
}

fn slots_asked(engine: &RecordingEngine) -> Vec<Value> {
    let all = engine.requests("POST", "/containers/create").into_iter().map(|request| request.body);
    all.filter(|body| body["Labels"].get("berth.slot").is_some()).collect()
}

#[tokio::test]
async fn a_slot_is_made_of_nothing_but_a_network_and_a_job_in_it_cannot_write_its_files() {
    let engine = RecordingEngine::start(able());
    let stop = CancellationToken::new();
    let keeping = keep(&engine, 1, &stop);
    let (_, job) = in_a_slot(&engine).await;
    let expected = json!({
        "Image": "berth-pause:1",
        "Entrypoint": ["/pause"],
        "User": "65534:65534",
        "StopSignal": "SIGKILL",
        "Labels": { "berth.cluster": "prod", "berth.executor": "node-1", "berth.slot": "none" },
        "HostConfig": {
            "Memory": 33_554_432,
            "MemorySwap": 33_554_432,
            "PidsLimit": 64,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", "label=level:s0"],
            "Sysctls": { "net.ipv4.tcp_max_tw_buckets": "0" },
            "Privileged": false,
            "ReadonlyRootfs": true,
            "Init": false,
            "IpcMode": "none",
            "NetworkMode": "none",
            "RestartPolicy": { "Name": "no" },
            "AutoRemove": false,
            "LogConfig": { "Type": "none" }
        }
    });
    assert_eq!(slots_asked(&engine), [expected]);
    let mount = |file: &str| {
        let (target, source) = (format!("/etc/{file}"), format!("/d/{file}"));
        json!({ "Target": target, "Source": source, "Type": "bind", "ReadOnly": true })
    };
    assert_eq!(job["HostConfig"]["Mounts"], json!(["hosts", "resolv.conf", "hostname"].map(mount)));
    assert_eq!(engine.requests("POST", "/images/create").len(), 0, "the image is there");
    stop.cancel();
    keeping.await.expect("it ends");
    let removed = engine.requests("DELETE", "/slot");
    assert_eq!(removed.len(), 0, "a job may be in it");
}

#[tokio::test]
async fn an_engine_without_the_image_is_given_it_once() {
    let engine = RecordingEngine::start(able());
    engine.answer("POST", "/containers/create", 404, json!({ "message": "No such image: berth-pause:1" }));
    let stop = CancellationToken::new();
    let _keeping = keep(&engine, 1, &stop);
    let mut number = 0;
    // Jobs that find no image either are still jobs that found no slot.
    while engine.requests("POST", "/images/create").is_empty() {
        number += 1;
        let _ = engine.runtime.create(&job(number)).await;
    }
    let path = engine.request("POST", "/images/create").path;
    assert!(path.contains("fromSrc=-") && path.contains("repo=berth-pause%3A1"), "{path}");
    stop.cancel();
}

#[tokio::test]
async fn a_job_whose_slot_is_dead_can_be_made_anew_with_a_network_of_its_own() {
    let engine = RecordingEngine::start(able());
    let stop = CancellationToken::new();
    let _keeping = keep(&engine, 1, &stop);
    let (plan, _) = in_a_slot(&engine).await;
    let dead = json!({ "message": "cannot join network of a non running container: slot" });
    engine.answer("POST", "/start", 409, dead);
    engine.answer("GET", "-7/json", 200, in_slot("created"));
    let made = engine.requests("POST", "/containers/create").len();
    let started = engine.runtime.start(&plan.name).await;
    assert!(matches!(started, Err(StartError::SlotDead(_))), "{started:?}");
    assert!(engine.requests("DELETE", plan.name.as_str()).is_empty(), "a start removes nothing");
    assert_eq!(engine.requests("POST", "/containers/create").len(), made, "and makes nothing");
    engine.runtime.remove_unstarted(&plan.name).await.expect("it is removed");
    let removal = engine.requests("DELETE", plan.name.as_str()).pop().expect("it was asked");
    assert!(removal.path.contains("force=false"), "one that runs after all goes on: {}", removal.path);
    until("the slot is removed", || !engine.requests("DELETE", "/slot").is_empty()).await;
    // However often it is made, and whatever others find: it gets no other slot.
    engine.answer("POST", "/start", 204, Value::Null);
    let (other, _) = in_a_slot(&engine).await;
    engine.runtime.remove(&other.name).await.expect("it is removed");
    for _ in 0..3 {
        engine.runtime.create(&plan).await.expect("it is made");
        let made = engine.requests("POST", "/containers/create");
        let own = format!("name={}&", plan.name);
        let made = made.iter().rfind(|request| request.path.contains(&own)).expect("it was asked");
        assert_eq!(made.body["HostConfig"]["NetworkMode"], "none");
        assert_eq!(made.body["HostConfig"].get("Mounts"), None);
    }
    engine.runtime.start(&plan.name).await.expect("it starts");
    stop.cancel();
}

#[tokio::test]
async fn a_process_that_did_not_make_a_container_sees_that_its_slot_is_dead() {
    let engine = RecordingEngine::start(able());
    for (status, text) in
        [(409, "cannot join network of a non running container"), (404, "No such container: slot")]
    {
        engine.answer("POST", "/start", status, json!({ "message": text }));
        engine.answer("GET", "-7/json", 200, in_slot("created"));
        let started = engine.runtime.start(&job(1).name).await;
        assert!(matches!(&started, Err(StartError::SlotDead(_))), "{text}: {started:?}");
    }
    // Whether it is gone is not known where the engine does not show it.
    engine.answer("GET", "-7/json", 500, json!({ "message": "busy" }));
    let started = engine.runtime.start(&job(1).name).await;
    assert!(matches!(started, Err(StartError::Engine(EngineError::Failed(_)))), "{started:?}");
}

#[tokio::test]
async fn a_container_that_is_gone_at_its_start_leaves_its_slot_to_be_removed() {
    let engine = RecordingEngine::start(able());
    let stop = CancellationToken::new();
    let _keeping = keep(&engine, 1, &stop);
    let (plan, _) = in_a_slot(&engine).await;
    engine.answer("POST", "/start", 404, json!({ "message": "No such container" }));
    assert_eq!(engine.runtime.start(&plan.name).await, Err(StartError::Gone));
    until("the slot is removed", || !engine.requests("DELETE", "/slot").is_empty()).await;
    stop.cancel();
}

#[tokio::test]
async fn a_job_that_runs_after_all_is_not_made_anew() {
    let engine = RecordingEngine::start(able());
    let stop = CancellationToken::new();
    let _keeping = keep(&engine, 1, &stop);
    let (plan, _) = in_a_slot(&engine).await;
    engine.answer("POST", "/start", 500, json!({ "message": "something" }));
    let runs = in_slot("running");
    engine.answer("GET", "-7/json", 200, runs);
    let made = engine.requests("POST", "/containers/create").len();
    let started = engine.runtime.start(&plan.name).await;
    assert!(matches!(started, Err(StartError::Engine(EngineError::Failed(_)))), "{started:?}");
    assert_eq!(engine.requests("POST", "/containers/create").len(), made);
    assert!(engine.requests("DELETE", plan.name.as_str()).is_empty());
    stop.cancel();
}

#[tokio::test]
async fn an_ended_container_is_not_started_again_where_another_job_may_be() {
    let engine = RecordingEngine::start(able());
    let stop = CancellationToken::new();
    let _keeping = keep(&engine, 1, &stop);
    let (plan, _) = in_a_slot(&engine).await;
    engine.runtime.start(&plan.name).await.expect("it starts");
    let ended = json!({ "Id": "job", "State": { "Status": "exited", "ExitCode": 0, "Pid": 0 } });
    engine.answer("GET", "/json", 200, ended);
    engine.runtime.inspect(&plan.name).await.expect("it is seen");
    let starts = || engine.requests("POST", &format!("{}/start", plan.name)).len();
    assert_eq!(starts(), 1);
    engine.runtime.start(&plan.name).await.expect("it has been started");
    assert_eq!(starts(), 1);
    stop.cancel();
}

#[tokio::test]
async fn only_idle_slots_of_an_earlier_process_are_removed_and_those_in_use_with_their_job() {
    let engine = RecordingEngine::start(able());
    let own = json!({ "berth.cluster": "prod", "berth.executor": "node-1", "berth.slot": "none" });
    let user = job(1);
    let of_job = |name: &str, state: &str, slot: &str| {
        json!({ "Id": name, "Names": [format!("/{name}")], "State": state, "Labels": job(1).labels,
            "HostConfig": { "NetworkMode": format!("container:{slot}") } })
    };
    let slot = |id: &str| json!({ "Id": id, "State": "running", "Labels": own });
    let list = json!([
        slot("idle"),
        slot("left"),
        slot("used"),
        of_job("ended", "exited", "left"),
        of_job(user.name.as_str(), "running", "used")
    ]);
    engine.answer("GET", "/containers/json", 200, list);
    let stop = CancellationToken::new();
    let keeping = keep(&engine, 0, &stop);
    let removed = |id: &str| !engine.requests("DELETE", id).is_empty();
    until("idle slots are removed", || removed("/idle") && removed("/left")).await;
    assert!(!removed("/used"));
    engine.runtime.remove(&user.name).await.expect("it is removed");
    until("the slot in use is removed", || removed("/used")).await;
    assert_eq!(slots_asked(&engine), Vec::<Value>::new(), "none are made where they are off");
    stop.cancel();
    keeping.await.expect("it ends");
}

#[tokio::test]
async fn an_engine_that_can_make_no_slots_runs_jobs_all_the_same() {
    let engine = RecordingEngine::start(able());
    engine.answer("GET", "/slot/json", 200, json!({ "Id": "slot", "State": { "Running": true } }));
    let stop = CancellationToken::new();
    let _keeping = keep(&engine, 1, &stop);
    let mut number = 0;
    while engine.requests("DELETE", "").is_empty() {
        number += 1;
        engine.runtime.create(&job(number)).await.expect("it is made");
    }
    engine
        .runtime
        .create(&ContainerPlan { namespace: Namespace::trusted("x"), ..job(0) })
        .await
        .expect("it is made");
    let asked = engine.requests("POST", "/containers/create");
    assert!(asked.iter().all(|request| request.body["HostConfig"]["NetworkMode"] == "none"));
    assert_eq!(slots_asked(&engine).len(), 1, "it is not tried again at once");
    stop.cancel();
}
