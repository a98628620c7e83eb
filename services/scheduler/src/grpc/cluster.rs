//! ClusterService.

use std::sync::Arc;

use berth_api::convert::{duration, resources_to_wire, signed, timestamp};
use berth_api::status::Problem;
use berth_api::v1::cluster_service_server::ClusterService;
use berth_api::v1::get_cluster_info_response::{Leader, Store};
use berth_api::v1::{
    DrainExecutorRequest, DrainExecutorResponse, FenceExecutorRequest, FenceExecutorResponse,
    GetClusterInfoRequest, GetClusterInfoResponse, GetStatsRequest, GetStatsResponse, ListExecutorsRequest,
    ListExecutorsResponse, ResumeExecutorRequest, ResumeExecutorResponse, Scheduler, Stats,
    WatchEventsRequest, WatchEventsResponse,
};
use berth_api::{MAX_PROTOCOL_VERSION, MIN_PROTOCOL_VERSION};
use berth_domain::executor::ExecutorState;
use berth_domain::job::{JOB_STATES, JobState};
use tonic::{Request, Response, Status};

use super::Answers;
use crate::context::Context;
use crate::jobs::list;
use crate::operators;

/// Serves what is known of the cluster.
pub struct Cluster {
    /// The replica's shared parts.
    pub context: Arc<Context>,
}

async fn stats(context: &Context) -> Result<Stats, Problem> {
    let meta = context.store.meta().await.map_err(|e| context.problem(&e))?;
    let executors = context.store.executors().await.map_err(|e| context.problem(&e))?;
    context.note_answer();
    let count = |state: JobState| signed(meta.counts.get(&state).copied().unwrap_or(0));
    let present = || executors.iter().filter(|executor| executor.state != ExecutorState::Lost);
    let capacity = resources_to_wire(
        present().map(|e| e.capacity.cpu_millis).sum(),
        present().map(|e| e.capacity.memory_bytes).sum(),
        present().map(|e| e.capacity.gpus.len()).sum(),
        Vec::new(),
    );
    let reserved = resources_to_wire(
        present().map(|e| e.reserved.cpu_millis).sum(),
        present().map(|e| e.reserved.memory_bytes).sum(),
        present().map(|e| e.reserved.gpu_ids.len()).sum(),
        Vec::new(),
    );
    let oldest_ms = context.with_image(crate::image::Image::oldest_ready_ms);
    let held = !meta.lock.owner.is_empty() && meta.lock.expiry_ms > meta.time_ms;
    Ok(Stats {
        pending_count: count(JobState::Pending),
        assigned_count: count(JobState::Assigned),
        running_count: count(JobState::Running),
        succeeded_count: count(JobState::Succeeded),
        failed_count: count(JobState::Failed),
        aborted_count: count(JobState::Aborted),
        capacity: Some(capacity),
        reserved: Some(reserved),
        oldest_pending_age: oldest_ms.map(|ready| duration(meta.time_ms.saturating_sub(ready))),
        wait_p50: None,
        wait_p99: None,
        leader_scheduler_id: if held { meta.lock.scheduler_id.clone() } else { String::new() },
        leader_epoch: signed(meta.lock.epoch),
    })
}

async fn info(context: &Context) -> Result<GetClusterInfoResponse, Problem> {
    let meta = context.store.meta().await.map_err(|e| context.problem(&e))?;
    let schedulers = context.store.schedulers().await.map_err(|e| context.problem(&e))?;
    context.note_answer();
    let description = context.store.describe();
    let held = !meta.lock.owner.is_empty() && meta.lock.expiry_ms > meta.time_ms;
    let leader_id = if held { meta.lock.scheduler_id.as_str() } else { "" };
    let shown = schedulers.into_iter().map(|scheduler| Scheduler {
        leader: scheduler.id.as_str() == leader_id,
        id: scheduler.id.to_string(),
        address: scheduler.address,
        version: scheduler.version,
        heartbeat_time: Some(timestamp(scheduler.heartbeat_time_ms)),
    });
    let count =
        |state: JobState| (state.name().to_owned(), signed(meta.counts.get(&state).copied().unwrap_or(0)));
    Ok(GetClusterInfoResponse {
        cluster_id: context.config.cluster.clone(),
        schedulers: shown.collect(),
        min_protocol_version: i32::try_from(MIN_PROTOCOL_VERSION).unwrap_or(i32::MAX),
        max_protocol_version: i32::try_from(MAX_PROTOCOL_VERSION).unwrap_or(i32::MAX),
        leader: held.then(|| Leader { scheduler_id: leader_id.to_owned(), epoch: signed(meta.lock.epoch) }),
        store: Some(Store {
            kind: description.kind.to_owned(),
            durability: description.durability,
            generation: signed(meta.position.generation),
        }),
        counts: JOB_STATES.into_iter().map(count).collect(),
    })
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn list_executors(
        &self,
        request: Request<ListExecutorsRequest>,
    ) -> Result<Response<ListExecutorsResponse>, Status> {
        Ok(Response::new(list::executors(&self.context, request.into_inner()).await?))
    }

    async fn get_stats(&self, _: Request<GetStatsRequest>) -> Result<Response<GetStatsResponse>, Status> {
        Ok(Response::new(GetStatsResponse { stats: Some(stats(&self.context).await?) }))
    }

    async fn get_cluster_info(
        &self,
        _: Request<GetClusterInfoRequest>,
    ) -> Result<Response<GetClusterInfoResponse>, Status> {
        Ok(Response::new(info(&self.context).await?))
    }

    async fn fence_executor(
        &self,
        request: Request<FenceExecutorRequest>,
    ) -> Result<Response<FenceExecutorResponse>, Status> {
        let executor = operators::fence(&self.context, request.into_inner()).await?;
        Ok(Response::new(FenceExecutorResponse { executor: Some(executor) }))
    }

    async fn drain_executor(
        &self,
        request: Request<DrainExecutorRequest>,
    ) -> Result<Response<DrainExecutorResponse>, Status> {
        let executor = operators::drain(&self.context, request.into_inner()).await?;
        Ok(Response::new(DrainExecutorResponse { executor: Some(executor) }))
    }

    async fn resume_executor(
        &self,
        request: Request<ResumeExecutorRequest>,
    ) -> Result<Response<ResumeExecutorResponse>, Status> {
        let executor = operators::resume(&self.context, request.into_inner()).await?;
        Ok(Response::new(ResumeExecutorResponse { executor: Some(executor) }))
    }

    type WatchEventsStream = Answers<WatchEventsResponse>;

    async fn watch_events(
        &self,
        _: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Err(Problem::Unimplemented("WatchEvents").into())
    }
}
