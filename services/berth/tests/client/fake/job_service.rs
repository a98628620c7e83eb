//! The job service of the cluster.

use std::pin::Pin;
use std::time::Duration;

use berth_api::status::Problem;
use berth_api::v1::batch_submit_jobs_response::{Result as BatchResult, result::Outcome};
use berth_api::v1::job_service_server::JobService;
use berth_api::v1::watch_jobs_response::Event;
use berth_api::v1::*;
use berth_domain::filter::Filter;
use futures::Stream;
use tonic::{Request, Response, Status};

use super::state::Cluster;

pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn ended(job: &Job) -> bool {
    job.end_time.is_some()
}

impl Cluster {
    fn get(&self, id: &str) -> Result<Job, Status> {
        self.job(id).ok_or_else(|| Problem::no_job(id).into())
    }

    /// Selects by the part of the filter language that the program uses, the newest first.
    fn select(&self, filter: &str) -> Result<Vec<Job>, Status> {
        Filter::parse(filter).map_err(|error| Problem::field("filter", error.to_string()))?;
        let quoted: Vec<&str> = filter.split('"').skip(1).step_by(2).collect();
        let matches = |job: &Job| {
            let state = job.state().as_str_name().trim_start_matches("JOB_STATE_");
            match quoted.as_slice() {
                [id] if filter.starts_with("id = ") => job.id == *id,
                [name] => job.display_name == *name,
                [name, from, to] => {
                    job.display_name == *name || (job.id.as_str() >= *from && job.id.as_str() < *to)
                }
                _ => filter.is_empty() || filter.contains(&format!("state = {state}")),
            }
        };
        Ok(self.known().jobs.iter().rev().filter(|job| matches(job)).cloned().collect())
    }

    /// Gives the next piece of an attempt's log from a byte on, and whether there can be no more.
    fn piece(&self, id: &str, attempt: i32, offset: i64) -> (Option<LogEntry>, bool) {
        let known = self.known();
        let job = known.jobs.iter().find(|job| job.id == id);
        let over = job.is_none_or(|job| ended(job) || job.attempt > attempt);
        let mut at = 0;
        for entry in known.logs.get(id).into_iter().flatten().filter(|entry| entry.attempt == attempt) {
            let end = at + i64::try_from(entry.data.len()).expect("is small");
            if end > offset {
                let skip = usize::try_from(offset - at).unwrap_or(0);
                let entry = LogEntry {
                    data: entry.data.slice(skip..),
                    offset_bytes: at.max(offset),
                    ..entry.clone()
                };
                return (Some(entry), false);
            }
            at = end;
        }
        (None, over)
    }
}

#[tonic::async_trait]
impl JobService for Cluster {
    async fn submit_job(
        &self,
        request: Request<SubmitJobRequest>,
    ) -> Result<Response<SubmitJobResponse>, Status> {
        let request = request.into_inner();
        self.note("submit");
        let spec = request.spec.clone().unwrap_or_default();
        if spec.image == "refused" {
            return Err(Problem::field("spec.image", "is refused here").into());
        }
        if spec.image == "unanswered" && self.calls().len() == 1 {
            // Stored, but the answer is lost: a repeat must find the same job.
            self.handle().submit(request);
            return Err(Status::unavailable("the answer is lost"));
        }
        Ok(Response::new(SubmitJobResponse { job: Some(self.handle().submit(request)) }))
    }

    async fn batch_submit_jobs(
        &self,
        request: Request<BatchSubmitJobsRequest>,
    ) -> Result<Response<BatchSubmitJobsResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("batch {} {}", request.requests.len(), request.request_id.is_empty()));
        let store = |one| BatchResult { outcome: Some(Outcome::Job(self.handle().submit(one))) };
        Ok(Response::new(BatchSubmitJobsResponse {
            results: request.requests.into_iter().map(store).collect(),
        }))
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        Ok(Response::new(GetJobResponse { job: Some(self.get(&request.into_inner().id)?) }))
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        let request = request.into_inner();
        let selected = self.select(&request.filter)?;
        // Short pages, and an empty one first: a client must go on for as long as there is a token.
        let at: usize = request.page_token.parse().unwrap_or(0);
        let jobs = if request.page_token.is_empty() {
            Vec::new()
        } else {
            selected.iter().skip(at).take(2).cloned().collect()
        };
        let next = if request.page_token.is_empty() { 0 } else { at + 2 };
        let more = request.page_token.is_empty() || next < selected.len();
        let next_page_token = if more { next.to_string() } else { String::new() };
        Ok(Response::new(ListJobsResponse { jobs, next_page_token }))
    }

    async fn abort_job(
        &self,
        request: Request<AbortJobRequest>,
    ) -> Result<Response<AbortJobResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("abort {}", request.reason));
        self.get(&request.id)?;
        Ok(Response::new(AbortJobResponse { job: self.abort(&request.id) }))
    }

    async fn wait_job(&self, request: Request<WaitJobRequest>) -> Result<Response<WaitJobResponse>, Status> {
        let request = request.into_inner();
        let limit = Duration::try_from(request.timeout.unwrap_or_default()).unwrap_or_default();
        let mut changes = self.changes();
        let waiting = async {
            while !ended(&self.get(&request.id)?) && changes.changed().await.is_ok() {}
            Ok::<(), Status>(())
        };
        if let Ok(waited) = tokio::time::timeout(limit, waiting).await {
            waited?;
        }
        let job = self.get(&request.id)?;
        Ok(Response::new(WaitJobResponse { done: ended(&job), job: Some(job) }))
    }

    type WatchJobsStream = Answers<WatchJobsResponse>;

    async fn watch_jobs(
        &self,
        request: Request<WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let WatchJobsRequest { filter, resume_token, .. } = request.into_inner();
        self.note(format!("watch {}", if resume_token.is_empty() { "anew" } else { "resumed" }));
        let seen: i64 = resume_token.parse().unwrap_or(-1);
        let start = (self.handle(), self.changes(), seen);
        let stream = futures::stream::try_unfold(start, move |(cluster, mut changes, seen)| {
            let filter = filter.clone();
            async move {
                loop {
                    let newest = cluster.select(&filter)?.into_iter().find(|job| job.revision > seen);
                    if let Some(job) = newest {
                        let revision = job.revision;
                        let answer = WatchJobsResponse {
                            resume_token: revision.to_string(),
                            event: Some(Event::Job(job)),
                        };
                        return Ok(Some((answer, (cluster, changes, revision))));
                    }
                    let _ = changes.changed().await;
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    type StreamJobLogsStream = Answers<StreamJobLogsResponse>;

    async fn stream_job_logs(
        &self,
        request: Request<StreamJobLogsRequest>,
    ) -> Result<Response<Self::StreamJobLogsStream>, Status> {
        let request = request.into_inner();
        let job = self.get(&request.id)?;
        let attempt = if request.attempt == 0 { job.attempt } else { request.attempt };
        self.note(format!("logs {attempt} from {} follow {}", request.offset_bytes, request.follow));
        let start = (self.handle(), self.changes(), request.offset_bytes);
        let stream = futures::stream::try_unfold(start, move |(cluster, mut changes, offset)| {
            let request = request.clone();
            async move {
                loop {
                    let (piece, over) = cluster.piece(&request.id, attempt, offset);
                    if let Some(entry) = piece {
                        let next = entry.offset_bytes + i64::try_from(entry.data.len()).expect("is small");
                        let answer = StreamJobLogsResponse { entries: vec![entry], dropped_bytes: 0 };
                        return Ok(Some((answer, (cluster, changes, next))));
                    }
                    if over || !request.follow {
                        return Ok(None);
                    }
                    let _ = changes.changed().await;
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn retry_job(&self, _: Request<RetryJobRequest>) -> Result<Response<RetryJobResponse>, Status> {
        Err(Problem::Unimplemented("RetryJob").into())
    }

    async fn explain_job(
        &self,
        request: Request<ExplainJobRequest>,
    ) -> Result<Response<ExplainJobResponse>, Status> {
        let ExplainJobRequest { id, spec } = request.into_inner();
        if !id.is_empty() {
            self.get(&id)?;
        }
        // Its two executors have 4 CPUs each; one of them is busy.
        let asked = spec.and_then(|spec| spec.resources).map_or(1_000, |resources| resources.cpu_millis);
        let reason = |code: pending_reason::Code, message: &str| PendingReason {
            code: code.into(),
            message: message.into(),
            queue_position: 3,
            ..Default::default()
        };
        let reason = match asked {
            4_001.. => Some(reason(pending_reason::Code::TooLarge, "Needs more.")),
            2_001.. => Some(reason(pending_reason::Code::Busy, "Fits 2 executors.")),
            _ => None,
        };
        let verdict = |executor: &str, free: i64| explain_job_response::Verdict {
            executor_id: executor.into(),
            fits_now: asked <= free,
            fits_empty: asked <= 4_000,
            message: if asked <= free { String::new() } else { format!("Has {free}m free.") },
        };
        Ok(Response::new(ExplainJobResponse {
            executor_id: if reason.is_none() { "executor-2".into() } else { String::new() },
            reason,
            verdicts: vec![verdict("executor-1", 0), verdict("executor-2", 2_000)],
        }))
    }
}
