//! Containers that jobs use one after the other: what they share, what they never do, and what ends a container.

use std::collections::BTreeSet;

use berth_integration_tests::cluster::{Cluster, id_of, job};
use berth_integration_tests::docker;
use berth_integration_tests::wait::until;
use serde_json::{Value, json};

use crate::{MEDIUM, small_cluster};

fn warm(line: &str) -> Value {
    with(line, json!({}))
}

fn with(line: &str, more: Value) -> Value {
    let mut wanted = job(&["sh", "-c", line]);
    let (Some(fields), Some(more)) = (wanted.as_object_mut(), more.as_object()) else {
        panic!("a job is an object");
    };
    fields.insert("cpus".to_owned(), json!(1));
    fields.insert("reuse".to_owned(), json!("warm"));
    fields.extend(more.clone());
    wanted
}

fn logs(cluster: &Cluster, id: &str) -> (String, String) {
    let output = cluster.berth(&["logs", id]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Runs a job to its success; gives what it printed.
fn said(cluster: &Cluster, body: &Value) -> String {
    let id = id_of(&cluster.submit(body));
    let job = cluster.ended(&id);
    let (out, err) = logs(cluster, &id);
    assert_eq!(job["state"], "SUCCEEDED", "{job} {out} {err}");
    out.trim().to_owned()
}

/// Submits a job that prints its host name first, and waits until it runs; gives its id and its container's.
fn running(cluster: &Cluster, body: &Value) -> (String, String) {
    let id = id_of(&cluster.submit(body));
    cluster.reaches(&id, &["RUNNING"]);
    let container = until("it has printed its host name", || {
        let out = logs(cluster, &id).0;
        out.lines().next().map(str::to_owned)
    });
    (id, container)
}

fn is_gone(container: &str) -> bool {
    !docker::docker(&["inspect", container]).status.success()
}

fn own_containers(cluster: &Cluster) -> Vec<String> {
    docker::containers(&cluster.name)
}

#[test]
fn many_short_jobs_share_containers_and_each_has_its_own_code_and_output() {
    let cluster = small_cluster();
    let submitted: Vec<(usize, String)> = (0..12)
        .map(|number| {
            let line = format!("hostname; echo out-{number}; echo err-{number} >&2; exit {}", number % 3);
            (number, id_of(&cluster.submit(&warm(&line))))
        })
        .collect();
    let mut containers = BTreeSet::new();
    for (number, id) in submitted {
        let job = cluster.ended(&id);
        assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(number % 3), &json!(1)), "{job}");
        let (out, err) = logs(&cluster, &id);
        let (container, rest) = out.split_once('\n').expect("two lines");
        assert_eq!((rest, err.as_str()), (&*format!("out-{number}\n"), &*format!("err-{number}\n")));
        containers.insert(container.to_owned());
    }
    let there: BTreeSet<String> = docker::warm(&cluster.name).iter().map(|id| id[..12].to_owned()).collect();
    assert!(containers.len() <= 6, "they are used again: {containers:?}");
    assert_eq!(containers, there);
    assert_eq!(own_containers(&cluster), Vec::<String>::new());
}

#[test]
fn a_warm_container_has_the_rights_and_limits_of_a_jobs_own() {
    let cluster = small_cluster();
    let line = "berth-job whoami; berth-job limits; pwd; env | grep -v -e HOSTNAME -e BERTH_ | sort";
    let body = with(line, json!({ "workingDir": "/tmp", "env": { "A": "1" }, "memory": "48Mi" }));
    let shared = said(&cluster, &body);
    assert_eq!(docker::warm(&cluster.name).len(), 1);
    let mut alone = body;
    alone["reuse"] = json!("none");
    assert_eq!(shared, said(&cluster, &alone));
    assert!(shared.contains("/tmp") && shared.contains("A=1"), "{shared}");
    let (warm, own) = (&docker::warm(&cluster.name)[0], &own_containers(&cluster)[0]);
    let host = |container: &str| {
        let mut host = docker::inspect(container)["HostConfig"].clone();
        // In a slot, a job's network is another container's, and so are some files.
        host["NetworkMode"] = Value::Null;
        host["Mounts"] = Value::Null;
        host
    };
    assert_eq!(host(warm), host(own));
    let config = docker::inspect(warm)["Config"].clone();
    let labels = config["Labels"].as_object().expect("it has labels");
    assert_eq!((&labels["berth.cluster"], &labels["berth.warm"]), (&json!(cluster.name), &json!("default")));
    assert!(!labels.contains_key("berth.job") && !config["Env"].to_string().contains("A=1"), "{config}");
}

#[test]
fn nothing_of_one_job_is_in_the_environment_of_the_next() {
    let cluster = small_cluster();
    let first = said(&cluster, &with("hostname; echo $SECRET", json!({ "env": { "SECRET": "x" } })));
    let container = first.strip_suffix("\nx").expect("it saw its own");
    until("a job is in the same container", || {
        let next = said(&cluster, &warm("hostname; echo $SECRET; echo $BERTH_JOB_ID"));
        let (other, id) = next.split_once("\n\n").expect("its own id, and no secret");
        assert!(!id.is_empty());
        (other == container).then_some(())
    });
}

#[test]
fn long_output_is_whole_and_in_order() {
    let cluster = small_cluster();
    let line = "berth-job lines 30000 80";
    let said = said(&cluster, &warm(line));
    let mut alone = warm(line);
    alone["reuse"] = json!("none");
    assert!(said.len() > 2_000_000, "it is more than is kept on its way");
    assert!(said == self::said(&cluster, &alone), "it is what a job of its own prints");
    assert_eq!(docker::warm(&cluster.name).len(), 1, "it was in a warm one");
}

#[test]
fn a_job_that_leaves_a_process_ends_its_container() {
    let cluster = small_cluster();
    for line in ["sleep 1000 > /dev/null 2>&1 & hostname", "sleep 1000 & hostname"] {
        let container = said(&cluster, &warm(line));
        let next = said(&cluster, &warm("ps | grep 'sleep 100[0]'; hostname"));
        assert_ne!(next, container, "{line}");
        until("the container is gone", || is_gone(&container).then_some(()));
    }
}

#[test]
fn a_command_that_cannot_be_run_ends_as_in_a_container_of_its_own() {
    let cluster = small_cluster();
    let mut body = warm("");
    body["command"] = json!(["no-such-program"]);
    let ended = ["warm", "none"].map(|reuse| {
        body["reuse"] = json!(reuse);
        let id = id_of(&cluster.submit(&body));
        let job = cluster.ended(&id);
        (job["exitCode"].clone(), job["endReason"].clone(), logs(&cluster, &id).1.contains("no-such-program"))
    });
    assert_eq!(ended[0], (json!(127), json!("EXIT_CODE"), true));
    assert_eq!(ended[0], ended[1]);
}

#[test]
fn an_abort_and_a_run_timeout_end_the_container_and_not_the_next_job() {
    let cluster = small_cluster();
    let forever = "hostname; trap '' TERM; while true; do sleep 0.1; done";
    let (id, container) = running(&cluster, &warm(forever));
    cluster.berth_ok(&["abort", &id]);
    let job = cluster.ended(&id);
    assert_eq!((&job["state"], &job["endReason"]), (&json!("ABORTED"), &json!("ABORTED_BY_USER")), "{job}");
    assert!(!docker::is_running(&container), "it was dead before the end was told");
    let timed = with(forever, json!({ "runTimeout": "1s" }));
    let (id, late) = running(&cluster, &timed);
    let job = cluster.ended(&id);
    assert_eq!((&job["state"], &job["endReason"]), (&json!("FAILED"), &json!("RUN_TIMEOUT")), "{job}");
    let next = said(&cluster, &warm("hostname"));
    assert!(next != container && next != late);
    until("both are gone", || (is_gone(&container) && is_gone(&late)).then_some(()));
}

#[test]
fn running_out_of_memory_and_a_large_exit_code_are_the_jobs_own_and_end_the_container() {
    let cluster = small_cluster();
    let greedy = id_of(&cluster.submit(&with("hostname; berth-job alloc 200", json!({ "memory": "48Mi" }))));
    let job = cluster.ended(&greedy);
    assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(137), &json!(1)), "{job}");
    assert_eq!(job["endReason"], "OOM_KILLED", "{job}");
    let large = id_of(&cluster.submit(&warm("hostname; exit 200")));
    assert_eq!(cluster.ended(&large)["exitCode"], 200);
    for id in [greedy, large] {
        let container = logs(&cluster, &id).0.trim().to_owned();
        until("the container is gone", || is_gone(&container).then_some(()));
    }
}

#[test]
fn what_differs_in_namespace_resources_or_network_never_shares() {
    let cluster = small_cluster();
    let first = said(&cluster, &warm("hostname"));
    let others = [
        json!({ "namespace": "other" }),
        json!({ "memory": "40Mi" }),
        json!({ "cpus": 0.5 }),
        json!({ "workingDir": "/tmp" }),
        json!({ "network": "bridge" }),
    ];
    let mut seen = BTreeSet::from([first.clone()]);
    for other in others {
        assert!(seen.insert(said(&cluster, &with("hostname", other.clone()))), "{other}");
    }
    let labels = json!({ "labels": { "a": "b" }, "priority": 70, "runTimeout": "60s", "stopGrace": "1s" });
    until("these shape no container", || {
        (said(&cluster, &with("hostname", labels.clone())) == first).then_some(())
    });
}

#[test]
fn the_network_is_the_one_that_was_asked_for() {
    let cluster = small_cluster();
    assert_eq!(said(&cluster, &warm("ls /sys/class/net")), "lo");
    let bridged = said(&cluster, &with("ls /sys/class/net", json!({ "network": "bridge" })));
    assert!(bridged.contains("eth0"), "{bridged}");
    assert_eq!(docker::warm(&cluster.name).len(), 2);
}

/// Tells its host name on its first attempt and runs on; ends with 5 on a later one.
const TWICE: &str = "[ $BERTH_ATTEMPT != 1 ] && exit 5; hostname; while true; do sleep 0.1; done";

#[test]
fn a_job_whose_container_is_killed_by_hand_runs_again() {
    let cluster = small_cluster();
    let (id, container) = running(&cluster, &warm(TWICE));
    docker::docker_ok(&["kill", &container]);
    let job = cluster.ended(&id);
    assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(5), &json!(2)), "{job}");
}

#[test]
fn a_job_whose_executor_was_killed_runs_again_once_its_container_is_gone() {
    let mut cluster = small_cluster();
    let (id, container) = running(&cluster, &warm(TWICE));
    assert!(docker::is_running(&container));
    cluster.restart_executor(0);
    let job = cluster.ended(&id);
    assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(5), &json!(2)), "{job}");
    assert!(is_gone(&container));
    assert_eq!(said(&cluster, &warm("echo fine")), "fine");
}

#[test]
fn an_executor_that_stops_takes_its_warm_containers_with_it() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", MEDIUM, &[]);
    let (id, _) = running(&cluster, &warm(TWICE));
    said(&cluster, &warm("true"));
    assert_eq!(docker::warm(&cluster.name).len(), 2);
    assert_eq!(cluster.executors[0].process.stop(), Some(0));
    assert_eq!(docker::warm(&cluster.name), Vec::<String>::new());
    cluster.start_executor(0);
    let job = cluster.ended(&id);
    assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(5), &json!(2)), "{job}");
}

#[test]
fn the_command_line_asks_for_it_and_the_job_shows_it() {
    let cluster = small_cluster();
    let flags = ["run", "--reuse", "warm", "--network", "none", "--name", "w", docker::IMAGE];
    assert_eq!(cluster.berth_ok(&[&flags[..], &["echo", "hello"]].concat()), "hello\n");
    let shown = cluster.berth_ok(&["ps", "-a", "-o", "json"]);
    assert!(shown.contains("\"w\""), "{shown}");
    let refused = cluster.berth(&flags);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("needs a command"), "{refused:?}");
    let id = id_of(&cluster.submit(&warm("true")));
    assert_eq!(cluster.job(&id)["spec"]["reuse"], "warm");
}
