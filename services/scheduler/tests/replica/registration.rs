//! What an executor may register with, and what a store gets back from it.

use super::*;

fn request(id: &str, node: &str, instance: &str) -> v1::RegisterRequest {
    v1::RegisterRequest {
        executor_id: id.into(),
        capacity: Some(v1::Resources { cpu_millis: 4_000, memory_bytes: 1_024 * MIB, ..Default::default() }),
        node_id: node.into(),
        instance_id: instance.into(),
        boot_id: "boot".into(),
        protocol_version: 1,
        ..Default::default()
    }
}

async fn registered(
    routes: &Routes,
    request: v1::RegisterRequest,
) -> Result<v1::RegisterResponse, tonic::Status> {
    let answer = ExecutorServiceClient::new(routes.clone()).register(request).await;
    answer.map(tonic::Response::into_inner)
}

/// Registers as soon as the stream of the one before has closed.
async fn registered_once_free(routes: &Routes, request: v1::RegisterRequest) -> v1::RegisterResponse {
    loop {
        match registered(routes, request.clone()).await {
            Ok(answer) => return answer,
            Err(refused) => assert_eq!(refused.code(), Code::AlreadyExists, "{refused}"),
        }
        tokio::task::yield_now().await;
    }
}

async fn job(routes: &Routes, id: &str) -> v1::Job {
    let request = v1::GetJobRequest { id: id.into() };
    let response = JobServiceClient::new(routes.clone()).get_job(request).await.expect("it is there");
    response.into_inner().job.expect("a job is returned")
}

/// A job that the store has as PENDING: its assignment is gone with the store's newest writes.
async fn lost_assignment(routes: &Routes) -> v1::JobRef {
    let waiting = v1::JobSpec { queue_timeout: Some(Default::default()), ..spec(1_000) };
    let id = submit(routes, waiting).await.id;
    v1::JobRef { job_id: id, attempt: 1, epoch: 5 }
}

#[tokio::test(start_paused = true)]
async fn a_running_attempt_that_the_store_has_lost_is_taken_over() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let lost = lost_assignment(&routes).await;
    let running = v1::RunningAttempt {
        r#ref: Some(lost.clone()),
        state: JobState::Running.into(),
        start_time: Some(berth_api::convert::timestamp(990_000)),
        ..Default::default()
    };
    let answer =
        registered(&routes, v1::RegisterRequest { running: vec![running], ..request("e1", "n", "i") });
    assert_eq!(answer.await.expect("it registers").stop, [], "it may go on");
    let job = job(&routes, &lost.job_id).await;
    assert_eq!(
        (job.state(), job.attempt, job.attempt_epoch, job.executor_id.as_str()),
        (JobState::Running, 1, 5, "e1")
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_store_has_lost_is_told_again_though_it_was_acknowledged() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let lost = lost_assignment(&routes).await;
    let end = AttemptEnd {
        attempt: attempt_from_wire(Some(&lost)).expect("an attempt"),
        cause: EndCause::Exited { code: 7, oom: false },
        message: String::new(),
        start_time_ms: Some(990_000),
        end_time_ms: 995_000,
        jitter: 0,
    };
    let again = || v1::RegisterRequest { ended: vec![attempt_end_to_wire(&end)], ..request("e1", "n", "i") };
    registered(&routes, again()).await.expect("it registers");
    let ended = job(&routes, &lost.job_id).await;
    assert_eq!((ended.state(), ended.exit_code), (JobState::Failed, Some(7)));
    registered(&routes, again()).await.expect("it registers again");
    assert_eq!(job(&routes, &lost.job_id).await.revision, ended.revision, "once is enough");
}

#[tokio::test(start_paused = true)]
async fn an_older_attempt_than_the_stores_is_to_be_stopped() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let mut executor = Player::join(&routes, "e1", 4_000).await;
    submit(&routes, spec(1_000)).await;
    let current = executor.next_start().await.r#ref.expect("a start names its attempt");
    let old = v1::JobRef { epoch: current.epoch - 1, ..current.clone() };
    let running =
        |r#ref: &v1::JobRef| v1::RunningAttempt { r#ref: Some(r#ref.clone()), ..Default::default() };
    let both = v1::RegisterRequest {
        running: vec![running(&old), running(&current)],
        ..request("e1", "node-e1", "")
    };
    drop(executor);
    assert_eq!(registered_once_free(&routes, both).await.stop, [old]);
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_can_run_no_jobs_gets_none_until_it_says_that_it_can() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let silent = v1::RegisterRequest { not_ready: "no engine".into(), ..request("e1", "n", "i") };
    let session_id = registered(&routes, silent).await.expect("it registers").session_id;
    let (up, requests) = mpsc::channel(4);
    let heartbeat = |sequence, not_ready: &str| v1::SessionRequest {
        session_id: session_id.clone(),
        heartbeat: Some(v1::session_request::Heartbeat {
            sequence,
            not_ready: not_ready.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    up.send(heartbeat(1, "no engine")).await.expect("the stream is open");
    let mut client = ExecutorServiceClient::new(routes.clone());
    let mut down =
        client.session(ReceiverStream::new(requests)).await.expect("the session opens").into_inner();
    let waiting = v1::JobSpec { queue_timeout: Some(Default::default()), ..spec(1_000) };
    let id = submit(&routes, waiting).await.id;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(job(&routes, &id).await.state(), JobState::Pending);
    up.send(heartbeat(2, "")).await.expect("the stream is open");
    loop {
        let message = down.message().await.expect("the session lives").expect("the session goes on");
        if message.starts.iter().any(|start| start.spec.is_some()) {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_folder_in_use_is_refused_and_the_process_that_uses_it_is_not() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let first = registered(&routes, request("e1", "node", "one")).await.expect("it registers");
    let (up, requests) = mpsc::channel(4);
    let hello = v1::SessionRequest { session_id: first.session_id, ..Default::default() };
    up.send(hello).await.expect("the stream is open");
    let mut client = ExecutorServiceClient::new(routes.clone());
    let open = client.session(ReceiverStream::new(requests)).await.expect("the session opens");
    let copy = registered(&routes, request("e1", "node", "two")).await.expect_err("its stream is open");
    assert_eq!(copy.code(), Code::AlreadyExists);
    assert!(copy.message().contains("a copy of it"), "{}", copy.message());
    registered(&routes, request("e1", "node", "one")).await.expect("it only lost its way");
    drop((open, up));
    registered_once_free(&routes, request("e1", "node", "two")).await;
}

#[tokio::test(start_paused = true)]
async fn a_real_gpu_belongs_to_one_executor_and_an_emulated_one_to_any() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let with_gpu = |id: &str, emulated| {
        let gpu = v1::GpuDevice { id: "GPU-1".into(), model: "a100".into(), emulated };
        let mut request = request(id, id, id);
        request.gpus = vec![gpu];
        if let Some(capacity) = &mut request.capacity {
            capacity.gpu_count = 1;
        }
        request
    };
    registered(&routes, with_gpu("e1", false)).await.expect("it registers");
    registered(&routes, with_gpu("e2", true)).await.expect("an emulated one is nobody's");
    let refused = registered(&routes, with_gpu("e3", false)).await.expect_err("it is e1's");
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(
        refused.message().contains("GPU-1") && refused.message().contains("\"e1\""),
        "{}",
        refused.message()
    );
}

async fn lost(routes: &Routes) -> Vec<String> {
    let request = v1::ListExecutorsRequest::default();
    let answer =
        ClusterServiceClient::new(routes.clone()).list_executors(request).await.expect("they are listed");
    let executors = answer.into_inner().executors.into_iter();
    executors
        .filter(|executor| executor.state() == v1::ExecutorState::Lost)
        .map(|executor| executor.id)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn many_executors_that_fall_silent_one_after_the_other_are_not_judged_for_a_while() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    // The leader judges nobody at its beginning.
    tokio::time::sleep(Duration::from_secs(31)).await;
    for id in ["e1", "e2", "e3"] {
        registered(&routes, request(id, id, id)).await.expect("it registers");
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    let mut judged_after = None;
    for seconds in (0..1_200).step_by(5) {
        registered(&routes, request("e4", "e4", "e4")).await.expect("it stays in touch");
        tokio::time::sleep(Duration::from_secs(5)).await;
        if judged_after.is_none() && lost(&routes).await.len() == 3 {
            judged_after = Some(seconds);
        }
    }
    assert!(judged_after.is_some_and(|after| (600..700).contains(&after)), "{judged_after:?}");
}

#[tokio::test(start_paused = true)]
async fn one_executor_that_falls_silent_is_judged_and_its_job_put_back_at_once() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    tokio::time::sleep(Duration::from_secs(31)).await;
    let mut executor = Player::join(&routes, "e1", 4_000).await;
    let id = submit(&routes, v1::JobSpec { queue_timeout: Some(Default::default()), ..spec(1_000) }).await.id;
    executor.next_start().await;
    while lost(&routes).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let job = job(&routes, &id).await;
    assert_eq!((job.state(), job.attempt), (JobState::Pending, 1), "{job:?}");
}
