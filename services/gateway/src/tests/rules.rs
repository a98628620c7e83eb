//! Each JSON rule, in and out.

use serde_json::{Value as Json, json};

use super::fake::job;
use super::{Fake, Rest};
use crate::json::{parse_submit, render};

#[tokio::test]
async fn a_job_is_shown_by_the_rules() {
    let answer = Rest::new().get("/jobs/j1").await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.body.ends_with("}\n"));
    let shown = answer.json();
    // Unset messages, optional fields and unspecified enums.
    for name in ["spec", "pendingReason", "startTime", "endTime", "phase", "array"] {
        assert_eq!(shown[name], Json::Null, "{name}");
        assert!(shown.as_object().is_some_and(|job| job.contains_key(name)), "{name} is missing");
    }
    assert_eq!(shown["state"], "RUNNING");
    assert_eq!(shown["endReason"], "OOM_KILLED");
    assert_eq!(shown["exitCode"], 0);
    assert_eq!(shown["revision"], 0);
    assert_eq!(shown["displayName"], "");
    assert_eq!(shown["gpuDeviceIds"], json!([]));
    assert_eq!(shown["unreachable"], false);
    assert_eq!(shown["createTime"], "2026-01-01T00:00:00.005Z");
    // Above 2^53, and still a number.
    assert!(answer.body.contains("\"attemptEpoch\":9007199254740993,"), "{}", answer.body);
    assert_eq!(shown, render("berth.v1.Job", &job("j1")), "-o json equals REST");
}

#[tokio::test]
async fn lists_stats_and_clusters_have_the_promised_names() {
    let rest = Rest::new();
    let jobs = rest.get("/jobs").await.json();
    assert_eq!((&jobs["jobs"][0]["id"], &jobs["nextPageToken"]), (&json!("j1"), &json!("")));
    let stats = rest.get("/stats").await.json();
    assert_eq!(stats["leaderSchedulerId"], "s1");
    assert_eq!(stats["waitP50"], "1.5s");
    assert_eq!(stats["pendingCount"], 0);
    assert_eq!(stats["capacity"], Json::Null);
    let executors = rest.get("/executors").await.json();
    for name in ["capacity", "reserved", "available", "used"] {
        assert!(executors["executors"][0].get(name).is_some(), "{name}");
    }
    assert_eq!(rest.get("/v1/cluster").await.json()["counts"], json!({"RUNNING": 3}));
}

#[tokio::test]
async fn a_submit_takes_the_spec_at_top_level_and_every_short_form() {
    let rest = Rest::new();
    let body = json!({
        "name": "train", "image": "busybox", "command": ["sh", "-c", "echo hi"], "cpus": 0.5,
        "memory": "512Mi", "gpus": {"type": "A100", "count": 2}, "env": {"A": "b"}, "onLost": "fail",
        "run_timeout": "1h30m", "queueTimeout": 90, "stop_grace": "500ms", "priority": "7",
        "validate_only": true, "arraySize": 3,
    });
    let answer = rest.ask("POST", "/jobs", &[("content-type", "text/plain")], body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let submitted = Fake::last(&rest.fake.submitted);
    assert_eq!(submitted.display_name, "train");
    assert_eq!((submitted.validate_only, submitted.array_size), (true, 3));
    let spec = submitted.spec.expect("it is set");
    assert_eq!(spec.command, ["sh", "-c", "echo hi"]);
    assert_eq!(spec.priority, Some(7));
    assert_eq!(spec.on_lost, 2);
    assert_eq!(spec.run_timeout.map(|d| d.seconds), Some(5_400));
    assert_eq!(spec.queue_timeout.map(|d| d.seconds), Some(90));
    assert_eq!(spec.stop_grace.map(|d| d.nanos), Some(500_000_000));
    let resources = spec.resources.expect("it is set");
    assert_eq!((resources.cpu_millis, resources.memory_bytes), (500, 512 << 20));
    assert_eq!((resources.gpu_count, resources.gpu_models), (2, vec!["a100".to_owned()]));
    let shown = answer.json();
    assert_eq!(shown["spec"]["runTimeout"], "5400s");
    assert_eq!(shown["spec"]["stopGrace"], "0.5s");
    assert_eq!(shown["spec"]["onLost"], "FAIL");
    assert_eq!(shown["spec"]["requeueTimeout"], Json::Null);
}

#[test]
fn amounts_are_read_in_every_form() {
    let resources = |body: Json| {
        let request = parse_submit(body.clone()).unwrap_or_else(|problem| panic!("{body}: {problem}"));
        request.spec.and_then(|spec| spec.resources).expect("it is set")
    };
    for (body, millis) in [
        (json!({"cpus": "500m"}), 500),
        (json!({"cpus": 2}), 2_000),
        (json!({"spec": {"cpus": "1.5"}}), 1_500),
        (json!({"spec": {"resources": {"cpus": 0.25}}}), 250),
        (json!({"resources": {"cpuMillis": "750"}}), 750),
        (json!({"cpus": 1, "spec": {"image": "x", "cpus": null}}), 1_000),
    ] {
        assert_eq!(resources(body.clone()).cpu_millis, millis, "{body}");
    }
    for (body, bytes) in [
        (json!({"memory": 1_048_576}), 1 << 20),
        (json!({"memory": "512m"}), 512 << 20),
        (json!({"resources": {"memory": "1Gi", "cpu_millis": 1}}), 1 << 30),
        (json!({"resources": {"memory_bytes": 1e6}}), 1_000_000),
    ] {
        assert_eq!(resources(body.clone()).memory_bytes, bytes, "{body}");
    }
    for (body, count, models) in [
        (json!({"gpus": 1}), 1, vec![]),
        (json!({"gpus": "a100:2"}), 2, vec!["a100"]),
        (json!({"gpus": "a100"}), 1, vec!["a100"]),
        (json!({"gpus": {"count": 3}}), 3, vec![]),
        (json!({"gpus": 1, "resources": {"gpuModels": ["h100"]}}), 1, vec!["h100"]),
    ] {
        let found = resources(body.clone());
        assert_eq!(
            (found.gpu_count, found.gpu_models),
            (count, models.into_iter().map(str::to_owned).collect()),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_shown_job_can_be_submitted_again() {
    let rest = Rest::new();
    let first = rest.post("/jobs", r#"{"image":"busybox","cpus":2,"queueTimeout":"0s"}"#).await.json();
    let again = json!({"spec": first["spec"]}).to_string();
    let second = rest.post("/jobs", again).await;
    assert_eq!(second.json()["spec"], first["spec"], "{}", second.body);
}

#[tokio::test]
async fn the_idempotency_key_may_stand_in_the_header() {
    let rest = Rest::new();
    let key = [("Idempotency-Key", "k-1")];
    assert_eq!(rest.ask("POST", "/jobs", &key, r#"{"image":"x"}"#).await.status, 200);
    assert_eq!(Fake::last(&rest.fake.submitted).request_id, "k-1");
    let same = rest.ask("POST", "/jobs", &key, r#"{"image":"x","request_id":"k-1"}"#).await;
    assert_eq!(same.status, 200);
    let other = rest.ask("POST", "/jobs", &key, r#"{"image":"x","requestId":"k-2"}"#).await;
    assert_eq!(other.status, 400);
    assert!(other.message().contains("differs from the header Idempotency-Key"), "{}", other.body);
    assert_eq!(rest.ask("GET", "/jobs/j1", &key, "").await.status, 200, "ignored where it means nothing");
}

#[tokio::test]
async fn lists_take_short_parameters_in_any_spelling() {
    let rest = Rest::new();
    let answer =
        rest.get("/jobs?state=running&state=failed&label=team%3Dml&name=a+b&page_size=7&pageToken=t").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let listed = Fake::last(&rest.fake.listed);
    assert_eq!(
        listed.filter,
        "(state = RUNNING OR state = FAILED) AND display_name = \"a b\" AND label.team = \"ml\""
    );
    assert_eq!((listed.page_size, listed.page_token.as_str()), (7, "t"));
    rest.get("/v1/jobs:watch?namespace=prod&summary_only=true").await;
    let watched = Fake::last(&rest.fake.watched);
    assert_eq!((watched.filter.as_str(), watched.summary_only), ("namespace = \"prod\"", true));
}

#[tokio::test]
async fn queries_reach_nested_fields_lists_and_durations() {
    let rest = Rest::new();
    rest.get("/v1/jobs/j1:wait?timeout=20&after.generation=3&after.revision=9007199254740993").await;
    let (waited, timeout) = Fake::last(&rest.fake.waited);
    assert_eq!(waited.timeout.map(|d| d.seconds), Some(20));
    assert_eq!(waited.after.map(|p| (p.generation, p.revision)), Some((3, 9_007_199_254_740_993)));
    assert_eq!(timeout, "25000000u", "the call outlives the wait");
    rest.ask("GET", "/v1/jobs/j1:wait", &[("Grpc-Timeout", "7S")], "").await;
    assert_eq!(Fake::last(&rest.fake.waited).1, "7000000u");
    rest.get("/v1/jobs/j1/logs?follow&tailLines=0&streams=stdout&streams=STREAM_STDERR").await;
    let logs = Fake::last(&rest.fake.logs);
    assert_eq!((logs.follow, logs.tail_lines, logs.streams), (true, Some(0), vec![1, 2]));
}

#[tokio::test]
async fn bodies_hold_what_the_annotation_says() {
    let rest = Rest::new();
    assert_eq!(rest.post("/jobs/j1/abort", "").await.status, 200);
    assert_eq!(Fake::last(&rest.fake.aborted).grace_period, None);
    rest.post("/v1/jobs/j1:abort", r#"{"reason":"why","grace_period":0,"id":"j1"}"#).await;
    let aborted = Fake::last(&rest.fake.aborted);
    assert_eq!((aborted.reason.as_str(), aborted.grace_period.map(|d| d.seconds)), ("why", Some(0)));
    assert_eq!(rest.post("/v1/jobs/j1:abort", r#"{"id":"j2"}"#).await.status, 400);
    rest.post("/v1/executors/e1:drain", r#"{"deadline":"30m"}"#).await;
    let drained = Fake::last(&rest.fake.drained);
    assert_eq!((drained.id.as_str(), drained.deadline.map(|d| d.seconds)), ("e1", Some(1_800)));
    rest.post("/v1/jobs:explain", r#"{"image":"busybox","cpus":64}"#).await;
    let spec = Fake::last(&rest.fake.explained).spec.expect("it is set");
    assert_eq!(spec.resources.map(|r| r.cpu_millis), Some(64_000));
}

#[tokio::test]
async fn a_batch_takes_the_short_forms_and_shows_each_error() {
    let rest = Rest::new();
    let body =
        json!({"requests": [{"image": "a", "memory": "1g"}, {"spec": {"image": "b"}}], "request_id": "r"});
    let answer = rest.post("/v1/jobs:batchSubmit", body.to_string()).await;
    let batch = Fake::last(&rest.fake.batches);
    assert_eq!(batch.requests.len(), 2);
    assert_eq!(batch.requests[0].spec.as_ref().map(|s| s.image.as_str()), Some("a"));
    let results = answer.json()["results"].clone();
    assert_eq!((&results[0]["job"]["id"], &results[0]["error"]), (&json!("j1"), &Json::Null));
    assert_eq!(results[1]["error"]["status"], "INVALID_ARGUMENT");
    assert_eq!(results[1]["error"]["code"], 400);
    assert_eq!(results[1]["error"]["details"][1]["fieldViolations"][0]["field"], "spec.image");
}

#[tokio::test]
async fn the_headers_that_services_know_are_passed_on() {
    let rest = Rest::new();
    let headers = [("authorization", "Bearer t"), ("traceparent", "00-1"), ("cookie", "secret")];
    rest.ask("POST", "/jobs", &headers, r#"{"image":"x"}"#).await;
    let metadata = Fake::last(&rest.fake.metadata);
    assert_eq!(metadata.get("authorization").map(|v| v.as_bytes()), Some(&b"Bearer t"[..]));
    assert!(metadata.get("traceparent").is_some() && metadata.get("cookie").is_none());
}
