//! The commands of `berth` against a real cluster.

use berth_integration_tests::docker::IMAGE;
use serde_json::{Value, json};

use crate::small_cluster;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn run_shows_the_jobs_own_output_and_exits_with_its_code() {
    let cluster = small_cluster();
    let run = |arguments: &[&str]| {
        let all: Vec<&str> = ["run", "--cpus", "0.1", "-m", "32m", "--network", "none"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        cluster.berth(&all)
    };
    let output = run(&[IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(
        (text(&output.stdout).as_str(), output.status.code()),
        ("out\n", Some(3)),
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stderr).contains("err\n"));
    assert_eq!(run(&[IMAGE, "true"]).status.code(), Some(0));
    let oom = run(&[IMAGE, "berth-job", "alloc", "200"]);
    assert_eq!(oom.status.code(), Some(137));
    assert!(text(&oom.stderr).contains("killed: out of memory"), "{}", text(&oom.stderr));
    assert_eq!(run(&[IMAGE, "no-such-program"]).status.code(), Some(127));
    assert_eq!(run(&["--timeout", "1s", IMAGE, "sleep", "300"]).status.code(), Some(124));
    let impossible = run(&["--queue-timeout", "1s", "--cpus", "64", IMAGE, "true"]);
    assert_eq!(impossible.status.code(), Some(125), "{}", text(&impossible.stderr));
}

#[test]
fn the_other_commands_say_what_they_know_and_exit_as_documented() {
    let cluster = small_cluster();
    let id =
        cluster.berth_ok(&["run", "-d", "--name", "first", "-m", "32m", IMAGE, "true"]).trim().to_owned();
    assert_eq!(id.len(), 36, "the bare id");
    let waited = cluster.berth(&["wait", &id]);
    assert_eq!(waited.status.code(), Some(0), "{}", text(&waited.stderr));
    let json_of = |arguments: &[&str]| -> Value {
        serde_json::from_str(&cluster.berth_ok(arguments)).expect("it prints JSON")
    };
    assert_eq!(json_of(&["get", &id[..13], "-o", "json"])["state"], "SUCCEEDED", "by a prefix");
    assert_eq!(json_of(&["get", "first", "-o", "json"])["id"], json!(id), "by name");
    assert_eq!(json_of(&["get", "last", "-o", "json"])["id"], json!(id), "the newest");
    assert_eq!(json_of(&["ps", "-a", "-o", "json"])["jobs"][0]["id"], json!(id));
    assert_eq!(json_of(&["executors", "-o", "json"])["executors"][0]["id"], "executor-1");
    let status = json_of(&["status", "-o", "json"]);
    assert_eq!(
        (&status["clusterId"], &status["leader"]["schedulerId"]),
        (&json!(cluster.name), &json!("scheduler-1")),
        "{status}"
    );
    assert_eq!(
        (&status["store"]["kind"], &status["counts"]["SUCCEEDED"]),
        (&json!("redis"), &json!(1)),
        "{status}"
    );
    assert!(cluster.berth_ok(&["ps", "-a"]).contains("SUCCEEDED"));
    assert_eq!(cluster.berth(&["health"]).status.code(), Some(0));
    assert_eq!(cluster.berth(&["get", "no-such-job"]).status.code(), Some(3));
    assert_eq!(cluster.berth(&["abort", &id]).status.code(), Some(5));
    assert_eq!(cluster.berth(&["run"]).status.code(), Some(2));
    let gone = cluster.berth(&["--addr", "127.0.0.1:1", "--retry-for", "0s", "ps"]);
    assert_eq!(gone.status.code(), Some(4), "{}", text(&gone.stderr));
}
