//! What goes over Docker's socket: a recording engine answers, and the requests are compared with
//! what they must be.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test says what it expects")]

#[path = "docker_requests/engine.rs"]
mod engine;
#[path = "docker_requests/slots.rs"]
mod slots;
#[path = "docker_requests/warm.rs"]
mod warm;

use std::collections::BTreeMap;

use berth_domain::digest::SpecHash;
use berth_domain::ids::{AttemptRef, JobId, Namespace};
use berth_domain::resources::GpuDevice;
use berth_domain::spec::{Network, Reuse};
use berth_executor::runtime::{
    ContainerName, ContainerPlan, CreateError, Delivery, DockerRuntime, DockerSettings, EngineError, Owner,
    Runtime, Signal, StartError, attempt_labels,
};
use engine::{Answers, RecordingEngine};
use serde_json::{Value, json};

fn attempt() -> AttemptRef {
    AttemptRef { job: JobId::trusted("job-1"), number: 2, epoch: 7 }
}

fn owner() -> Owner {
    Owner { cluster: "prod".into(), executor: "node-1".into() }
}

fn plan() -> ContainerPlan {
    ContainerPlan {
        name: ContainerName::new(&owner(), &attempt()),
        image: "busybox:1".into(),
        command: vec!["sh".into(), "-c".into(), "echo $A".into()],
        env: BTreeMap::from([("A".into(), "1".into()), ("BERTH_JOB_ID".into(), "job-1".into())]),
        working_dir: "/work".into(),
        labels: attempt_labels(&owner(), &attempt(), SpecHash::default(), "boot"),
        cpu_millis: 1_500,
        memory_bytes: 256 << 20,
        gpus: Vec::new(),
        network: Network::Bridge,
        namespace: Namespace::trusted("team"),
        reuse: Reuse::None,
    }
}

fn labels() -> Value {
    json!({
        "berth.cluster": "prod", "berth.executor": "node-1", "berth.job": "job-1", "berth.attempt": "2",
        "berth.epoch": "7", "berth.spec-hash": "0".repeat(64), "berth.boot-id": "boot"
    })
}

fn created() -> Answers {
    vec![("POST", "/containers/create", 201, json!({ "Id": "abc", "Warnings": [] }))]
}

#[tokio::test]
async fn a_plain_job_is_made_of_nothing_but_what_it_may_have() {
    let engine = RecordingEngine::start(created());
    engine.runtime.create(&plan()).await.expect("it is made");
    let request = engine.request("POST", "/containers/create");
    assert_eq!(request.path, "/v1.41/containers/create?name=berth-prod-node-1-job-1-2-7&platform=");
    let expected = json!({
        "Image": "busybox:1",
        "Cmd": ["sh", "-c", "echo $A"],
        "Env": ["A=1", "BERTH_JOB_ID=job-1"],
        "WorkingDir": "/work",
        "Labels": labels(),
        "Tty": false,
        "OpenStdin": false,
        "HostConfig": {
            "CpuPeriod": 100_000,
            "CpuQuota": 150_000,
            "Memory": 268_435_456,
            "MemorySwap": 268_435_456,
            "PidsLimit": 512,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Privileged": false,
            "Init": true,
            "IpcMode": "private",
            "NetworkMode": "bridge",
            "RestartPolicy": { "Name": "no" },
            "AutoRemove": false,
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "16m", "max-file": "2" } }
        }
    });
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn a_gpu_job_asks_for_its_real_devices_by_id_and_never_for_emulated_ones() {
    let gpu = |id: &str, emulated| GpuDevice { id: id.into(), model: "a100".into(), emulated };
    let engine = RecordingEngine::start(created());
    let gpus = vec![gpu("GPU-1", false), gpu("GPU-2", false), gpu("node-1-a100-0", true)];
    engine.runtime.create(&ContainerPlan { gpus, ..plan() }).await.expect("it is made");
    let body = engine.request("POST", "/containers/create").body;
    let expected = json!([{
        "Driver": "nvidia", "DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu"]]
    }]);
    assert_eq!(body["HostConfig"]["DeviceRequests"], expected);

    let engine = RecordingEngine::start(created());
    let gpus = vec![gpu("node-1-a100-0", true)];
    engine.runtime.create(&ContainerPlan { gpus, ..plan() }).await.expect("it is made");
    let body = engine.request("POST", "/containers/create").body;
    assert_eq!(body["HostConfig"].get("DeviceRequests"), None);
}

#[tokio::test]
async fn the_smallest_and_the_loneliest_job_are_described_as_docker_wants_it() {
    let engine = RecordingEngine::start(created());
    let small = ContainerPlan {
        cpu_millis: 1,
        memory_bytes: 1,
        network: Network::None,
        command: Vec::new(),
        working_dir: String::new(),
        ..plan()
    };
    engine.runtime.create(&small).await.expect("it is made");
    let body = engine.request("POST", "/containers/create").body;
    assert_eq!(body["HostConfig"]["Memory"], 6 << 20);
    assert_eq!(
        (&body["HostConfig"]["CpuPeriod"], &body["HostConfig"]["CpuQuota"]),
        (&json!(1_000_000), &json!(1_000))
    );
    assert_eq!(body["HostConfig"]["NetworkMode"], "none");
    assert_eq!((body.get("Cmd"), body.get("WorkingDir")), (None, None));
}

#[tokio::test]
async fn a_taken_name_is_adopted_only_when_it_is_the_same_attempt() {
    let conflict = || ("POST", "/containers/create", 409, json!({ "message": "name is already in use" }));
    let found = |labels: Value| ("GET", "/json", 200, json!({ "Id": "abc", "Config": { "Labels": labels } }));
    let engine = RecordingEngine::start(vec![conflict(), found(labels())]);
    assert_eq!(engine.runtime.create(&plan()).await, Ok(()));
    let engine = RecordingEngine::start(vec![conflict(), found(json!({}))]);
    let refused = engine.runtime.create(&plan()).await;
    assert!(matches!(refused, Err(CreateError::Engine(EngineError::Failed(_)))), "{refused:?}");
}

#[tokio::test]
async fn an_engine_without_a_bridge_is_at_fault_and_makes_no_container_that_asks_for_one() {
    let missing = ("GET", "/networks/bridge", 404, json!({ "message": "network bridge not found" }));
    let made = ("POST", "/containers/create", 201, json!({ "Id": "abc", "Warnings": [] }));
    let engine = RecordingEngine::start(vec![missing, made]);
    let refused = engine.runtime.create(&plan()).await;
    let said = |text: &str| text.contains("has no bridge network");
    assert!(
        matches!(&refused, Err(CreateError::Engine(EngineError::Failed(text))) if said(text)),
        "{refused:?}"
    );
    let alone = ContainerPlan { network: Network::None, ..plan() };
    assert_eq!(engine.runtime.create(&alone).await, Ok(()));
}

#[tokio::test]
async fn answers_are_read_for_what_they_mean() {
    let message = |text: &str| json!({ "message": text });
    let engine = RecordingEngine::start(vec![
        ("POST", "/containers/create", 404, message("No such image: busybox:1")),
        ("POST", "/start", 400, message("exec: \"x\": executable file not found in $PATH: unknown")),
        ("POST", "/kill", 409, message("Container abc is not running")),
        ("DELETE", "-7", 404, message("No such container")),
        ("GET", "/json", 404, message("No such container")),
    ]);
    let (runtime, name) = (&engine.runtime, plan().name);
    assert_eq!(runtime.create(&plan()).await, Err(CreateError::NoImage));
    assert!(matches!(runtime.start(&name).await, Err(StartError::Command { code: 127, .. })));
    assert_eq!(runtime.signal(&name, Signal::Term).await, Ok(Delivery::NotRunning));
    assert_eq!(runtime.remove(&name).await, Ok(()));
    assert_eq!(runtime.inspect(&name).await, Ok(None));
    assert!(engine.request("POST", "/kill").path.ends_with("?signal=SIGTERM"));
}

#[tokio::test]
async fn only_containers_of_this_executor_are_listed() {
    let container = json!([{ "Id": "abc", "State": "running", "Labels": labels() }]);
    let engine = RecordingEngine::start(vec![("GET", "/containers/json", 200, container)]);
    let listed = engine.runtime.list(&owner()).await.expect("it is listed");
    assert_eq!(listed[0].attempt, attempt());
    let path = engine.request("GET", "/containers/json").path;
    assert!(path.contains("berth.cluster%3Dprod") && path.contains("berth.executor%3Dnode-1"), "{path}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_no_answer() {
    let host = Some("unix:///nonexistent/docker.sock".to_owned());
    let runtime = DockerRuntime::new(DockerSettings { host });
    assert!(matches!(runtime.list(&owner()).await, Err(EngineError::Unreachable(_))));
}
