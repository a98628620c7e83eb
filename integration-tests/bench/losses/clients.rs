//! Clients whose answers are lost.

use std::collections::BTreeSet;

use berth_api::v1;
use berth_api::v1::job_service_client::JobServiceClient;
use berth_integration_tests::cluster::{Cluster, id_of};
use berth_integration_tests::docker;
use berth_integration_tests::door::Door;
use berth_integration_tests::http;

use crate::Row;
use crate::support::{CLOCKS, patient};

/// What happens to clients.
pub const ROWS: &[Row] = &[
    Row::new(
        "client-retries-rest",
        "every 3rd answer lost; 30 submits repeated until answered, then once more",
        rest,
    ),
    Row::new("client-retries-grpc", "the same over gRPC, every 5th piece of an answer lost", grpc),
];

const JOBS: usize = 30;

fn rest() -> String {
    let cluster = Cluster::start_with(&CLOCKS);
    let door = Door::before(&cluster.scheduler.http);
    door.lose_every(3);
    let submit = |address: &str, key: &str, command: &str| {
        let body = patient(&["echo", command]).to_string();
        http::request_if_served(address, "POST", "/jobs", &[("Idempotency-Key", key)], body.as_bytes())
    };
    let (mut ids, mut tries) = (Vec::new(), 0);
    for index in 0..JOBS {
        let key = format!("key-{index}");
        let id = loop {
            tries += 1;
            assert!(tries < JOBS * 3, "answers come through");
            if let Some(answer) = submit(door.address(), &key, &key) {
                assert_eq!(answer.status, 200);
                break id_of(&answer.json());
            }
        };
        let again = submit(&cluster.scheduler.http, &key, &key).expect("it answers");
        assert_eq!(id_of(&again.json()), id, "the same key is the same job");
        ids.push(id);
    }
    let other = submit(&cluster.scheduler.http, "key-0", "something else").expect("it answers");
    assert_eq!(other.status, 409, "another job under a known key is a conflict");
    settle(&cluster, &ids, door.lost(), tries)
}

fn settle(cluster: &Cluster, ids: &[String], lost: usize, tries: usize) -> String {
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), JOBS);
    let all = http::get(&cluster.scheduler.http, "/jobs?pageSize=1000");
    assert_eq!(all["jobs"].as_array().map(Vec::len), Some(JOBS), "no job was made twice");
    assert!(lost >= 5, "answers were lost: {lost}");
    format!("{tries} submits, {lost} answers lost, {JOBS} jobs; same key, same job")
}

fn grpc() -> String {
    let cluster = Cluster::start_with(&CLOCKS);
    let door = Door::before(&cluster.scheduler.grpc);
    door.lose_every(5);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut ids, mut tries) = (Vec::new(), 0);
    for index in 0..JOBS {
        let resources = v1::Resources { cpu_millis: 100, memory_bytes: 32 << 20, ..Default::default() };
        let spec = v1::JobSpec {
            image: docker::IMAGE.into(),
            command: vec!["true".into()],
            resources: Some(resources),
            queue_timeout: Some(Default::default()),
            ..Default::default()
        };
        let request = v1::SubmitJobRequest {
            spec: Some(spec),
            request_id: format!("key-{index}"),
            ..Default::default()
        };
        ids.push(loop {
            tries += 1;
            assert!(tries < JOBS * 10, "answers come through");
            let asked = runtime.block_on(async {
                let mut client =
                    JobServiceClient::connect(format!("http://{}", door.address())).await.ok()?;
                client.submit_job(request.clone()).await.ok()?.into_inner().job
            });
            if let Some(job) = asked {
                break job.id;
            }
        });
    }
    settle(&cluster, &ids, door.lost(), tries)
}
