//! Bad input: a typed error that says what to do, and nothing reaches the store.

use berth_api::v1;
use berth_integration_tests::cluster::Cluster;
use berth_integration_tests::docker::IMAGE;
use berth_integration_tests::http::{self, Answer};
use bytes::{Buf, BufMut};
use prost::Message;
use serde_json::{Value, json};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

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
    try_json(json!({ "image": IMAGE, "command": "echo hi" }), "spec.command", "");
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

/// Sends bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buf.advance(buf.remaining());
        Ok(Some(()))
    }
}

async fn raw_submit(channel: &Channel, bytes: Vec<u8>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("the channel is ready");
    let path = PathAndQuery::from_static("/berth.v1.JobService/SubmitJob");
    client.unary(tonic::Request::new(bytes), path, Raw).await.map(tonic::Response::into_inner)
}

#[test]
fn the_same_is_refused_over_grpc_with_the_field_in_the_details() {
    let cluster = Cluster::start();
    let revision =
        |cluster: &Cluster| cluster.redis.cli(&["HGET", &format!("{{{}}}:meta", cluster.name), "revision"]);
    let before = revision(&cluster);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let address = format!("http://{}", cluster.scheduler.grpc);
    runtime.block_on(async {
        let channel =
            Channel::from_shared(address).expect("an address").connect().await.expect("it connects");
        let good = || v1::JobSpec { image: IMAGE.into(), ..Default::default() };
        let resources = |cpu_millis| Some(v1::Resources { cpu_millis, ..Default::default() });
        let cases = [
            (v1::JobSpec { resources: resources(-1), ..good() }, "spec.resources.cpu_millis"),
            (v1::JobSpec { resources: resources(i64::MIN), ..good() }, "spec.resources.cpu_millis"),
            (v1::JobSpec { image: String::new(), ..good() }, "spec.image"),
            (v1::JobSpec { image: "user:secret@host/x".into(), ..good() }, "spec.image"),
            (v1::JobSpec { command: vec!["x".repeat(300 * 1024)], ..good() }, "spec"),
            (
                v1::JobSpec {
                    env: (0..10_000).map(|i| (format!("E{i}"), String::new())).collect(),
                    ..good()
                },
                "spec.env",
            ),
            (v1::JobSpec { env: [("A=B".to_owned(), String::new())].into(), ..good() }, "spec.env"),
            (v1::JobSpec { on_lost: 77, ..good() }, "spec.on_lost"),
            (v1::JobSpec { namespace: "../x".into(), ..good() }, "spec.namespace"),
        ];
        for (spec, field) in cases {
            let request = v1::SubmitJobRequest { spec: Some(spec), ..Default::default() };
            let status = raw_submit(&channel, request.encode_to_vec()).await.expect_err(field);
            assert_names(&status, field);
        }
        // SubmitJobRequest { spec: JobSpec { image: <not UTF-8> } }
        let status =
            raw_submit(&channel, vec![0x0a, 0x04, 0x0a, 0x02, 0xff, 0xfe]).await.expect_err("not UTF-8");
        assert_names(&status, "spec.image");
        let status = raw_submit(&channel, vec![0xff; 64]).await.expect_err("no message");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let status = raw_submit(&channel, vec![0; 8 << 20]).await.expect_err("too large");
        assert!([Code::OutOfRange, Code::ResourceExhausted].contains(&status.code()), "{status}");
    });
    assert_eq!(before, revision(&cluster), "no revision was made");
}

fn assert_names(status: &Status, field: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(berth_api::status::reason_of(status).as_deref(), Some("INVALID_FIELD"), "{status}");
    let fields = status.get_details_bad_request().expect("fields are listed").field_violations;
    assert!(fields.iter().any(|violation| violation.field == field), "{field} in {fields:?}");
}

#[test]
fn both_versions_of_reflection_list_the_services() {
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    };
    let cluster = Cluster::start();
    let address = format!("http://{}", cluster.scheduler.grpc);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let names: Vec<String> = runtime.block_on(async {
        let channel =
            Channel::from_shared(address).expect("an address").connect().await.expect("it connects");
        let mut client = ServerReflectionClient::new(channel);
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut answers = client
            .server_reflection_info(tokio_stream::once(request))
            .await
            .expect("it answers")
            .into_inner();
        let answer = answers.message().await.expect("a message").expect("one");
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            panic!("a list")
        };
        list.service.into_iter().map(|service| service.name).collect()
    });
    // v1alpha is what grpcurl uses, in the tests of clients.
    for name in [
        "berth.v1.JobService",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
}
