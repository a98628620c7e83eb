//! Bad inputs: each is refused with the field, a reason and what to write instead.

use serde_json::{Value as Json, json};

use super::Rest;
use crate::json::parse_submit;

/// Bodies of POST /jobs, and the message that each gets.
fn bad_fields() -> Vec<(Json, &'static str)> {
    vec![
        (json!({"spec": {"comand": ["true"]}}), "spec.comand: no such field; did you mean \"command\"?"),
        (json!({"image": "x", "comand": ["true"]}), "spec.comand: no such field; did you mean \"command\"?"),
        (json!({"dispaly_name": "x"}), "dispaly_name: no such field; did you mean \"display_name\"?"),
        (json!({"spec": {"cpu": 1}}), "spec.cpu: no such field; did you mean \"cpus\"?"),
        (
            json!({"image": "x", "command": "echo hi"}),
            "spec.command must be a list. Write [\"sh\",\"-c\",\"echo hi\"].",
        ),
        (
            json!({"command": "echo \"hi\" > /tmp/x"}),
            "spec.command must be a list. Write [\"sh\",\"-c\",\"echo \\\"hi\\\" > /tmp/x\"].",
        ),
        (json!({"command": 5}), "spec.command must be a list, not a number"),
        (json!({"command": ["a", 5]}), "spec.command[1] must be a text, not a number. Write \"5\"."),
        (json!({"image": 5}), "spec.image must be a text, not a number. Write \"5\"."),
        (json!({"env": {"A": 1}}), "spec.env[\"A\"] must be a text, not a number. Write \"1\"."),
        (json!({"env": ["A=1"]}), "spec.env must be an object such as {\"NAME\":\"value\"}, not a list"),
        (json!({"priority": 1.5}), "spec.priority must be a whole number, not 1.5"),
        (
            json!({"priority": 3_000_000_000_u32}),
            "spec.priority: is 3000000000; use -2147483648 to 2147483647",
        ),
        (
            json!({"priority": i64::MIN}),
            "spec.priority: is -9223372036854775808; use -2147483648 to 2147483647",
        ),
        (
            json!({"resources": {"cpuMillis": 1e308}}),
            "spec.resources.cpu_millis: is 1e+308, which is not exact; write every digit, without a fraction or exponent",
        ),
        (json!({"onLost": "retyr"}), "spec.on_lost must not be \"retyr\"; did you mean \"RETRY\"?"),
        (json!({"onLost": 99}), "spec.on_lost: is 99; use RETRY, FAIL, HOLD"),
        (
            json!({"runTimeout": "soon"}),
            "spec.run_timeout: \"soon\" is no duration; write a number of seconds, \"90s\", \"1h30m\" or \"500ms\"",
        ),
        (json!({"runTimeout": "-1s"}), "spec.run_timeout: is -1s; a duration must not be negative"),
        (json!({"validateOnly": "true"}), "validate_only must be true or false, not a text"),
        (
            json!({"image": "x", "spec": {"image": "y"}}),
            "spec.image: is given at top level and inside spec; keep one",
        ),
        (json!({"name": "x", "displayName": "y"}), "display_name: is given twice"),
        (json!({"run_timeout": 1, "runTimeout": 1}), "spec.run_timeout: is given twice"),
        (json!({"spec": []}), "spec must be an object, not a list"),
        (json!([]), "body must be an object, not a list"),
        (json!("x"), "body must be an object, not a text"),
        (json!(null), "body must be an object, not null"),
    ]
}

/// The same, for the short forms of resources.
fn bad_amounts() -> Vec<(Json, &'static str)> {
    vec![
        (json!({"cpus": -1}), "spec.cpus must be positive, or left out for the default"),
        (json!({"cpus": 0}), "spec.cpus must be positive, or left out for the default"),
        (json!({"cpus": "0m"}), "spec.cpus must be positive, or left out for the default"),
        (
            json!({"cpus": true}),
            "spec.cpus must be a number of CPUs such as 2, 0.5 or \"500m\", not a boolean",
        ),
        (json!({"cpus": 1e308}), "spec.cpus: \"1e+308\" is not a number of CPUs: write 2, 0.5 or 500m"),
        (
            json!({"resources": {"cpu_millis": 0}}),
            "spec.resources.cpu_millis must be positive, or left out for the default",
        ),
        (
            json!({"resources": {"memoryBytes": "-5"}}),
            "spec.resources.memory_bytes must be positive, or left out for the default",
        ),
        (
            json!({"memory": "2GB"}),
            "spec.memory: \"2GB\" is ambiguous: write \"2Gi\" for powers of 1024, as in 512Mi or 2Gi",
        ),
        (json!({"memory": 0}), "spec.memory must be positive, or left out for the default"),
        (json!({"memory": 0.5}), "spec.memory must be a whole number, not 0.5"),
        (
            json!({"memory": "1Gi", "resources": {"memory_bytes": 5}}),
            "spec.memory: is given twice, also as memory_bytes; keep one",
        ),
        (
            json!({"gpus": "all"}),
            "spec.gpus: \"all\" is not a number of GPUs (how many, not \"all\"): write 1, a100 or a100:2",
        ),
        (json!({"gpus": -1}), "spec.gpus: is -1; it must not be negative"),
        (json!({"gpus": {"kind": "a100"}}), "spec.gpus: has \"kind\"; it takes \"type\" and \"count\""),
    ]
}

#[tokio::test]
async fn every_bad_submit_is_refused_with_what_to_write() {
    let rest = Rest::new();
    for (body, message) in bad_fields().into_iter().chain(bad_amounts()) {
        let answer = rest.post("/jobs", body.to_string()).await;
        assert_eq!((answer.status.as_u16(), answer.message().as_str()), (400, message), "{body}");
        let error = answer.json()["error"].clone();
        assert_eq!((&error["code"], &error["status"]), (&json!(400), &json!("INVALID_ARGUMENT")));
        assert_eq!(error["details"][0]["@type"], "type.googleapis.com/google.rpc.ErrorInfo");
        assert_eq!(error["details"][0]["domain"], "berth.dev");
        assert_eq!(error["details"][1]["@type"], "type.googleapis.com/google.rpc.BadRequest");
        let problem = parse_submit(body.clone()).expect_err("the command line refuses it too");
        assert_eq!(problem.to_string(), message);
    }
    assert!(rest.fake.submitted.lock().expect("it is free").is_empty(), "nothing bad reaches the services");
}

#[tokio::test]
async fn several_findings_are_listed_at_once() {
    let answer = Rest::new().post("/jobs", r#"{"cpus":0,"memory":"2GB","comand":[]}"#).await;
    let violations = answer.json()["error"]["details"][1]["fieldViolations"].clone();
    let fields: Vec<_> =
        violations.as_array().expect("it is a list").iter().map(|v| v["field"].clone()).collect();
    assert_eq!(fields, ["spec.cpus", "spec.memory", "spec.comand"]);
    let many: serde_json::Map<_, _> = (0..100_000).map(|i| (format!("nonsense{i}"), Json::Null)).collect();
    let answer = Rest::new().post("/jobs", Json::Object(many).to_string()).await;
    assert!(answer.body.len() < 20_000, "the list of findings is bounded");
}

#[tokio::test]
async fn what_is_no_json_is_refused() {
    let rest = Rest::new();
    for (body, message) in [
        (&b"image=busybox"[..], "body: is not JSON: "),
        (b"{\"cpus\": NaN}", "body: is not JSON: "),
        (b"{\"image\": \"\xff\"}", "body: is not UTF-8: byte 12 is invalid"),
        (b"{\"a\":{\"image\":1,\"image\":2}}", "body must not repeat a key: the key \"image\" stands twice"),
        (b"{\"image\": \"x\"} trailing", "body: is not JSON: trailing characters"),
    ] {
        let answer = rest.post("/jobs", body.to_vec()).await;
        assert_eq!(answer.status, 400);
        assert!(answer.message().starts_with(message), "{}", answer.body);
    }
    let deep = format!("{{\"spec\":{}", "[".repeat(1_000_000));
    assert_eq!(rest.post("/jobs", deep).await.message(), "body: is nested deeper than 128 levels");
}

#[tokio::test]
async fn what_the_services_refuse_is_passed_on() {
    let rest = Rest::new();
    let answer = rest.post("/jobs", "{\"image\":\"\"}").await;
    assert_eq!(answer.status, 400);
    assert!(answer.message().starts_with("spec.image must not be empty"), "{}", answer.body);
    let large = json!({"image": "x", "command": ["x".repeat(300 * 1024)]});
    let answer = rest.post("/jobs", large.to_string()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.message().contains("the limit is"), "{}", answer.body);
}

#[tokio::test]
async fn bodies_over_five_mebibytes_are_413() {
    let rest = Rest::new();
    let large = format!("{{\"image\":\"{}\"}}", "x".repeat(6 << 20));
    let announced =
        rest.ask("POST", "/jobs", &[("content-length", &large.len().to_string())], large.clone()).await;
    let streamed = rest
        .ask(
            "POST",
            "/jobs",
            &[],
            axum::body::Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>(large)])),
        )
        .await;
    for answer in [announced, streamed] {
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (413, &json!(413)));
    }
    assert_eq!(rest.ask("POST", "/jobs", &[("content-encoding", "gzip")], "x").await.status, 415);
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let rest = Rest::new();
    for (path, message) in [
        ("/jobs?page_size=1&stat=running", "stat: no such query parameter; did you mean \"state\"?"),
        ("/jobs?page_size=ten", "page_size must be a whole number, not \"ten\""),
        ("/jobs?page_size=1&pageSize=2", "page_size: is given twice"),
        ("/jobs?page_size=1&page_size=2", "page_size: is given twice"),
        ("/jobs?state=runing", "state must not be \"runing\"; did you mean \"RUNNING\"?"),
        ("/jobs?filter=%ff", "filter: is not percent-encoded UTF-8"),
        ("/v1/jobs/j1:wait?after=3", "after must be an object, not a text"),
        ("/v1/jobs/j1:wait?id=j2", "id: is given twice, with different values"),
        ("/v1/jobs/j1:wait?timeout=-1", "timeout: is -1; a duration must not be negative"),
        ("/v1/jobs:watch?summary_only=maybe", "summary_only must be true or false, not \"maybe\""),
        ("/stats?verbose=1", "verbose: no such query parameter; there is none here"),
    ] {
        let answer = rest.get(path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.message().starts_with(message), "{path}: {}", answer.message());
    }
    let answer = rest.ask("GET", "/jobs", &[], r#"{"pageSize":1}"#).await;
    assert_eq!(answer.message(), "body: is not read here; use query parameters");
}

#[tokio::test]
async fn errors_of_the_services_keep_their_code_reason_and_details() {
    let rest = Rest::new();
    let answer = rest.get("/jobs/missing").await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.json(),
        json!({"error": {"code": 404, "status": "NOT_FOUND", "message": "job \"missing\" does not exist",
            "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "JOB_NOT_FOUND", "domain": "berth.dev", "metadata": {}}]}})
    );
    let answer = rest.get("/jobs/down").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "2"));
    assert_eq!(answer.json()["error"]["details"][1]["retryDelay"], "1.5s");
    let answer = rest.get("/jobs/full").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "2"));
    let answer = rest.get("/jobs/bare").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["error"]["details"][0]["reason"], "UNAUTHENTICATED");
}

#[tokio::test]
async fn problem_json_is_given_to_who_asks_for_it() {
    let accept = [("accept", "application/json, application/problem+json;q=0.9")];
    let answer = Rest::new().ask("GET", "/jobs/missing", &accept, "").await;
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!((&problem["status"], &problem["title"]), (&json!(404), &json!("Not Found")));
    assert_eq!(problem["detail"], "job \"missing\" does not exist");
    assert_eq!(problem["code"], "NOT_FOUND");
}
