//! JobService.

use std::sync::Arc;
use std::time::Duration;

use berth_api::convert::job_id;
use berth_api::status::Problem;
use berth_api::v1::job_service_server::JobService;
use berth_api::v1::{
    AbortJobRequest, AbortJobResponse, BatchSubmitJobsRequest, BatchSubmitJobsResponse, ExplainJobRequest,
    ExplainJobResponse, GetJobRequest, GetJobResponse, ListJobsRequest, ListJobsResponse, RetryJobRequest,
    RetryJobResponse, StreamJobLogsRequest, StreamJobLogsResponse, SubmitJobRequest, SubmitJobResponse,
    WaitJobRequest, WaitJobResponse, WatchJobsRequest, WatchJobsResponse,
};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::{Answers, answers};
use crate::app::Connect;
use crate::context::Context;
use crate::jobs::{abort, explain, list, show, submit, wait, watch};
use crate::logs;

/// Serves jobs.
pub struct Jobs {
    /// The replica's shared parts.
    pub context: Arc<Context>,
    /// How other replicas are reached.
    pub connect: Arc<dyn Connect>,
}

/// When a call has to be answered: a little before the client gives up, so that the answer arrives.
fn deadline(metadata: &MetadataMap, default: Duration) -> Instant {
    let asked = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    let wait = asked
        .map_or(default, |asked| asked.mul_f64(0.9).min(asked.saturating_sub(Duration::from_millis(20))));
    Instant::now() + wait
}

/// Reads a timeout as gRPC writes it: up to eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3_600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[tonic::async_trait]
impl JobService for Jobs {
    async fn submit_job(
        &self,
        request: Request<SubmitJobRequest>,
    ) -> Result<Response<SubmitJobResponse>, Status> {
        let job = submit::submit(&self.context, request.into_inner()).await?;
        Ok(Response::new(SubmitJobResponse { job: Some(job) }))
    }

    async fn batch_submit_jobs(
        &self,
        request: Request<BatchSubmitJobsRequest>,
    ) -> Result<Response<BatchSubmitJobsResponse>, Status> {
        Ok(Response::new(submit::batch(&self.context, request.into_inner()).await?))
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        let id = job_id("id", &request.get_ref().id)?;
        let job = show::load(&self.context, &id).await?;
        let job = show::show_one(&self.context, &job).await?;
        Ok(Response::new(GetJobResponse { job: Some(job) }))
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        Ok(Response::new(list::list(&self.context, request.into_inner()).await?))
    }

    async fn abort_job(
        &self,
        request: Request<AbortJobRequest>,
    ) -> Result<Response<AbortJobResponse>, Status> {
        let deadline = deadline(request.metadata(), abort::DEFAULT_WAIT);
        let job = abort::abort(&self.context, request.into_inner(), deadline).await?;
        Ok(Response::new(AbortJobResponse { job: Some(job) }))
    }

    async fn wait_job(&self, request: Request<WaitJobRequest>) -> Result<Response<WaitJobResponse>, Status> {
        let latest = deadline(request.metadata(), wait::MAX_WAIT);
        Ok(Response::new(wait::wait(&self.context, request.into_inner(), latest).await?))
    }

    type WatchJobsStream = Answers<WatchJobsResponse>;

    async fn watch_jobs(
        &self,
        request: Request<WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        Ok(Response::new(answers(watch::watch(self.context.clone(), request.get_ref())?)))
    }

    type StreamJobLogsStream = Answers<StreamJobLogsResponse>;

    async fn stream_job_logs(
        &self,
        request: Request<StreamJobLogsRequest>,
    ) -> Result<Response<Self::StreamJobLogsStream>, Status> {
        let reader = logs::stream(self.context.clone(), self.connect.clone(), request.into_inner()).await?;
        Ok(Response::new(answers(reader)))
    }

    async fn retry_job(&self, _: Request<RetryJobRequest>) -> Result<Response<RetryJobResponse>, Status> {
        Err(Problem::Unimplemented("RetryJob").into())
    }

    async fn explain_job(
        &self,
        request: Request<ExplainJobRequest>,
    ) -> Result<Response<ExplainJobResponse>, Status> {
        Ok(Response::new(explain::explain(&self.context, request.into_inner()).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("100m"), Some(Duration::from_millis(100)));
        for bad in ["", "S", "5", "5x", "-5S", "123456789S", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad:?}");
        }
    }
}
