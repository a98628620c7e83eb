//! Bad input: a typed error that says what to do, and nothing reaches the store.

use berth_integration_tests::cluster::Cluster;
use berth_integration_tests::docker::IMAGE;
use berth_integration_tests::http::{self, Answer};
use serde_json::{Value, json};

fn post(cluster: &Cluster, body: &[u8]) -> Answer {
    http::request(&cluster.scheduler.http, "POST", "/jobs", &[], body)
}

/// Expects a 400 that names the field, and gives its message.
fn refused(answer: &Answer, field: &str) -> String {
    let error = answer.json()["error"].clone();
    assert_eq!((answer.status, &error["status"]), (400, &json!("INVALID_ARGUMENT")), "{error}");
    let details = error["details"].as_array().cloned().unwrap_or_default();
    let info = details.iter().find(|detail| detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo");
    assert_eq!(info.map(|info| &info["domain"]), Some(&json!("berth.dev")), "{error}");
    let bad = details.iter().find(|detail| detail["@type"] == "type.googleapis.com/google.rpc.BadRequest");
    let fields = bad.map(|bad| bad["fieldViolations"].to_string()).unwrap_or_default();
    assert!(field.is_empty() || fields.contains(field), "{field} is named in {error}");
    error["message"].as_str().expect("it has a message").to_owned()
}

#[test]
fn bad_requests_are_refused_with_field_and_hint_and_none_reaches_the_store() {
    let cluster = Cluster::start();
    let before = cluster.redis.cli(&["HGET", &format!("{{{}}}:meta", cluster.name), "revision"]);
    let try_json = |body: Value, field: &str, hint: &str| {
        let message = refused(&post(&cluster, body.to_string().as_bytes()), field);
        assert!(message.contains(hint), "{message:?} says {hint:?}");
    };
    try_json(json!({ "image": IMAGE, "comand": ["true"] }), "comand", "did you mean \"command\"?");
    try_json(json!({ "image": IMAGE, "resources": { "cpuMillis": -1 } }), "cpu_millis", "positive");
    try_json(json!({ "image": IMAGE, "cpus": 0 }), "cpu", "positive");
    try_json(json!({ "image": IMAGE, "memory": "2GB" }), "memory", "ambiguous");
    try_json(json!({ "image": "" }), "spec.image", "must not be empty");
    try_json(json!({ "image": IMAGE, "command": "echo hi" }), "command", "must be a list");
    try_json(json!({ "image": IMAGE, "command": ["x".repeat(300 * 1024)] }), "spec", "the limit is 262144");
    let env: serde_json::Map<String, Value> = (0..10_000).map(|i| (format!("E{i}"), json!(""))).collect();
    try_json(json!({ "image": IMAGE, "env": env }), "env", "the limit is 1000");
    try_json(json!({ "image": IMAGE, "priority": 101 }), "priority", "0 to 100");
    try_json(json!({ "image": IMAGE, "queueTimeout": "-5s" }), "queue_timeout", "");
    try_json(json!({ "image": IMAGE, "labels": { "berth.job": "x" } }), "labels", "Berth's own");
    try_json(
        json!({ "image": IMAGE, "onLost": "FAIL", "maxRetries": 2 }),
        "max_retries",
        "at most one start",
    );
    refused(&post(&cluster, b"{\"image\": \"\xff\xfe\"}"), "");
    let twice =
        refused(&post(&cluster, format!("{{\"image\":\"{IMAGE}\",\"image\":\"other\"}}").as_bytes()), "");
    assert!(twice.contains("twice") || twice.contains("duplicate"), "{twice}");
    refused(&post(&cluster, b"[1, 2"), "");
    refused(&post(&cluster, "[".repeat(100_000).as_bytes()), "");
    let after = cluster.redis.cli(&["HGET", &format!("{{{}}}:meta", cluster.name), "revision"]);
    assert_eq!(before, after, "no revision was made");
}

#[test]
fn unknown_ids_ended_jobs_and_foreign_page_tokens_are_refused() {
    let cluster = crate::small_cluster();
    let get = |path: &str| http::request(&cluster.scheduler.http, "GET", path, &[], b"");
    let unknown = get("/jobs/no-such-job");
    assert_eq!((unknown.status, &unknown.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
    let ids: Vec<String> = (0..3).map(|_| cluster.shell("true")).collect();
    for id in &ids {
        cluster.ended(id);
    }
    let path = format!("/jobs/{}/abort", ids[0]);
    let ended = http::request(&cluster.scheduler.http, "POST", &path, &[], b"");
    assert_eq!((ended.status, &ended.json()["error"]["status"]), (400, &json!("FAILED_PRECONDITION")));
    let page = http::get(&cluster.scheduler.http, "/jobs?pageSize=1");
    let token = page["nextPageToken"].as_str().expect("there is another page");
    let foreign = get(&format!("/jobs?pageSize=1&state=running&pageToken={token}"));
    let message = refused(&foreign, "page_token");
    assert!(message.contains("belongs to another filter"), "{message}");
    refused(&get("/jobs?pageSize=-1"), "page_size");
    refused(&get("/jobs?filter=stat%20%3D%20x"), "filter");
}
