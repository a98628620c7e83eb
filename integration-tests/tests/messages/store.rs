//! What is said of Redis, at the start and later, over every way in.

use std::net::TcpListener;
use std::time::Duration;

use berth_api::v1;
use berth_api::v1::job_service_client::JobServiceClient;
use berth_integration_tests::cluster::Cluster;
use berth_integration_tests::process::Process;
use berth_integration_tests::redis::Redis;
use berth_integration_tests::{http, tools};
use tonic::Code;
use tonic_types::StatusExt;

use crate::golden::{check, without_number};
use crate::{line_with, scheduler, stderr};

/// A port at which nothing listens.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

#[test]
fn a_scheduler_says_that_it_waits_for_redis_and_starts_once_it_is_there() {
    let (folder, port) = (tools::folder(), closed_port());
    let mut command = scheduler(folder.path());
    command
        .args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .env("REDIS_HOST", "127.0.0.1")
        .env("REDIS_PORT", port.to_string());
    let mut process = Process::start("scheduler", &mut command);
    let told = process.line_with("(try 3)");
    check("redis_down_at_start", &told, &[(&format!(":{port} "), ":<PORT> ")]);
    let _redis = Redis::start_on(port);
    process.line("ready role=scheduler");
}

#[test]
fn a_queue_without_redis_says_so_to_rest_grpc_and_command_line() {
    let mut cluster = Cluster::start();
    let id = cluster.shell("true");
    cluster.redis.kill();
    let seconds = |text: &str| without_number(text, "no Redis for ", "<SECONDS>");
    let job = format!("/jobs/{id}");
    let body = br#"{"image":"berth-job:local","command":["true"]}"#;
    let calls: [(&str, &str, &[u8]); 6] = [
        ("POST", "/jobs", body),
        ("GET", "/jobs", b""),
        ("GET", &job, b""),
        ("POST", &format!("{job}/abort"), b""),
        ("GET", "/executors", b""),
        ("GET", "/stats", b""),
    ];
    for (method, path, body) in calls {
        let answer = http::request(&cluster.scheduler.http, method, path, &[], body);
        assert_eq!(answer.status, 503, "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
        assert!(answer.head.to_ascii_lowercase().contains("retry-after: 2"), "{}", answer.head);
        let error = answer.json()["error"].clone();
        check("redis_down", &seconds(error["message"].as_str().expect("it has a message")), &[]);
    }

    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let status = runtime.block_on(async {
        let address = format!("http://{}", cluster.scheduler.grpc);
        let mut client = JobServiceClient::connect(address).await.expect("it connects");
        client.get_job(v1::GetJobRequest { id: id.clone() }).await.expect_err("there is no Redis")
    });
    assert_eq!(status.code(), Code::Unavailable);
    check("redis_down", &seconds(status.message()), &[]);
    let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert_eq!(retry, Some(Duration::from_secs(2)));

    let list = cluster.berth(&["--retry-for", "0s", "ps"]);
    assert_eq!(list.status.code(), Some(4), "{}", stderr(&list));
    check("redis_down_command_line", &seconds(&line_with(&stderr(&list), "The queue")), &[]);
}
