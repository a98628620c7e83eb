//! A store that fails over and has lost its newest writes.

use berth_api::convert::{attempt_end_to_wire, attempt_from_wire, timestamp};
use berth_api::v1::executor_service_client::ExecutorServiceClient;
use berth_api::v1::job_service_client::JobServiceClient;
use berth_api::v1::{self, JobState};
use berth_domain::lifecycle::{AttemptEnd, EndCause};
use berth_store::model::ModelStore;
use tonic::service::Routes;

use crate::{MIB, Player, replica, spec, submit};

async fn read(routes: &Routes, id: &str) -> v1::Job {
    let request = v1::GetJobRequest { id: id.into() };
    let answer = JobServiceClient::new(routes.clone()).get_job(request).await.expect("the job is known");
    answer.into_inner().job.expect("a job is returned")
}

#[tokio::test(start_paused = true)]
async fn executors_are_asked_what_they_run_before_a_store_that_failed_over_tells_them_anything() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let mut player = Player::join(&routes, "e1", 4_000).await;
    let first = submit(&routes, spec(3_000)).await;
    let second = submit(&routes, spec(3_000)).await;
    let first_start = player.next_start().await;
    assert!(player.report(&first_start, JobState::Running, None).await);
    let lagging = store.snapshot();
    let cause = EndCause::Exited { code: 3, oom: false };
    assert!(player.report(&first_start, JobState::Failed, Some(cause.clone())).await);
    let second_start = player.next_start().await;
    assert!(player.report(&second_start, JobState::Running, None).await);

    store.fail_over(lagging);
    let status = loop {
        match player.down.message().await {
            Ok(Some(message)) => {
                let says_little = !message.full_set && message.starts.is_empty() && message.stops.is_empty();
                assert!(says_little, "it would stop what the store has lost: {message:?}");
            }
            Ok(None) => panic!("the session ends with a reason"),
            Err(status) => break status,
        }
    };
    assert!(status.message().contains("Register again"), "{status}");

    let running = v1::RunningAttempt {
        r#ref: second_start.r#ref.clone(),
        start_time: Some(timestamp(1_000_500)),
        spec_known: true,
        ..Default::default()
    };
    let ended = AttemptEnd {
        attempt: attempt_from_wire(first_start.r#ref.as_ref()).expect("a start names its attempt"),
        cause,
        message: String::new(),
        start_time_ms: Some(1),
        end_time_ms: 2,
        jitter: 0,
    };
    let request = v1::RegisterRequest {
        executor_id: "e1".into(),
        capacity: Some(v1::Resources { cpu_millis: 4_000, memory_bytes: 1_024 * MIB, ..Default::default() }),
        node_id: "node-e1".into(),
        protocol_version: 1,
        running: vec![running],
        ended: vec![attempt_end_to_wire(&ended)],
        ..Default::default()
    };
    let mut client = ExecutorServiceClient::new(routes.clone());
    let registered = client.register(request).await.expect("it registers").into_inner();
    assert_eq!(
        registered.stop,
        [],
        "what it runs is wanted, although the room for it was taken by what has ended"
    );
    let (first, second) = (read(&routes, &first.id).await, read(&routes, &second.id).await);
    assert_eq!((first.state(), first.exit_code, first.attempt), (JobState::Failed, Some(3), 1));
    assert_eq!((second.state(), second.attempt), (JobState::Running, 1));
}
