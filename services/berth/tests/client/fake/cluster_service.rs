//! The cluster service of the cluster.

use berth_api::status::Problem;
use berth_api::v1::cluster_service_server::ClusterService;
use berth_api::v1::get_cluster_info_response::{Leader, Store};
use berth_api::v1::*;
use tonic::{Request, Response, Status};

use super::job_service::Answers;
use super::state::Cluster;

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn get_cluster_info(
        &self,
        _: Request<GetClusterInfoRequest>,
    ) -> Result<Response<GetClusterInfoResponse>, Status> {
        let scheduler = Scheduler { id: "s1".into(), leader: true, ..Default::default() };
        Ok(Response::new(GetClusterInfoResponse {
            cluster_id: "fake".into(),
            schedulers: vec![scheduler],
            leader: Some(Leader { scheduler_id: "s1".into(), epoch: 7 }),
            store: Some(Store { kind: "embedded".into(), durability: "none".into(), generation: 3 }),
            counts: [("RUNNING".to_owned(), 2)].into(),
            ..Default::default()
        }))
    }

    async fn list_executors(
        &self,
        request: Request<ListExecutorsRequest>,
    ) -> Result<Response<ListExecutorsResponse>, Status> {
        let second = !request.into_inner().page_token.is_empty();
        let id = if second { "executor-2" } else { "executor-1" };
        Ok(Response::new(ListExecutorsResponse {
            executors: vec![Executor {
                id: id.into(),
                state: ExecutorState::Active.into(),
                ..Default::default()
            }],
            next_page_token: if second { String::new() } else { "more".into() },
        }))
    }

    async fn get_stats(&self, _: Request<GetStatsRequest>) -> Result<Response<GetStatsResponse>, Status> {
        Ok(Response::new(GetStatsResponse { stats: Some(Stats::default()) }))
    }

    async fn fence_executor(
        &self,
        _: Request<FenceExecutorRequest>,
    ) -> Result<Response<FenceExecutorResponse>, Status> {
        Err(Problem::Unimplemented("FenceExecutor").into())
    }

    async fn drain_executor(
        &self,
        _: Request<DrainExecutorRequest>,
    ) -> Result<Response<DrainExecutorResponse>, Status> {
        Err(Problem::Unimplemented("DrainExecutor").into())
    }

    async fn resume_executor(
        &self,
        _: Request<ResumeExecutorRequest>,
    ) -> Result<Response<ResumeExecutorResponse>, Status> {
        Err(Problem::Unimplemented("ResumeExecutor").into())
    }

    type WatchEventsStream = Answers<WatchEventsResponse>;

    async fn watch_events(
        &self,
        _: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Err(Problem::Unimplemented("WatchEvents").into())
    }
}
