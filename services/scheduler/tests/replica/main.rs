//! A whole replica on the in-memory store, its services called in this process, with an executor
//! played by the test. Time is paused: it moves only when everything waits.
#![allow(clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

use std::sync::Arc;
use std::time::Duration;

use berth_api::convert::{attempt_end_to_wire, attempt_from_wire};
use berth_api::v1::cluster_service_client::ClusterServiceClient;
use berth_api::v1::executor_service_client::ExecutorServiceClient;
use berth_api::v1::job_service_client::JobServiceClient;
use berth_api::v1::{self, JobState};
use berth_domain::ids::SchedulerId;
use berth_domain::lifecycle::{AttemptEnd, EndCause};
use berth_scheduler::{Deps, Replica, SchedulerConfig, SeededEntropy, TcpConnect};
use berth_store::Store;
use berth_store::model::ModelStore;
use deaf::Deaf;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Streaming};

mod deaf;
mod explain;
mod recovery;
mod registration;

const MIB: i64 = 1 << 20;

async fn replica(
    store: &ModelStore,
    name: &str,
    tweak: impl FnOnce(&mut SchedulerConfig),
) -> (Replica, CancellationToken) {
    replica_on(Arc::new(store.replica()), name, tweak).await
}

async fn replica_on(
    store: Arc<dyn Store>,
    name: &str,
    tweak: impl FnOnce(&mut SchedulerConfig),
) -> (Replica, CancellationToken) {
    let mut config = SchedulerConfig::new(SchedulerId::trusted(name), "test");
    config.safety_interval = Duration::from_secs(3_600);
    tweak(&mut config);
    let deps = Deps { store, entropy: Arc::new(SeededEntropy::new(7)), connect: Arc::new(TcpConnect) };
    let stop = CancellationToken::new();
    (Replica::start(deps, config, stop.clone()).await.expect("the model store answers"), stop)
}

fn spec(cpu_millis: i64) -> v1::JobSpec {
    v1::JobSpec {
        image: "job".into(),
        command: vec!["true".into()],
        resources: Some(v1::Resources { cpu_millis, memory_bytes: 64 * MIB, ..v1::Resources::default() }),
        ..v1::JobSpec::default()
    }
}

async fn submit(routes: &Routes, spec: v1::JobSpec) -> v1::Job {
    let request = v1::SubmitJobRequest { spec: Some(spec), ..v1::SubmitJobRequest::default() };
    let response = JobServiceClient::new(routes.clone()).submit_job(request).await.expect("it is accepted");
    response.into_inner().job.expect("a job is returned")
}

async fn ended(routes: &Routes, id: &str) -> v1::Job {
    let request = v1::WaitJobRequest { id: id.into(), ..v1::WaitJobRequest::default() };
    let response =
        JobServiceClient::new(routes.clone()).wait_job(request).await.expect("it can be waited for");
    let response = response.into_inner();
    assert!(response.done, "the job has ended");
    response.job.expect("a job is returned")
}

/// An executor played by the test.
struct Player {
    up: mpsc::Sender<v1::SessionRequest>,
    down: Streaming<v1::SessionResponse>,
    session_id: String,
    numbers: i64,
}

async fn register(routes: &Routes, id: &str, cpu_millis: i64) -> v1::RegisterResponse {
    let request = v1::RegisterRequest {
        executor_id: id.into(),
        capacity: Some(v1::Resources { cpu_millis, memory_bytes: 1_024 * MIB, ..v1::Resources::default() }),
        node_id: format!("node-{id}"),
        protocol_version: 1,
        ..v1::RegisterRequest::default()
    };
    ExecutorServiceClient::new(routes.clone()).register(request).await.expect("it registers").into_inner()
}

impl Player {
    async fn join(routes: &Routes, id: &str, cpu_millis: i64) -> Self {
        let session_id = register(routes, id, cpu_millis).await.session_id;
        let (up, requests) = mpsc::channel(16);
        let heartbeat = v1::session_request::Heartbeat { sequence: 1, ..Default::default() };
        let first = v1::SessionRequest {
            session_id: session_id.clone(),
            heartbeat: Some(heartbeat),
            ..Default::default()
        };
        up.send(first).await.expect("the stream is open");
        let mut client = ExecutorServiceClient::new(routes.clone());
        let down =
            client.session(ReceiverStream::new(requests)).await.expect("the session opens").into_inner();
        Self { up, down, session_id, numbers: 0 }
    }

    /// The next start with a spec; where a message has several, the last, which is the newest job's.
    async fn next_start(&mut self) -> v1::session_response::Start {
        loop {
            let message = self.down.message().await.expect("the session lives").expect("the session goes on");
            if let Some(start) = message.starts.into_iter().rfind(|start| start.spec.is_some()) {
                return start;
            }
        }
    }

    async fn report(
        &mut self,
        start: &v1::session_response::Start,
        state: JobState,
        cause: Option<EndCause>,
    ) -> bool {
        self.numbers += 1;
        let result = cause.map(|cause| {
            attempt_end_to_wire(&AttemptEnd {
                attempt: attempt_from_wire(start.r#ref.as_ref()).expect("a start names its attempt"),
                cause,
                message: String::new(),
                start_time_ms: Some(1),
                end_time_ms: 2,
                jitter: 0,
            })
        });
        let report = v1::session_request::Report {
            number: self.numbers,
            r#ref: start.r#ref.clone(),
            state: i32::from(state),
            result,
        };
        let message = v1::SessionRequest {
            session_id: self.session_id.clone(),
            reports: vec![report],
            ..Default::default()
        };
        self.up.send(message).await.expect("the stream is open");
        loop {
            let message = self.down.message().await.expect("the session lives").expect("the session goes on");
            if let Some(ack) = message.report_acks.into_iter().find(|ack| ack.number == self.numbers) {
                return ack.current;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_from_submit_to_its_exit_code() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let mut executor = Player::join(&routes, "e1", 4_000).await;
    let job = submit(&routes, spec(1_000)).await;
    assert_eq!(job.state(), JobState::Pending);
    let start = executor.next_start().await;
    assert_eq!(start.spec.as_ref().map(|spec| spec.command.clone()), Some(vec!["true".to_owned()]));
    assert!(executor.report(&start, JobState::Running, None).await);
    assert!(executor.report(&start, JobState::Failed, Some(EndCause::Exited { code: 3, oom: false })).await);
    let job = ended(&routes, &job.id).await;
    assert_eq!(
        (job.state(), job.exit_code, job.end_reason()),
        (JobState::Failed, Some(3), v1::EndReason::ExitCode)
    );
    assert!(
        executor.report(&start, JobState::Failed, Some(EndCause::Exited { code: 3, oom: false })).await,
        "a repeated report is known"
    );
    let list = ClusterServiceClient::new(routes).list_executors(v1::ListExecutorsRequest::default()).await;
    let executors = list.expect("executors are listed").into_inner().executors;
    assert_eq!(executors[0].reserved.as_ref().map(|r| r.cpu_millis), Some(0), "its share is free again");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fits_nowhere_fails_at_its_queue_timeout_with_the_reason() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let _executor = Player::join(&routes, "e1", 4_000).await;
    let job = submit(&routes, spec(64_000)).await;
    let reason = loop {
        let request = v1::GetJobRequest { id: job.id.clone() };
        let seen =
            JobServiceClient::new(routes.clone()).get_job(request).await.expect("it exists").into_inner();
        let reason = seen.job.and_then(|job| job.pending_reason).expect("a pending job has a reason");
        // Until the replica leads, that is the reason.
        if reason.code() != v1::pending_reason::Code::NoLeader {
            break reason;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(reason.code(), v1::pending_reason::Code::TooLarge);
    assert_eq!(
        reason.message,
        "Needs 64 CPUs; the largest executor, e1, has 4. It fails in 15 s unless a larger one joins; --queue-timeout 0 waits."
    );
    let before = tokio::time::Instant::now();
    let job = ended(&routes, &job.id).await;
    assert_eq!(job.end_reason(), v1::EndReason::QueueTimeout);
    assert_eq!(job.message, "Not allocated within 15 s: needs 64 CPUs; the largest executor, e1, has 4.");
    assert!(before.elapsed() >= Duration::from_secs(14), "not before its time");
}

#[tokio::test(start_paused = true)]
async fn an_aborted_pending_job_ends_at_once_and_a_running_one_when_it_is_stopped() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let pending = submit(&routes, spec(1_000)).await;
    let abort = |id: String| {
        let mut client = JobServiceClient::new(routes.clone());
        async move { client.abort_job(v1::AbortJobRequest { id, ..Default::default() }).await }
    };
    let aborted = abort(pending.id.clone()).await.expect("it is aborted").into_inner().job.expect("a job");
    assert_eq!((aborted.state(), aborted.attempt), (JobState::Aborted, 0));

    let mut executor = Player::join(&routes, "e1", 4_000).await;
    let running = submit(&routes, spec(1_000)).await;
    let start = executor.next_start().await;
    executor.report(&start, JobState::Running, None).await;
    let asked = tokio::spawn(abort(running.id.clone()));
    loop {
        let message = executor.down.message().await.expect("the session lives").expect("the session goes on");
        if message.stops.iter().any(|stop| stop.r#ref == start.r#ref) {
            break;
        }
    }
    executor.report(&start, JobState::Aborted, Some(EndCause::Aborted { code: Some(143) })).await;
    let aborted =
        asked.await.expect("the call ends").expect("it is aborted").into_inner().job.expect("a job");
    assert_eq!((aborted.state(), aborted.exit_code), (JobState::Aborted, Some(143)));
    let again = abort(aborted.id).await.expect("aborting again is no error").into_inner();
    assert_eq!(again.job.expect("a job").state(), JobState::Aborted);
}

#[tokio::test(start_paused = true)]
async fn another_replica_takes_over_and_sees_the_same() {
    let store = ModelStore::new(1_000_000);
    let (first, stop) = replica(&store, "s1", |_| {}).await;
    let job = submit(&first.routes(), spec(1_000)).await;
    let (second, _stop) = replica(&store, "s2", |_| {}).await;
    stop.cancel();
    let routes = second.routes();
    let mut executor = Player::join(&routes, "e1", 4_000).await;
    let start = executor.next_start().await;
    assert_eq!(start.r#ref.as_ref().map(|r| r.job_id.clone()), Some(job.id.clone()));
    executor.report(&start, JobState::Succeeded, Some(EndCause::Exited { code: 0, oom: false })).await;
    assert_eq!(ended(&routes, &job.id).await.state(), JobState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn the_job_of_a_lost_executor_runs_elsewhere_and_its_late_report_counts_for_nothing() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let mut lost = Player::join(&routes, "e1", 4_000).await;
    let job = submit(&routes, spec(1_000)).await;
    let old = lost.next_start().await;
    assert!(lost.report(&old, JobState::Running, None).await);
    // It sends no further heartbeat; another executor joins and lives.
    let other = Player::join(&routes, "e2", 4_000).await;
    let Player { up, mut down, session_id, .. } = other;
    let beating = session_id.clone();
    let beats = up.clone();
    tokio::spawn(async move {
        for sequence in 2.. {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let heartbeat = v1::session_request::Heartbeat { sequence, ..Default::default() };
            let message = v1::SessionRequest {
                session_id: beating.clone(),
                heartbeat: Some(heartbeat),
                ..Default::default()
            };
            if beats.send(message).await.is_err() {
                return;
            }
        }
    });
    let start = loop {
        let message = down.message().await.expect("the session lives").expect("the session goes on");
        if let Some(start) = message.starts.into_iter().next() {
            break start;
        }
    };
    assert_eq!(start.r#ref.as_ref().map(|r| (r.job_id.clone(), r.attempt)), Some((job.id.clone(), 2)));
    let mut late = Player { up, down, session_id, numbers: 100 };
    assert!(
        !late.report(&old, JobState::Succeeded, Some(EndCause::Exited { code: 0, oom: false })).await,
        "a late report is not current"
    );
    assert!(late.report(&start, JobState::Failed, Some(EndCause::Exited { code: 9, oom: false })).await);
    let job = ended(&routes, &job.id).await;
    assert_eq!((job.state(), job.exit_code, job.attempt), (JobState::Failed, Some(9), 2));
}

#[tokio::test(start_paused = true)]
async fn the_same_key_gives_the_same_job_and_another_spec_is_refused() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let mut client = JobServiceClient::new(replica.routes());
    let request = |cpu| v1::SubmitJobRequest {
        spec: Some(spec(cpu)),
        request_id: "key-1".into(),
        ..Default::default()
    };
    let first = client.submit_job(request(1_000)).await.expect("accepted").into_inner().job.expect("a job");
    let again = client.submit_job(request(1_000)).await.expect("accepted").into_inner().job.expect("a job");
    assert_eq!(first.id, again.id);
    let error = client.submit_job(request(2_000)).await.expect_err("another spec");
    assert_eq!(error.code(), Code::AlreadyExists);
    store.lose_next_reply();
    let unknown = v1::SubmitJobRequest { request_id: "key-2".into(), ..request(1_000) };
    let stored = client.submit_job(unknown).await.expect("asked again").into_inner().job.expect("a job");
    let listed = client.list_jobs(v1::ListJobsRequest::default()).await.expect("listed").into_inner().jobs;
    assert_eq!(
        listed.iter().map(|job| &job.id).collect::<Vec<_>>(),
        [&stored.id, &first.id],
        "newest first, each once"
    );
}

#[tokio::test(start_paused = true)]
async fn ended_jobs_are_gone_after_their_retention() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |config| config.retention = Duration::from_secs(60)).await;
    let routes = replica.routes();
    let job = submit(&routes, v1::JobSpec { ..spec(1_000) }).await;
    ended(&routes, &job.id).await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    let gone = JobServiceClient::new(routes).get_job(v1::GetJobRequest { id: job.id }).await;
    assert_eq!(gone.expect_err("it is gone").code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_watch_starts_with_the_present_state_and_resumes_where_it_broke() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let mut client = JobServiceClient::new(routes.clone());
    let job = submit(&routes, spec(1_000)).await;
    let filter = format!("id = \"{}\"", job.id);
    let watch = |resume_token: String| v1::WatchJobsRequest {
        filter: filter.clone(),
        resume_token,
        summary_only: false,
    };
    let mut stream = client.watch_jobs(watch(String::new())).await.expect("it starts").into_inner();
    let first = stream.message().await.expect("it lives").expect("it goes on");
    assert!(matches!(&first.event, Some(v1::watch_jobs_response::Event::Job(seen)) if seen.id == job.id));
    drop(stream);
    ended(&routes, &job.id).await;
    let mut stream = client.watch_jobs(watch(first.resume_token)).await.expect("it resumes").into_inner();
    let next = stream.message().await.expect("it lives").expect("it goes on");
    let Some(v1::watch_jobs_response::Event::Job(seen)) = next.event else { panic!("a job is told") };
    assert_eq!(seen.state(), JobState::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_off_in_the_present_state_begins_anew() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    for _ in 0..3 {
        submit(&routes, spec(1_000)).await;
    }
    let request = v1::WatchJobsRequest::default();
    let mut stream = JobServiceClient::new(routes).watch_jobs(request).await.expect("it starts").into_inner();
    for left in (0..3).rev() {
        let told = stream.message().await.expect("it lives").expect("it goes on");
        assert_eq!(told.resume_token.is_empty(), left > 0, "{left} are still to be told");
    }
}

#[tokio::test(start_paused = true)]
async fn an_executor_id_in_use_is_refused_to_another_node() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    register(&routes, "e1", 1_000).await;
    let request = v1::RegisterRequest {
        executor_id: "e1".into(),
        capacity: Some(v1::Resources { cpu_millis: 1, memory_bytes: 1, ..v1::Resources::default() }),
        node_id: "another".into(),
        protocol_version: 1,
        ..v1::RegisterRequest::default()
    };
    let mut client = ExecutorServiceClient::new(routes);
    let error = client.register(request.clone()).await.expect_err("the id is taken");
    assert_eq!(error.code(), Code::AlreadyExists);
    let newer = request.clone();
    let old = v1::RegisterRequest { protocol_version: 0, version: "0.0.1".into(), ..request };
    let error = client.register(old).await.expect_err("the version is not served");
    assert_eq!(error.message(), "Executor 0.0.1 speaks protocol 0; this cluster needs 1-1. Upgrade e1.");
    let new = v1::RegisterRequest { protocol_version: 2, version: "9.0.0".into(), ..newer };
    let error = client.register(new).await.expect_err("the version is not served yet");
    assert_eq!(
        error.message(),
        "Executor 9.0.0 speaks protocol 2; this cluster needs 1-1. Upgrade the schedulers, then e1."
    );
}

#[tokio::test(start_paused = true)]
async fn the_safety_pass_rescues_a_wake_up_that_was_lost() {
    let deaf = Arc::new(Deaf::new(ModelStore::new(1_000_000)));
    let (replica, _stop) =
        replica_on(deaf.clone(), "s1", |config| config.safety_interval = Duration::from_secs(10)).await;
    let routes = replica.routes();
    let mut executor = Player::join(&routes, "e1", 4_000).await;
    let heard = submit(&routes, spec(1_000)).await;
    let start = executor.next_start().await;
    assert_eq!(start.r#ref.as_ref().map(|r| &r.job_id), Some(&heard.id), "at first the log is heard");

    deaf.stop_listening();
    let before = tokio::time::Instant::now();
    let missed =
        submit(&routes, v1::JobSpec { queue_timeout: Some(Default::default()), ..spec(1_000) }).await;
    let start = loop {
        let start = executor.next_start().await;
        if start.r#ref.as_ref().is_some_and(|r| r.job_id == missed.id) {
            break start;
        }
    };
    let waited = before.elapsed();
    assert!(waited > Duration::from_secs(1) && waited <= Duration::from_secs(30), "rescued after {waited:?}");
    executor.report(&start, JobState::Succeeded, Some(EndCause::Exited { code: 0, oom: false })).await;
    assert_eq!(
        ended(&routes, &missed.id).await.state(),
        JobState::Succeeded,
        "a waiting client is rescued too"
    );
}

#[tokio::test(start_paused = true)]
async fn pages_of_large_specs_stay_small_and_show_each_job_once() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let mut submitted = Vec::new();
    for _ in 0..30 {
        let large = v1::JobSpec { command: vec!["x".repeat(200 * 1024)], ..spec(1_000) };
        submitted.push(submit(&routes, large).await.id);
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListJobsRequest { page_token: token, ..Default::default() };
        let page =
            JobServiceClient::new(routes.clone()).list_jobs(request).await.expect("a page").into_inner();
        assert!(prost::Message::encoded_len(&page) < 4 << 20, "a page fits a client's default limit");
        seen.extend(page.jobs.into_iter().map(|job| job.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    submitted.reverse();
    assert_eq!(seen, submitted, "newest first, each once");
}

#[tokio::test(start_paused = true)]
async fn an_executor_cannot_end_the_job_of_another() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let mut owner = Player::join(&routes, "e1", 4_000).await;
    let mut other = Player::join(&routes, "e2", 1).await;
    let job = submit(&routes, spec(1_000)).await;
    let start = owner.next_start().await;
    let success = || Some(EndCause::Exited { code: 0, oom: false });
    assert!(!other.report(&start, JobState::Succeeded, success()).await, "it is not its job");
    assert!(owner.report(&start, JobState::Failed, Some(EndCause::Exited { code: 2, oom: false })).await);
    assert_eq!(ended(&routes, &job.id).await.exit_code, Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_missed_a_start_is_told_again_after_a_few_heartbeats() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let mut executor = Player::join(&routes, "e1", 4_000).await;
    submit(&routes, spec(1_000)).await;
    let missed = executor.next_start().await;
    // The first may have crossed the start on its way.
    for sequence in 2..5 {
        // The digest of nothing: as if the start had never come.
        let heartbeat = v1::session_request::Heartbeat { sequence, ..Default::default() };
        let session_id = executor.session_id.clone();
        let message = v1::SessionRequest { session_id, heartbeat: Some(heartbeat), ..Default::default() };
        executor.up.send(message).await.expect("the stream is open");
    }
    let again = executor.next_start().await;
    assert_eq!(again.r#ref, missed.r#ref);
}
