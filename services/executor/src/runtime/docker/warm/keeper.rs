//! Keeps warm containers: removes what an earlier process left before any is given, those that are of no use any
//! more, and all of them at the end.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine;
use super::pool::{Pool, Work};
use super::shared::Warm;
use crate::runtime::{EngineError, Owner};

/// How long it takes at most to remove everything at the end; the next process removes the rest.
const LAST: Duration = Duration::from_secs(10);
/// Removals at the same time, at the beginning and at the end.
const AT_ONCE: usize = 4;
/// Waits between questions to an engine that does not answer.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps them until it is told to stop.
pub(in crate::runtime::docker) async fn keep(warm: Arc<Warm>, owner: Owner, stop: CancellationToken) {
    if stop.run_until_cancelled(begin(&warm, &owner)).await.is_some() {
        while let Some(id) = stop.run_until_cancelled(next(&warm)).await {
            remove(&warm, id).await;
        }
    }
    end(&warm).await;
}

/// Removes what an earlier process left, with whatever runs in it, and opens the pool.
async fn begin(warm: &Warm, owner: &Owner) {
    while remove_left_over(warm, owner).await.is_err() {
        // The runtime says itself, once, why the engine is out of reach.
        tracing::debug!("warm containers of an earlier process cannot be removed yet");
        tokio::time::sleep(AGAIN).await;
    }
    warm.pool().open();
    warm.settled.send_replace(true);
}

async fn remove_left_over(warm: &Warm, owner: &Owner) -> Result<(), EngineError> {
    let left_over = engine::left_over(&warm.link, owner).await?;
    if !left_over.is_empty() {
        tracing::info!(count = left_over.len(), "warm containers of an earlier process are removed");
    }
    let removals = stream::iter(left_over).map(|id| end_left_over(warm, id));
    let removed: Vec<_> = removals.buffer_unordered(AT_ONCE).collect().await;
    removed.into_iter().collect()
}

/// Ends what an earlier process left. One that is dead and cannot be removed is no reason to wait.
async fn end_left_over(warm: &Warm, id: String) -> Result<(), EngineError> {
    let Err(error) = engine::remove(&warm.link, &id).await else { return Ok(()) };
    if engine::kill(&warm.link, &id).await? == engine::Killed::Gone {
        return Ok(());
    }
    if engine::running(&engine::inspect(&warm.link, &id).await?).is_some() {
        return Err(error);
    }
    warm.pool().not_removed(id, Pool::again(Instant::now()));
    Ok(())
}

/// Waits for the next container that is to be removed.
async fn next(warm: &Warm) -> String {
    loop {
        // In this order, nothing that happens meanwhile is missed: a wake-up without a waiter is kept.
        let work = warm.pool().next(Instant::now());
        match work {
            Work::Remove(id) => return id,
            Work::Wait(Some(until)) => {
                let _ = tokio::time::timeout_at(until, warm.changed.notified()).await;
            }
            Work::Wait(None) => warm.changed.notified().await,
        }
    }
}

async fn remove(warm: &Warm, id: String) {
    match engine::remove(&warm.link, &id).await {
        Ok(()) => tracing::debug!(container = id, "warm container removed"),
        Err(error) => {
            tracing::debug!(container = id, %error, "a warm container could not be removed, which is tried again");
            warm.pool().not_removed(id, Pool::again(Instant::now()));
        }
    }
}

/// Removes all, with the jobs in them: nobody could tell how those end. The next process says that they are lost.
async fn end(warm: &Warm) {
    let all = warm.pool().close();
    let removals = stream::iter(all).for_each_concurrent(AT_ONCE, |id| remove(warm, id));
    if tokio::time::timeout(LAST, removals).await.is_err() {
        tracing::info!("warm containers are left to the next process of this executor");
    }
}
