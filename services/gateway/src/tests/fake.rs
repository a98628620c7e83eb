//! A fake of the services: it keeps what it was asked and answers from fixed values.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_api::convert::{spec_from_wire, spec_to_wire};
use berth_api::status::Problem;
use berth_api::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use berth_api::v1::job_service_server::{JobService, JobServiceServer};
use berth_api::v1::{self, Job};
use futures::{Stream, StreamExt, stream};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Default)]
pub(super) struct Fake {
    pub submitted: Mutex<Vec<v1::SubmitJobRequest>>,
    pub batches: Mutex<Vec<v1::BatchSubmitJobsRequest>>,
    pub listed: Mutex<Vec<v1::ListJobsRequest>>,
    pub aborted: Mutex<Vec<v1::AbortJobRequest>>,
    /// With the gRPC timeout that came along.
    pub waited: Mutex<Vec<(v1::WaitJobRequest, String)>>,
    pub watched: Mutex<Vec<v1::WatchJobsRequest>>,
    pub logs: Mutex<Vec<v1::StreamJobLogsRequest>>,
    pub drained: Mutex<Vec<v1::DrainExecutorRequest>>,
    pub explained: Mutex<Vec<v1::ExplainJobRequest>>,
    pub metadata: Mutex<Vec<tonic::metadata::MetadataMap>>,
    /// Set once a watch without end was dropped.
    pub watch_dropped: Arc<AtomicBool>,
}

/// Sets a flag when it is dropped.
struct Tripwire(Arc<AtomicBool>);

impl Drop for Tripwire {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(super) fn job(id: &str) -> Job {
    Job {
        id: id.to_owned(),
        state: i32::from(v1::JobState::Running),
        exit_code: Some(0),
        end_reason: i32::from(v1::EndReason::OomKilled),
        attempt: 1,
        attempt_epoch: 9_007_199_254_740_993,
        create_time: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 5_999_999 }),
        namespace: "default".to_owned(),
        ..Job::default()
    }
}

impl Fake {
    pub(super) fn routes(self: &Arc<Self>) -> Routes {
        let (reporter, health) = tonic_health::server::health_reporter();
        drop(reporter);
        Routes::new(JobServiceServer::from_arc(Arc::clone(self)))
            .add_service(ClusterServiceServer::from_arc(Arc::clone(self)))
            .add_service(health)
    }

    pub(super) fn last<T: Clone>(kept: &Mutex<Vec<T>>) -> T {
        kept.lock().expect("no test panics while it holds the lock").last().expect("it was called").clone()
    }
}

fn keep<T>(kept: &Mutex<Vec<T>>, value: T) {
    kept.lock().expect("no test panics while it holds the lock").push(value);
}

#[tonic::async_trait]
impl JobService for Fake {
    type WatchJobsStream = Answers<v1::WatchJobsResponse>;
    type StreamJobLogsStream = Answers<v1::StreamJobLogsResponse>;

    async fn submit_job(&self, request: Request<v1::SubmitJobRequest>) -> Answer<v1::SubmitJobResponse> {
        keep(&self.metadata, request.metadata().clone());
        let request = request.into_inner();
        keep(&self.submitted, request.clone());
        let spec = Some(spec_to_wire(&spec_from_wire(request.spec.as_ref(), 15_000)?));
        let job = Job { display_name: request.display_name, spec, ..job("j1") };
        Ok(Response::new(v1::SubmitJobResponse { job: Some(job) }))
    }

    async fn batch_submit_jobs(
        &self,
        request: Request<v1::BatchSubmitJobsRequest>,
    ) -> Answer<v1::BatchSubmitJobsResponse> {
        keep(&self.batches, request.into_inner());
        let status = Status::from(Problem::field("spec.image", "must not be empty"));
        let error = prost::Message::decode(status.details()).expect("it has details");
        let outcomes = [
            v1::batch_submit_jobs_response::result::Outcome::Job(job("j1")),
            v1::batch_submit_jobs_response::result::Outcome::Error(error),
        ];
        let results = outcomes.map(|o| v1::batch_submit_jobs_response::Result { outcome: Some(o) });
        Ok(Response::new(v1::BatchSubmitJobsResponse { results: results.into() }))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Answer<v1::GetJobResponse> {
        let id = request.into_inner().id;
        let retry_after = Duration::from_millis(1_500);
        match id.as_str() {
            "missing" => Err(Problem::no_job(id).into()),
            "down" => Err(Problem::Unavailable {
                reason: "NO_STORE",
                message: "The queue is unavailable: no Redis for 12 s.".to_owned(),
                retry_after,
            }
            .into()),
            "full" => {
                Err(Problem::Exhausted { reason: "FULL", message: "full".to_owned(), retry_after }.into())
            }
            "bare" => Err(Status::unauthenticated("who are you")),
            _ => Ok(Response::new(v1::GetJobResponse { job: Some(job(&id)) })),
        }
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Answer<v1::ListJobsResponse> {
        keep(&self.listed, request.into_inner());
        Ok(Response::new(v1::ListJobsResponse { jobs: vec![job("j1")], next_page_token: String::new() }))
    }

    async fn abort_job(&self, request: Request<v1::AbortJobRequest>) -> Answer<v1::AbortJobResponse> {
        let request = request.into_inner();
        keep(&self.aborted, request.clone());
        Ok(Response::new(v1::AbortJobResponse { job: Some(job(&request.id)) }))
    }

    async fn wait_job(&self, request: Request<v1::WaitJobRequest>) -> Answer<v1::WaitJobResponse> {
        let timeout = request.metadata().get("grpc-timeout").and_then(|value| value.to_str().ok());
        let timeout = timeout.unwrap_or_default().to_owned();
        keep(&self.waited, (request.into_inner(), timeout));
        Ok(Response::new(v1::WaitJobResponse { job: Some(job("j1")), done: false }))
    }

    async fn watch_jobs(&self, request: Request<v1::WatchJobsRequest>) -> Answer<Self::WatchJobsStream> {
        let request = request.into_inner();
        keep(&self.watched, request.clone());
        let answer =
            |token: &str, event| v1::WatchJobsResponse { resume_token: token.to_owned(), event: Some(event) };
        let first = Ok(answer("g1-1", v1::watch_jobs_response::Event::Job(job("j1"))));
        if request.resume_token == "endless" {
            let tripwire = Tripwire(Arc::clone(&self.watch_dropped));
            let rest = stream::pending().inspect(move |_: &Result<_, Status>| _ = &tripwire);
            return Ok(Response::new(stream::iter([first]).chain(rest).boxed()));
        }
        if request.filter == "refused" {
            return Err(Problem::field("filter", "is bad").into());
        }
        let resync = v1::watch_jobs_response::Event::Resync(v1::watch_jobs_response::Resync {});
        let answers = [first, Ok(answer("g1-2", resync)), Err(Status::unavailable("gone"))];
        Ok(Response::new(stream::iter(answers).boxed()))
    }

    async fn stream_job_logs(
        &self,
        request: Request<v1::StreamJobLogsRequest>,
    ) -> Answer<Self::StreamJobLogsStream> {
        let request = request.into_inner();
        keep(&self.logs, request.clone());
        let entry = v1::LogEntry {
            job_id: request.id,
            attempt: 2,
            stream: i32::from(v1::log_entry::Stream::Stdout),
            data: b"h\xffi\n"[..].into(),
            offset_bytes: 100,
            ..v1::LogEntry::default()
        };
        let answer = v1::StreamJobLogsResponse { entries: vec![entry], dropped_bytes: 0 };
        Ok(Response::new(stream::iter([Ok(answer)]).boxed()))
    }

    async fn retry_job(&self, _: Request<v1::RetryJobRequest>) -> Answer<v1::RetryJobResponse> {
        Err(Problem::Precondition { reason: "NOT_ENDED", message: "it has not ended".to_owned() }.into())
    }

    async fn explain_job(&self, request: Request<v1::ExplainJobRequest>) -> Answer<v1::ExplainJobResponse> {
        keep(&self.explained, request.into_inner());
        Ok(Response::new(v1::ExplainJobResponse::default()))
    }
}

#[tonic::async_trait]
impl ClusterService for Fake {
    type WatchEventsStream = Answers<v1::WatchEventsResponse>;

    async fn fence_executor(
        &self,
        _: Request<v1::FenceExecutorRequest>,
    ) -> Answer<v1::FenceExecutorResponse> {
        Err(Problem::Unimplemented("FenceExecutor").into())
    }

    async fn list_executors(
        &self,
        _: Request<v1::ListExecutorsRequest>,
    ) -> Answer<v1::ListExecutorsResponse> {
        let executor = v1::Executor { id: "e1".to_owned(), ..v1::Executor::default() };
        Ok(Response::new(v1::ListExecutorsResponse { executors: vec![executor], ..Default::default() }))
    }

    async fn drain_executor(
        &self,
        request: Request<v1::DrainExecutorRequest>,
    ) -> Answer<v1::DrainExecutorResponse> {
        keep(&self.drained, request.into_inner());
        Ok(Response::new(v1::DrainExecutorResponse::default()))
    }

    async fn resume_executor(
        &self,
        _: Request<v1::ResumeExecutorRequest>,
    ) -> Answer<v1::ResumeExecutorResponse> {
        Ok(Response::new(v1::ResumeExecutorResponse::default()))
    }

    async fn get_stats(&self, _: Request<v1::GetStatsRequest>) -> Answer<v1::GetStatsResponse> {
        let wait_p50 = Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 });
        let stats = v1::Stats { leader_scheduler_id: "s1".to_owned(), wait_p50, ..v1::Stats::default() };
        Ok(Response::new(v1::GetStatsResponse { stats: Some(stats) }))
    }

    async fn watch_events(&self, _: Request<v1::WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        let event = v1::Event { id: "ev7".to_owned(), ..v1::Event::default() };
        let answer = v1::WatchEventsResponse { event: Some(event) };
        Ok(Response::new(stream::iter([Ok(answer)]).boxed()))
    }

    async fn get_cluster_info(
        &self,
        _: Request<v1::GetClusterInfoRequest>,
    ) -> Answer<v1::GetClusterInfoResponse> {
        let counts = [("RUNNING".to_owned(), 3)].into();
        Ok(Response::new(v1::GetClusterInfoResponse { counts, ..Default::default() }))
    }
}
