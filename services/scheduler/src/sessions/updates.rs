//! Commits what sessions report: what comes while commits are under way goes to the store together.

use std::sync::Arc;

use berth_store::{Call, MAX_MUTATIONS, Mutation, StoreError, Verdict};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// Commits under way at the same time: the next is gathered while the store is busy with those.
const UNDER_WAY: usize = 2;
/// The most updates of an entry: what one session has to say is cut into parts, so that calls are full.
const PART: usize = 20;
/// Entries that may wait.
const MOST_WAITING: usize = 1_024;

/// What one session has to commit at once.
struct Entry {
    /// The generation that it was decided in.
    generation: u64,
    mutations: Vec<Mutation>,
    reply: oneshot::Sender<Result<Vec<Verdict>, StoreError>>,
}

/// Collects updates.
pub struct UpdateBatcher {
    entries: Mutex<Entries>,
}

struct Entries {
    waiting: mpsc::Receiver<Entry>,
    /// One that did not fit into the last batch.
    first: Option<Entry>,
}

/// Hands updates to the batcher.
#[derive(Debug, Clone)]
pub struct UpdateClient {
    entries: mpsc::Sender<Entry>,
}

impl UpdateBatcher {
    /// Makes a batcher and its handle.
    pub fn new() -> (Self, UpdateClient) {
        let (sender, waiting) = mpsc::channel(MOST_WAITING);
        (Self { entries: Mutex::new(Entries { waiting, first: None }) }, UpdateClient { entries: sender })
    }

    /// Commits until `stop`.
    pub async fn run(self, context: Arc<Context>, stop: CancellationToken) {
        let workers = (0..UNDER_WAY).map(|_| self.commit_for_ever(&context));
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = futures::future::join_all(workers) => {}
        }
    }

    async fn commit_for_ever(&self, context: &Context) {
        loop {
            let Some(batch) = self.entries.lock().await.next().await else { return };
            commit(context, batch).await;
        }
    }
}

impl Entries {
    /// Waits for entries, and takes as many of one generation as a call holds.
    async fn next(&mut self) -> Option<Vec<Entry>> {
        let first = match self.first.take() {
            Some(first) => first,
            None => self.waiting.recv().await?,
        };
        let (generation, mut room) = (first.generation, MAX_MUTATIONS.saturating_sub(first.mutations.len()));
        let mut batch = vec![first];
        while let Ok(entry) = self.waiting.try_recv() {
            match room.checked_sub(entry.mutations.len()) {
                Some(rest) if entry.generation == generation => room = rest,
                _ => {
                    self.first = Some(entry);
                    break;
                }
            }
            batch.push(entry);
        }
        Some(batch)
    }
}

async fn commit(context: &Context, batch: Vec<Entry>) {
    let generation = batch.first().map(|entry| entry.generation);
    let mut mutations = Vec::with_capacity(MAX_MUTATIONS);
    let mut replies = Vec::with_capacity(batch.len());
    for entry in batch {
        replies.push((entry.mutations.len(), entry.reply));
        mutations.extend(entry.mutations);
    }
    match context.commit(Call { leader: None, generation, mutations }).await {
        Ok(committed) => {
            let mut verdicts = committed.verdicts.into_iter();
            for (count, reply) in replies {
                // A session that no longer waits has ended.
                let _ = reply.send(Ok(verdicts.by_ref().take(count).collect()));
            }
        }
        Err(error) => {
            for (_, reply) in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

impl UpdateClient {
    /// Commits updates that were decided in a generation, each of another job: not always in one call.
    ///
    /// # Errors
    /// As the store says.
    pub async fn commit(
        &self,
        generation: u64,
        mutations: Vec<Mutation>,
    ) -> Result<Vec<Verdict>, StoreError> {
        let stopping = || StoreError::Unavailable { reason: "this replica stops".to_owned() };
        let (mut mutations, mut results) = (mutations.into_iter(), Vec::new());
        loop {
            let mutations: Vec<Mutation> = mutations.by_ref().take(PART).collect();
            if mutations.is_empty() {
                break;
            }
            let (reply, result) = oneshot::channel();
            self.entries.send(Entry { generation, mutations, reply }).await.map_err(|_| stopping())?;
            results.push(result);
        }
        let mut verdicts = Vec::new();
        for result in results {
            verdicts.extend(result.await.map_err(|_| stopping())??);
        }
        Ok(verdicts)
    }
}
