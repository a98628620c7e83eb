//! ExecutorService.

use std::sync::Arc;

use berth_api::v1::executor_service_server::ExecutorService;
use berth_api::v1::{
    RegisterRequest, RegisterResponse, SessionRequest, SessionResponse, UploadLogsRequest, UploadLogsResponse,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, answers};
use crate::app::Connect;
use crate::context::Context;
use crate::logs;
use crate::sessions::{Batched, register, serve};

/// Serves executors.
pub struct Executors {
    /// The replica's shared parts.
    pub context: Arc<Context>,
    /// What goes to the store together with that of others.
    pub batched: Batched,
    /// How other replicas are reached.
    pub connect: Arc<dyn Connect>,
}

#[tonic::async_trait]
impl ExecutorService for Executors {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let peer = request.remote_addr().map(|address| address.to_string()).unwrap_or_default();
        let registered = register(&self.context, self.connect.as_ref(), request.into_inner(), peer).await?;
        Ok(Response::new(registered))
    }

    type SessionStream = Answers<SessionResponse>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let stream = serve(self.context.clone(), self.batched.clone(), request.into_inner()).await?;
        Ok(Response::new(answers(stream)))
    }

    async fn upload_logs(
        &self,
        request: Request<Streaming<UploadLogsRequest>>,
    ) -> Result<Response<UploadLogsResponse>, Status> {
        Ok(Response::new(logs::receive_upload(&self.context, request.into_inner()).await?))
    }
}
