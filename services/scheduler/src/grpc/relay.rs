//! RelayService: other replicas read logs of executors whose sessions are here.

use std::sync::Arc;

use berth_api::v1::relay_service_server::RelayService;
use berth_api::v1::{CheckSessionRequest, CheckSessionResponse, OpenLogsRequest, OpenLogsResponse};
use berth_domain::ids::{ExecutorId, SessionId};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::{Answers, answers};
use crate::context::Context;
use crate::logs;

/// Chunks that may wait for a slow reader.
const OUTBOUND: usize = 16;

/// Serves other replicas.
pub struct Relay {
    /// The replica's shared parts.
    pub context: Arc<Context>,
}

#[tonic::async_trait]
impl RelayService for Relay {
    type OpenLogsStream = Answers<OpenLogsResponse>;

    async fn open_logs(
        &self,
        request: Request<OpenLogsRequest>,
    ) -> Result<Response<Self::OpenLogsStream>, Status> {
        let source = logs::relay_source(request.get_ref())?;
        let (out, reader) = mpsc::channel(OUTBOUND);
        let context = self.context.clone();
        tokio::spawn(async move {
            let (chunks, mut received) = mpsc::channel(OUTBOUND);
            let forward = async {
                while let Some(chunk) = received.recv().await {
                    if out.send(Ok(chunk)).await.is_err() {
                        return;
                    }
                }
            };
            let piped = async { tokio::join!(logs::open_here(&context, source, chunks), forward) };
            let (opened, ()) = tokio::select! {
                biased;
                () = out.closed() => return,
                piped = piped => piped,
            };
            if let Err(problem) = opened {
                let _ = out.send(Err(problem.into())).await;
            }
        });
        Ok(Response::new(answers(reader)))
    }

    async fn check_session(
        &self,
        request: Request<CheckSessionRequest>,
    ) -> Result<Response<CheckSessionResponse>, Status> {
        let CheckSessionRequest { executor_id, session_id } = request.into_inner();
        let (executor, session) = (ExecutorId::trusted(executor_id), SessionId::trusted(session_id));
        let open = self.context.sessions.is_open(&executor, &session);
        Ok(Response::new(CheckSessionResponse { open }))
    }
}
