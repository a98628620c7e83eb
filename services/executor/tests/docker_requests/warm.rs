//! What is asked of the engine for containers that jobs use one after the other, and what becomes of jobs where
//! that is refused.

use berth_domain::spec::{Network, Reuse};
use berth_executor::runtime::{ContainerPlan, Runtime, Upkeep};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::engine::{Answers, RecordingEngine};
use super::{labels, owner, plan};

/// An engine on which everything succeeds but the start of a job in a container that is there.
fn refusing() -> Answers {
    vec![
        ("POST", "/containers/create", 201, json!({ "Id": "idle", "Warnings": [] })),
        ("PUT", "/idle/archive", 200, Value::Null),
        ("GET", "/containers/json", 200, json!([])),
        ("GET", "/idle/json", 200, json!({ "Id": "idle", "State": { "Running": true, "Pid": 42 } })),
        ("GET", "/json", 200, json!({ "Id": "sha256:1", "Config": { "Entrypoint": ["/entry"] } })),
        ("POST", "/idle/exec", 201, json!({ "Id": "exec-1" })),
        ("POST", "/exec/exec-1/start", 500, json!({ "message": "not today" })),
        ("POST", "/start", 204, Value::Null),
        ("DELETE", "", 204, Value::Null),
    ]
}

fn warm() -> ContainerPlan {
    ContainerPlan { reuse: Reuse::Warm, network: Network::None, ..plan() }
}

fn keep(engine: &RecordingEngine, stop: &CancellationToken) -> JoinHandle<()> {
    let upkeep = Upkeep { owner: owner(), network_slots: 0, stop: stop.clone() };
    tokio::spawn(engine.runtime.upkeep(upkeep).expect("Docker has warm containers"))
}

#[tokio::test]
async fn a_warm_container_has_nothing_of_one_job_and_its_job_runs_behind_init_and_entrypoint() {
    let engine = RecordingEngine::start(refusing());
    let stop = CancellationToken::new();
    let keeping = keep(&engine, &stop);
    engine.runtime.create(&warm()).await.expect("it is made");
    let made = engine.request("POST", "/containers/create").body;
    let own = RecordingEngine::start(refusing());
    own.runtime.create(&ContainerPlan { reuse: Reuse::None, ..warm() }).await.expect("it is made");
    let own = own.request("POST", "/containers/create").body;
    assert_eq!(made["HostConfig"], own["HostConfig"], "limits and rights are those of a job's own");
    let expected = json!({
        "Image": "sha256:1",
        "Entrypoint": ["/berth-pause"],
        "Env": [],
        "WorkingDir": "/work",
        "Labels": {
            "berth.cluster": "prod", "berth.executor": "node-1", "berth.boot-id": "boot", "berth.warm": "team"
        },
        "Healthcheck": { "Test": ["NONE"] },
        "Tty": false,
        "OpenStdin": false,
        "HostConfig": made["HostConfig"],
    });
    assert_eq!(made, expected);
    engine.runtime.start(&warm().name).await.expect("it starts");
    let expected = json!({
        "AttachStdout": true,
        "AttachStderr": true,
        "Env": ["A=1", "BERTH_JOB_ID=job-1"],
        "Cmd": ["/sbin/docker-init", "-s", "--", "/entry", "sh", "-c", "echo $A"],
    });
    assert_eq!(engine.request("POST", "/idle/exec").body, expected);
    stop.cancel();
    keeping.await.expect("it ends");
}

#[tokio::test]
async fn a_job_that_an_engine_refuses_to_run_in_a_warm_container_gets_one_of_its_own() {
    let engine = RecordingEngine::start(refusing());
    let stop = CancellationToken::new();
    let keeping = keep(&engine, &stop);
    engine.runtime.create(&warm()).await.expect("it is made");
    engine.runtime.start(&warm().name).await.expect("it starts");
    let asked = engine.requests("POST", "/containers/create");
    assert_eq!(asked.len(), 2);
    assert_eq!((&asked[1].body["Labels"], &asked[1].body["Image"]), (&labels(), &json!("busybox:1")));
    assert_eq!(engine.requests("POST", &format!("/{}/start", warm().name)).len(), 1);
    stop.cancel();
    keeping.await.expect("it ends");
    assert_eq!(engine.requests("DELETE", "/containers/idle").len(), 1, "the other one goes");
}

#[tokio::test]
async fn without_an_init_process_jobs_get_containers_of_their_own() {
    let info =
        json!({ "ServerVersion": "20.10.24", "InitCommit": { "ID": "N/A" }, "Architecture": "x86_64" });
    let mut answers = refusing();
    answers.insert(0, ("GET", "/info", 200, info));
    let engine = RecordingEngine::start(answers);
    let stop = CancellationToken::new();
    let keeping = keep(&engine, &stop);
    engine.runtime.create(&warm()).await.expect("it is made");
    assert_eq!(engine.request("POST", "/containers/create").body["Labels"], labels());
    stop.cancel();
    keeping.await.expect("it ends");
}

#[tokio::test]
async fn what_an_earlier_process_left_is_gone_before_a_job_gets_a_container() {
    let left = |id: &str, executor: &str| {
        let labels = json!({ "berth.cluster": "prod", "berth.executor": executor, "berth.warm": "team" });
        json!({ "Id": id, "Labels": labels })
    };
    let mut answers = refusing();
    answers.insert(
        0,
        ("GET", "/containers/json", 200, json!([left("old", "node-1"), left("foreign", "node-2")])),
    );
    let engine = RecordingEngine::start(answers);
    let stop = CancellationToken::new();
    let settled = engine.runtime.settle();
    let keeping = keep(&engine, &stop);
    engine.runtime.create(&warm()).await.expect("it is made");
    assert_eq!(engine.requests("DELETE", "/containers/old").len(), 1);
    assert_eq!(engine.requests("DELETE", "/containers/foreign").len(), 0);
    settled.await.expect("nothing of it runs");
    let asked = engine.request("GET", "/containers/json").path;
    for label in ["berth.cluster%3Dprod", "berth.executor%3Dnode-1", "berth.warm"] {
        assert!(asked.contains(label), "{asked}");
    }
    stop.cancel();
    keeping.await.expect("it ends");
}
