//! The other commands against a cluster in this process.
use std::process::Stdio;

use crate::fake::{Cluster, Left, Step, berth, call, dead_address, ended, named, serve};
use berth_api::v1::{EndReason, Job, JobState};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

fn some_jobs() -> Vec<Job> {
    vec![
        ended("0193ab01", JobState::Succeeded, Some(0)),
        ended("0193ab02", JobState::Failed, Some(3)),
        named("0193cd01", "nightly"),
        named("0193cd02", "nightly"),
        named("0193ef01", "0193"),
    ]
}

fn json(left: &Left) -> Value {
    assert_eq!(left.code, 0, "{left:?}");
    serde_json::from_str(&left.stdout).expect("is JSON")
}

#[tokio::test]
async fn a_job_is_found_by_id_prefix_name_and_last() {
    let address = serve(&Cluster::new(some_jobs(), Vec::new())).await;
    let found = [
        ("0193ab02", "0193ab02\n"),
        ("0193e", "0193ef01\n"),
        ("nightly", "0193cd02\n"),
        ("0193", "0193ef01\n"),
        ("last", "0193ef01\n"),
    ];
    for (text, id) in found {
        let left = call(&[address], &["get", "-o", "name", text]).await;
        assert_eq!((left.code, left.stdout.as_str()), (0, id), "{text}: {left:?}");
    }
    let several = call(&[address], &["get", "0193a"]).await;
    assert_eq!(several.code, 2);
    assert_eq!(
        several.stderr,
        "error: \"0193a\" means 2 jobs: 0193ab02, 0193ab01\nhint: Give more characters of the id.\n"
    );
    let none = call(&[address], &["get", "zzz"]).await;
    assert_eq!((none.code, none.stdout.as_str()), (3, ""));
    assert!(none.stderr.contains("no job has the id, prefix or name \"zzz\""), "{none:?}");
}

#[tokio::test]
async fn a_dead_first_address_is_passed_over() {
    let address = serve(&Cluster::new(some_jobs(), Vec::new())).await;
    let left = call(&[dead_address().await, address], &["get", "-o", "name", "nightly"]).await;
    assert_eq!((left.code, left.stdout.as_str(), left.stderr.as_str()), (0, "0193cd02\n", ""));
}

#[tokio::test]
async fn an_unreachable_cluster_is_4_with_the_next_command() {
    let left = call(&[dead_address().await], &["ps", "--retry-for", "1s"]).await;
    assert_eq!(left.code, 4);
    assert!(left.stderr.contains("onnection refused"), "{left:?}");
    assert!(left.stderr.contains("hint: Set BERTH_ADDR"), "{left:?}");
}

#[tokio::test]
async fn json_equals_the_rest_answers() {
    let address = serve(&Cluster::new(some_jobs(), Vec::new())).await;
    let job = json(&call(&[address], &["get", "0193ab02", "-o", "json"]).await);
    assert_eq!(
        (&job["id"], &job["state"], &job["exitCode"]),
        (&"0193ab02".into(), &"FAILED".into(), &3.into())
    );
    assert_eq!((&job["endReason"], &job["revision"]), (&"EXIT_CODE".into(), &0.into()));
    let list = json(&call(&[address], &["ps", "-a", "-o", "json"]).await);
    assert_eq!(list["jobs"].as_array().map(Vec::len), Some(5), "all pages are read");
    assert_eq!(list["nextPageToken"], "");
    let executors = json(&call(&[address], &["executors", "-o", "json"]).await);
    assert_eq!(executors["executors"][1]["id"], "executor-2");
    let status = json(&call(&[address], &["status", "-o", "json"]).await);
    assert_eq!((&status["clusterId"], &status["leader"]["epoch"]), (&"fake".into(), &7.into()));
    assert_eq!((&status["store"]["kind"], &status["counts"]["RUNNING"]), (&"embedded".into(), &2.into()));
    assert_eq!(status["schedulers"][0]["id"], "s1");
    let yaml = call(&[address], &["get", "0193ab02", "-o", "yaml"]).await;
    assert!(yaml.stdout.contains("\nstate: FAILED\n"), "{yaml:?}");
    let lines = call(&[address], &["ps", "-o", "jsonl"]).await;
    assert_eq!(lines.stdout.lines().count(), 5);
}

#[tokio::test]
async fn old_jobs_are_hidden_and_counted() {
    let mut old = ended("0193aa01", JobState::Failed, Some(1));
    old.end_time = Some(prost_types::Timestamp { seconds: 1_000_000, nanos: 0 });
    old.create_time = old.end_time;
    let address = serve(&Cluster::new([vec![old], some_jobs()].concat(), Vec::new())).await;
    let left = call(&[address], &["ps", "-o", "name"]).await;
    assert_eq!(left.stdout.lines().count(), 5, "{left:?}");
    assert_eq!(left.stderr, "1 older job is hidden; -a shows all\n");
    let all = call(&[address], &["ps", "-a", "-o", "name"]).await;
    assert_eq!((all.stdout.lines().count(), all.stderr.as_str()), (6, ""));
}

#[tokio::test]
async fn wait_tells_success_failure_and_time_out_apart() {
    let address = serve(&Cluster::new(some_jobs(), Vec::new())).await;
    let good = call(&[address], &["wait", "0193ab01"]).await;
    assert_eq!((good.code, good.stdout.as_str()), (0, "0193ab01 SUCCEEDED 0\n"));
    let bad = call(&[address], &["wait", "0193ab01", "0193ab02"]).await;
    assert_eq!((bad.code, bad.stdout.lines().count()), (1, 2), "{bad:?}");
    let late = call(&[address], &["wait", "nightly", "--timeout", "200ms"]).await;
    assert_eq!((late.code, late.stdout.as_str()), (124, "0193cd02 RUNNING -\n"));
}

#[tokio::test]
async fn abort_ends_each_job_and_says_how_it_stands() {
    let cluster = Cluster::new(some_jobs(), Vec::new());
    let address = serve(&cluster).await;
    let left = call(&[address], &["abort", "0193cd01", "0193ab01", "--reason", "no need"]).await;
    assert_eq!((left.code, left.stdout.as_str()), (0, "0193cd01 ABORTED\n0193ab01 SUCCEEDED\n"), "{left:?}");
    assert_eq!(cluster.calls(), ["abort no need", "abort no need"]);
}

#[tokio::test]
async fn logs_are_printed_and_followed() {
    use berth_api::v1::log_entry::Stream;
    let script = vec![
        Step::Assign,
        Step::Start,
        Step::Write(Stream::Stdout, "a\n".into()),
        Step::Until("logs 1 from 0 follow true"),
        Step::Write(Stream::Stdout, "b\n".into()),
        Step::End(JobState::Succeeded, EndReason::ExitCode, Some(0)),
    ];
    let cluster = Cluster::new(Vec::new(), script);
    let address = serve(&cluster).await;
    let mut changes = cluster.changes();
    let id = call(&[address], &["run", "-d", "busybox"]).await.stdout;
    while cluster.known().logs.is_empty() {
        changes.changed().await.expect("the cluster is there");
    }
    let so_far = call(&[address], &["logs", id.trim()]).await;
    assert_eq!((so_far.code, so_far.stdout.as_str()), (0, "a\n"), "{so_far:?}");
    let all = call(&[address], &["logs", "-f", id.trim()]).await;
    assert_eq!((all.code, all.stdout.as_str(), all.stderr.as_str()), (0, "a\nb\n", ""));
}

#[tokio::test]
async fn submit_reads_one_job_or_a_list() {
    let cluster = Cluster::new(Vec::new(), Vec::new());
    let address = serve(&cluster).await;
    let one = submit(address, "image: busybox\ncommand: [echo, hi]\ncpus: 0.5\n").await;
    assert_eq!((one.code, one.stdout.as_str()), (0, "0193ffff-0000\n"), "{one:?}");
    let spec = cluster.job("0193ffff-0000").and_then(|job| job.spec).expect("is stored");
    assert_eq!((spec.image.as_str(), spec.resources.expect("has some").cpu_millis), ("busybox", 500));
    let list = submit(address, r#"[{"image": "a"}, {"image": "b", "displayName": "x"}]"#).await;
    assert_eq!((list.code, list.stdout.as_str()), (0, "0193ffff-0001\n0193ffff-0002\n"), "{list:?}");
    assert_eq!(cluster.calls(), ["submit", "batch 2 false"], "a batch always has a key");
    let wrong = submit(address, "image: busybox\ncomand: [echo]\n").await;
    assert_eq!((wrong.code, wrong.stdout.as_str()), (5, ""));
    assert!(wrong.stderr.contains("comand") && wrong.stderr.contains("did you mean"), "{wrong:?}");
    assert_eq!(submit(address, "a: [").await.code, 2);
}

async fn submit(address: std::net::SocketAddr, text: &str) -> Left {
    let mut command = berth(&[address], &["submit", "-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("is piped");
    stdin.write_all(text.as_bytes()).await.expect("is read");
    drop(stdin);
    child.wait_with_output().await.expect("ends").into()
}

#[tokio::test]
async fn health_asks_every_address() {
    let address = serve(&Cluster::new(Vec::new(), Vec::new())).await;
    let good = call(&[address], &["health"]).await;
    assert_eq!((good.code, good.stdout), (0, format!("{address} SERVING\n")));
    let dead = dead_address().await;
    let bad = call(&[address, dead], &["health"]).await;
    assert_eq!((bad.code, bad.stdout), (1, format!("{address} SERVING\n{dead} UNREACHABLE\n")));
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_failure() {
    let address = serve(&Cluster::new(some_jobs(), Vec::new())).await;
    let mut child = berth(&[address], &["ps"]).spawn().expect("the program starts");
    drop(child.stdout.take());
    let left: Left = child.wait_with_output().await.expect("ends").into();
    assert_eq!((left.code, left.stderr.as_str()), (0, ""));
}

#[tokio::test]
async fn what_needs_no_cluster_works_without_one() {
    let version = call(&[], &["--addr", "127.0.0.1:1", "version"]).await;
    assert_eq!(version.code, 0, "{version:?}");
    assert!(version.stdout.starts_with("berth 0."), "{version:?}");
    let script = call(&[dead_address().await], &["completion", "bash"]).await;
    assert!(script.code == 0 && script.stdout.contains("_berth"), "{}", script.stderr);
}

/// Calls `berth plan -f -` on a document.
async fn planned(address: std::net::SocketAddr, document: &str, flags: &[&str]) -> Left {
    let line: Vec<&str> = ["plan", "-f", "-"].iter().chain(flags).copied().collect();
    let mut child = berth(&[address], &line).stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(document.as_bytes()).await.expect("it reads");
    drop(stdin);
    child.wait_with_output().await.expect("it ends").into()
}

#[tokio::test]
async fn a_plan_says_whether_a_job_starts_now_waits_or_never_fits() {
    let address = serve(&Cluster::new(Vec::new(), Vec::new())).await;
    let left = planned(address, "image: busybox\ncpus: 2", &[]).await;
    let table = "Outcome: starts now on executor-2\n\n\
                 EXECUTOR    FITS NOW  FITS EMPTY  WHY\n\
                 executor-2  yes       yes         -\n\
                 executor-1  no        yes         Has 0m free.\n";
    assert_eq!((left.code, left.stdout.as_str(), left.stderr.as_str()), (0, table, ""));
    let left = planned(address, "{image: busybox, cpus: 3}", &[]).await;
    assert_eq!(left.code, 3, "{left:?}");
    assert!(
        left.stdout.starts_with("Outcome:        waits: Fits 2 executors.\nQueue position: 3\n"),
        "{left:?}"
    );
    let left = planned(address, "{image: busybox, cpus: 9}", &["-o", "json"]).await;
    let answer: Value = serde_json::from_str(&left.stdout).expect("is JSON");
    assert_eq!((left.code, &answer["reason"]["code"]), (5, &Value::from("TOO_LARGE")));
    assert_eq!(planned(address, "{image: busybox, cpus: 2}", &["-o", "name"]).await.stdout, "executor-2\n");
}

#[tokio::test]
async fn the_plan_of_a_list_is_as_bad_as_its_worst_job() {
    let address = serve(&Cluster::new(Vec::new(), Vec::new())).await;
    let list = "[{image: busybox, cpus: 1}, {image: busybox, cpus: 9}, {image: busybox, cpus: 3}]";
    let left = planned(address, list, &["-o", "wide"]).await;
    let table = "JOB  OUTCOME                   FIT NOW  FIT EMPTY  EXECUTORS\n\
                 [0]  starts now on executor-2  1        2          2\n\
                 [1]  never fits: Needs more.   0        0          2\n\
                 [2]  waits: Fits 2 executors.  0        2          2\n";
    assert_eq!((left.code, left.stdout.as_str()), (5, table));
    let left = planned(address, list, &["-o", "jsonl"]).await;
    assert_eq!(left.stdout.lines().count(), 3, "{left:?}");
    let left = planned(address, "[{image: busybox}, {image: busybox, cpu: 3}]", &[]).await;
    assert_eq!((left.code, left.stdout.as_str()), (2, ""), "a wrong file is not a plan that never fits");
    assert!(left.stderr.contains("[1].spec.cpu"), "{left:?}");
}

#[tokio::test]
async fn a_job_is_explained() {
    let address = serve(&Cluster::new(some_jobs(), Vec::new())).await;
    let left = call(&[address], &["explain", "0193ab02"]).await;
    assert_eq!(left.code, 0, "{left:?}");
    let about =
        "Id:    0193ab02\nState: FAILED\nEnd:   EXIT_CODE\nAgain: starts now on executor-2\n\nEXECUTOR ";
    assert!(left.stdout.starts_with(about), "{left:?}");
    let left = call(&[address], &["explain", "nightly", "-o", "json"]).await;
    assert_eq!(json(&left)["executorId"], "executor-2");
    assert_eq!(call(&[address], &["explain", "zzz"]).await.code, 3);
}
