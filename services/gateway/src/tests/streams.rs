//! Streams: events and lines, resuming, ends and errors.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use http::Request;
use serde_json::{Value as Json, json};

use super::{Fake, Rest};

const EVENTS: (&str, &str) = ("accept", "text/event-stream");

#[tokio::test]
async fn a_watch_is_json_lines_and_ends_with_its_error() {
    let answer = Rest::new().get("/v1/jobs:watch").await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines: Vec<Json> =
        answer.body.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["resumeToken"], &lines[0]["job"]["id"]), (&json!("g1-1"), &json!("j1")));
    assert_eq!((&lines[0]["resync"], &lines[1]["resync"]), (&Json::Null, &json!({})));
    assert_eq!(
        (&lines[2]["error"]["code"], &lines[2]["error"]["status"]),
        (&json!(503), &json!("UNAVAILABLE"))
    );
}

#[tokio::test]
async fn a_watch_is_server_sent_events_to_who_accepts_them() {
    let answer = Rest::new().ask("GET", "/v1/jobs:watch", &[EVENTS], "").await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let events: Vec<&str> = answer.body.split_terminator("\n\n").collect();
    assert_eq!(events[0], "retry: 2000");
    assert!(events[1].starts_with("id: g1-1\ndata: {\"resumeToken\":\"g1-1\","), "{}", events[1]);
    assert!(events[2].starts_with("event: resync\nid: g1-2\ndata: {"), "{}", events[2]);
    assert!(events[3].starts_with("event: error\ndata: {\"error\":{\"code\":503,"), "{}", events[3]);
    assert_eq!(events.len(), 4);
}

#[tokio::test]
async fn last_event_id_resumes_and_wins_over_the_url() {
    let rest = Rest::new();
    rest.ask("GET", "/v1/jobs:watch?resume_token=old", &[EVENTS, ("Last-Event-ID", "g1-7")], "").await;
    assert_eq!(Fake::last(&rest.fake.watched).resume_token, "g1-7");
    let answer = rest.ask("GET", "/v1/events", &[EVENTS], "").await;
    assert!(answer.body.contains("id: ev7\n"), "{}", answer.body);
    assert!(answer.body.ends_with("event: end\ndata: {}\n\n"), "{}", answer.body);
}

#[tokio::test]
async fn logs_have_text_beside_their_bytes_and_resume_by_offset() {
    let rest = Rest::new();
    let line = rest.get("/v1/jobs/j1/logs").await.json();
    let entry = &line["entries"][0];
    assert_eq!((&entry["data"], &entry["text"]), (&json!("aP9pCg=="), &json!("h\u{fffd}i\n")));
    assert_eq!((&entry["stream"], &entry["offsetBytes"]), (&json!("STDOUT"), &json!(100)));
    let answer = rest.ask("GET", "/v1/jobs/j1/logs", &[EVENTS], "").await;
    assert!(answer.body.contains("id: 2:104\n"), "{}", answer.body);
    rest.ask("GET", "/v1/jobs/j1/logs?tail_lines=5", &[EVENTS, ("Last-Event-ID", "2:104")], "").await;
    let resumed = Fake::last(&rest.fake.logs);
    assert_eq!((resumed.attempt, resumed.offset_bytes, resumed.tail_lines), (2, 104, None));
    let bad = rest.ask("GET", "/v1/jobs/j1/logs", &[("Last-Event-ID", "x")], "").await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn a_stream_that_is_refused_at_once_is_an_ordinary_error() {
    let answer = Rest::new().ask("GET", "/v1/jobs:watch?filter=state%20=%20nonsense", &[EVENTS], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (400, "application/json"));
}

async fn endless(rest: &Rest) -> axum::body::BodyDataStream {
    // The fake knows this watch by its token.
    let request = Request::get("/v1/jobs:watch?resume_token=endless").header(EVENTS.0, EVENTS.1);
    let response = rest.send(request.body(Body::empty()).expect("it is a request")).await;
    response.into_body().into_data_stream()
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_call() {
    let rest = Rest::new();
    let mut body = endless(&rest).await;
    for _ in 0..2 {
        body.next().await.expect("it goes on").expect("it is sound");
    }
    assert!(!rest.fake.watch_dropped.load(Ordering::SeqCst));
    drop(body);
    tokio::time::timeout(Duration::from_secs(5), async {
        while !rest.fake.watch_dropped.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the call ends");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_event_stream_shows_that_it_lives() {
    let rest = Rest::new();
    let mut body = endless(&rest).await;
    for _ in 0..2 {
        body.next().await.expect("it goes on").expect("it is sound");
    }
    let begin = tokio::time::Instant::now();
    for _ in 0..2 {
        let chunk = body.next().await.expect("it goes on").expect("it is sound");
        assert_eq!(&chunk[..], b": keepalive\n\n");
    }
    assert_eq!(begin.elapsed().as_secs(), 30);
}
