//! Renews leases in batches: what comes in within 20 ms goes to the store together.

use std::sync::Arc;
use std::time::Duration;

use berth_domain::ids::{ExecutorId, SessionId};
use berth_store::LeaseRenewal;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// How long a batch gathers.
const GATHER: Duration = Duration::from_millis(20);
/// The most renewals in one batch.
const MOST: usize = 1_000;

type Entry = (LeaseRenewal, oneshot::Sender<bool>);

/// Collects renewals.
pub struct LeaseBatcher {
    entries: mpsc::Receiver<Entry>,
}

/// Hands renewals to the batcher.
#[derive(Debug, Clone)]
pub struct LeaseClient {
    entries: mpsc::Sender<Entry>,
}

impl LeaseBatcher {
    /// Makes a batcher and its handle.
    pub fn new() -> (Self, LeaseClient) {
        let (sender, entries) = mpsc::channel(MOST);
        (Self { entries }, LeaseClient { entries: sender })
    }

    /// Renews until `stop`.
    pub async fn run(mut self, context: Arc<Context>, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                entry = self.entries.recv() => match entry {
                    Some(entry) => entry,
                    None => return,
                },
            };
            let mut batch = vec![first];
            tokio::time::sleep(GATHER).await;
            while batch.len() < MOST {
                let Ok(entry) = self.entries.try_recv() else { break };
                batch.push(entry);
            }
            let (renewals, replies): (Vec<LeaseRenewal>, Vec<_>) = batch.into_iter().unzip();
            match context.store.renew_leases(&renewals).await {
                Ok(results) => {
                    context.note_answer();
                    for (reply, renewed) in replies.into_iter().zip(results) {
                        // A session that no longer waits has ended.
                        let _ = reply.send(renewed);
                    }
                }
                // Sessions whose reply is dropped leave the heartbeat unanswered.
                Err(error) => tracing::warn!(%error, "leases could not be renewed"),
            }
        }
    }
}

impl LeaseClient {
    /// Renews one lease. `None` when the store could not be asked.
    pub async fn renew(&self, executor: &ExecutorId, session: &SessionId, lease: Duration) -> Option<bool> {
        let renewal = LeaseRenewal { executor: executor.clone(), session: session.clone(), lease };
        let (reply, result) = oneshot::channel();
        self.entries.send((renewal, reply)).await.ok()?;
        result.await.ok()
    }
}
