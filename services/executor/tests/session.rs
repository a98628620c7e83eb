//! An executor against a scheduler that a test plays: real gRPC over loopback, a simulated engine.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test says what it expects")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_api::v1::executor_service_server::{ExecutorService, ExecutorServiceServer};
use berth_api::v1::session_response::{Ack, LogDemand, ReportAck, Start, Stop};
use berth_api::v1::{
    EndReason, JobRef, JobSpec, JobState, Position, RegisterRequest, RegisterResponse, SessionRequest,
    SessionResponse, UploadLogsRequest, UploadLogsResponse, session_request::Report,
};
use berth_domain::ids::ExecutorId;
use berth_executor::clock::TokioClock;
use berth_executor::connect::TcpConnect;
use berth_executor::disk::MemoryDisk;
use berth_executor::host::Host;
use berth_executor::random::SeededRandom;
use berth_executor::runtime::{SimulatedEngine, SimulatedRuntime};
use berth_executor::{Deps, ExecutorConfig, ExecutorError, Ready};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// What the scheduler saw.
#[derive(Debug)]
enum Seen {
    Register(Box<RegisterRequest>),
    Session(mpsc::Sender<Result<SessionResponse, Status>>),
    Message(Box<SessionRequest>),
    Upload(UploadLogsRequest),
}

#[derive(Clone)]
struct Played {
    seen: mpsc::Sender<Seen>,
    refusal: Arc<Mutex<Option<&'static str>>>,
    answers_heartbeats: bool,
}

#[tonic::async_trait]
impl ExecutorService for Played {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let _ = self.seen.send(Seen::Register(Box::new(request.into_inner()))).await;
        if let Some(refusal) = self.refusal.lock().expect("not poisoned").take() {
            return Err(Status::already_exists(refusal));
        }
        Ok(Response::new(RegisterResponse {
            session_id: "s1".into(),
            heartbeat_interval: Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 }),
            lease_duration: Some(prost_types::Duration { seconds: 15, nanos: 0 }),
            ..RegisterResponse::default()
        }))
    }

    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (down, receiver) = mpsc::channel(16);
        let mut up = request.into_inner();
        let (seen, answers) = (self.seen.clone(), self.answers_heartbeats);
        let _ = seen.send(Seen::Session(down.clone())).await;
        tokio::spawn(async move {
            while let Ok(Some(message)) = up.message().await {
                if let Some(heartbeat) = message.heartbeat.as_ref().filter(|_| answers) {
                    let ack = Some(Ack { sequence: heartbeat.sequence, ..Ack::default() });
                    let _ = down.send(Ok(SessionResponse { ack, ..SessionResponse::default() })).await;
                }
                let _ = seen.send(Seen::Message(Box::new(message))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn upload_logs(
        &self,
        request: Request<Streaming<UploadLogsRequest>>,
    ) -> Result<Response<UploadLogsResponse>, Status> {
        let mut up = request.into_inner();
        while let Some(message) = up.message().await? {
            let _ = self.seen.send(Seen::Upload(message)).await;
        }
        Ok(Response::new(UploadLogsResponse::default()))
    }
}

/// A scheduler under the test's control.
struct Scheduler {
    address: String,
    seen: mpsc::Receiver<Seen>,
    refusal: Arc<Mutex<Option<&'static str>>>,
}

impl Scheduler {
    async fn start(answers_heartbeats: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (sender, seen) = mpsc::channel(1024);
        let refusal = Arc::new(Mutex::new(None));
        let played = Played { seen: sender, refusal: refusal.clone(), answers_heartbeats };
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(ExecutorServiceServer::new(played))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { address, seen, refusal }
    }

    async fn next<T>(&mut self, mut pick: impl FnMut(Seen) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = pick(self.seen.recv().await.expect("it serves")) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), search).await.expect("in time")
    }

    async fn register(&mut self) -> RegisterRequest {
        self.next(|seen| if let Seen::Register(request) = seen { Some(*request) } else { None }).await
    }

    async fn session(&mut self) -> mpsc::Sender<Result<SessionResponse, Status>> {
        self.next(|seen| if let Seen::Session(down) = seen { Some(down) } else { None }).await
    }

    async fn report(&mut self, state: JobState) -> Report {
        self.next(|seen| match seen {
            Seen::Message(message) => {
                message.reports.into_iter().find(|report| report.state == i32::from(state))
            }
            _ => None,
        })
        .await
    }
}

struct Executor {
    engine: SimulatedEngine,
    clock: Arc<TokioClock>,
    ready: watch::Receiver<Option<Ready>>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ExecutorError>>,
}

fn start_executor(schedulers: Vec<String>) -> Executor {
    let engine = SimulatedEngine::default();
    let clock = Arc::new(TokioClock::new());
    let (ready_in, ready) = watch::channel(None);
    let deps = Deps {
        runtime: Arc::new(SimulatedRuntime::new(engine.clone(), clock.clone(), Duration::ZERO)),
        connector: Arc::new(TcpConnect),
        disk: Arc::new(MemoryDisk::new(clock.clone())),
        host: Host {
            hostname: "host".into(),
            boot_id: "boot".into(),
            cores: 2,
            memory_bytes: 1 << 30,
            gpus: Vec::new(),
        },
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(3)),
        ready: ready_in,
    };
    let mut config = ExecutorConfig::new("unused", schedulers);
    config.executor_id = Some(ExecutorId::trusted("node-1"));
    let stop = CancellationToken::new();
    let task = tokio::spawn(berth_executor::run(deps, config, stop.clone()));
    Executor { engine, clock, ready, stop, task }
}

fn attempt(job: &str) -> Option<JobRef> {
    Some(JobRef { job_id: job.into(), attempt: 1, epoch: 5 })
}

fn start(job: &str, command: &str) -> Start {
    let command = command.split(' ').map(str::to_owned).collect();
    let spec = Some(JobSpec { image: "busybox".into(), command, ..JobSpec::default() });
    Start { r#ref: attempt(job), spec, ..Start::default() }
}

fn orders(starts: Vec<Start>) -> SessionResponse {
    SessionResponse {
        position: Some(Position { generation: 1, revision: 10 }),
        epoch: 5,
        full_set: true,
        starts,
        ..SessionResponse::default()
    }
}

#[tokio::test]
async fn a_job_goes_all_the_way_and_its_output_can_be_had() {
    let mut scheduler = Scheduler::start(true).await;
    let mut executor = start_executor(vec![scheduler.address.clone()]);
    let register = scheduler.register().await;
    assert_eq!((register.executor_id.as_str(), register.boot_id.as_str()), ("node-1", "boot"));
    assert_eq!(register.capacity.expect("it has some").cpu_millis, 2_000);
    let down = scheduler.session().await;
    let ready = executor.ready.wait_for(Option::is_some).await.expect("it runs").clone();
    assert_eq!(ready.expect("ready").session_id, "s1");

    down.send(Ok(orders(vec![start("a", "echo hello"), start("b", "sleep 600")]))).await.expect("open");
    let report = scheduler.report(JobState::Succeeded).await;
    assert_eq!(report.r#ref, attempt("a"));
    let report_acks = vec![ReportAck { number: report.number, current: true }];
    down.send(Ok(SessionResponse { report_acks, ..SessionResponse::default() })).await.expect("open");

    let demand = LogDemand { demand_id: "d".into(), r#ref: attempt("a"), offset_bytes: 2, follow: true };
    let log_demands = vec![demand];
    down.send(Ok(SessionResponse { log_demands, ..SessionResponse::default() })).await.expect("open");
    let entry = scheduler
        .next(|seen| if let Seen::Upload(upload) = seen { upload.entries.into_iter().next() } else { None })
        .await;
    assert_eq!((&entry.data[..], entry.offset_bytes), (&b"llo\n"[..], 2));

    let stops = vec![Stop { r#ref: attempt("b"), grace_period: None }];
    down.send(Ok(SessionResponse { stops, full_set: false, ..orders(Vec::new()) })).await.expect("open");
    let report = scheduler.report(JobState::Aborted).await;
    let result = report.result.expect("an end has a result");
    assert_eq!((result.end_reason(), result.exit_code), (EndReason::AbortedByUser, Some(143)));
    executor.stop.cancel();
    executor.task.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_broken_session_is_replaced_and_reports_are_repeated() {
    let mut scheduler = Scheduler::start(true).await;
    let executor = start_executor(vec![scheduler.address.clone()]);
    let down = scheduler.session().await;
    down.send(Ok(orders(vec![start("a", "exit 3"), start("b", "sleep 600")]))).await.expect("open");
    let first = scheduler.report(JobState::Failed).await;
    // No answer: the session breaks.
    down.send(Err(Status::unavailable("going away"))).await.expect("open");
    drop(down);
    let register = scheduler.register().await;
    assert_eq!((register.running.len(), register.ended.len()), (1, 1));
    let down = scheduler.session().await;
    let again = scheduler.report(JobState::Failed).await;
    assert_eq!(again.result, first.result);
    assert!(again.number > first.number);
    let starts = executor.engine.starts();
    assert!(starts.len() == 2 && starts.values().all(|count| *count == 1), "{starts:?}");
    drop(down);
    executor.stop.cancel();
    executor.task.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_refused_registration_is_tried_again_until_it_is_accepted() {
    let mut scheduler = Scheduler::start(true).await;
    *scheduler.refusal.lock().expect("not poisoned") = Some("executor node-1 has a live session");
    let mut executor = start_executor(vec![scheduler.address.clone()]);
    scheduler.register().await;
    scheduler.register().await;
    executor.ready.wait_for(Option::is_some).await.expect("it runs");
    executor.stop.cancel();
    executor.task.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_scheduler_that_stops_answering_is_left_for_another() {
    let mut silent = Scheduler::start(false).await;
    let executor = start_executor(vec![silent.address.clone(), "127.0.0.1:9".into()]);
    silent.session().await;
    // The other address refuses connections, so that the silent one is tried again.
    silent.session().await;
    executor.stop.cancel();
    executor.task.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_planned_stop_is_announced_and_leaves_the_containers_running() {
    let mut scheduler = Scheduler::start(true).await;
    let mut executor = start_executor(vec![scheduler.address.clone()]);
    let down = scheduler.session().await;
    down.send(Ok(orders(vec![start("a", "sleep 600")]))).await.expect("open");
    scheduler.report(JobState::Running).await;
    executor.ready.wait_for(Option::is_some).await.expect("it runs");
    executor.stop.cancel();
    scheduler
        .next(|seen| match seen {
            Seen::Message(message) if message.planned_restart => Some(()),
            _ => None,
        })
        .await;
    executor.task.await.expect("no panic").expect("no error");
    let now_ms = berth_executor::clock::Clock::wall_ms(executor.clock.as_ref());
    assert_eq!(executor.engine.running(now_ms).len(), 1);
}
