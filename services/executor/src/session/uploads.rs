//! Answers a demand for output: streams it up from an offset, and on while it grows.

use std::io;

use berth_api::v1::executor_service_client::ExecutorServiceClient;
use berth_api::v1::session_response::LogDemand;
use berth_api::v1::upload_logs_request::End;
use berth_api::v1::{LogEntry, UploadLogsRequest};
use berth_domain::ids::AttemptRef;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::wire;
use crate::logs::{LogReader, LogStore};

/// Messages between disk and network.
const BUFFERED: usize = 4;

/// Uploads until the end of the output, or until the other side has enough.
pub(super) async fn upload(
    mut client: ExecutorServiceClient<Channel>,
    store: LogStore,
    session_id: String,
    demand: LogDemand,
) {
    let Some(attempt) = wire::attempt(demand.r#ref.as_ref()) else { return };
    let (sender, receiver) = mpsc::channel(BUFFERED);
    let demand_id = demand.demand_id.clone();
    let read = read(&store, &attempt, &demand, session_id, sender);
    let call = client.upload_logs(ReceiverStream::new(receiver));
    tokio::pin!(read, call);
    // The reader ends by itself; but the other side may end before it.
    let answer = tokio::select! {
        biased;
        answer = &mut call => answer,
        () = &mut read => call.await,
    };
    if let Err(status) = answer {
        tracing::debug!(job_id = %attempt.job, demand_id, reason = %status.message(), "upload of output ended early");
    }
}

async fn read(
    store: &LogStore,
    attempt: &AttemptRef,
    demand: &LogDemand,
    session_id: String,
    sender: mpsc::Sender<UploadLogsRequest>,
) {
    let request = |entries: Vec<LogEntry>, dropped_bytes: u64, end: End| UploadLogsRequest {
        session_id: session_id.clone(),
        demand_id: demand.demand_id.clone(),
        entries,
        dropped_bytes: i64::try_from(dropped_bytes).unwrap_or(i64::MAX),
        end: i32::from(end),
    };
    // The first message names the demand, however long the output takes to come.
    if sender.send(request(Vec::new(), 0, End::Unspecified)).await.is_err() {
        return;
    }
    let from_bytes = u64::try_from(demand.offset_bytes).unwrap_or(0);
    let end = match store.reader(attempt, from_bytes, demand.follow).await {
        Ok(Some(reader)) => {
            copy(reader, attempt, &sender, |entries, dropped| request(entries, dropped, End::Unspecified))
                .await
        }
        Ok(None) => Ok(End::NotKept),
        Err(error) => Err(error),
    };
    let end = end.unwrap_or_else(|error| {
        tracing::warn!(job_id = %attempt.job, error = %error, "output cannot be read");
        End::Unreadable
    });
    // A reader that has enough does not need to know of the end.
    let _ = sender.send(request(Vec::new(), 0, end)).await;
}

async fn copy(
    mut reader: LogReader,
    attempt: &AttemptRef,
    sender: &mpsc::Sender<UploadLogsRequest>,
    request: impl Fn(Vec<LogEntry>, u64) -> UploadLogsRequest,
) -> io::Result<End> {
    while let Some(batch) = reader.next().await? {
        let lines = batch.lines.into_iter();
        let entries = lines.map(|(offset, line)| wire::log_entry(attempt, offset, line)).collect();
        if sender.send(request(entries, batch.dropped_bytes)).await.is_err() {
            break;
        }
    }
    Ok(End::Complete)
}
