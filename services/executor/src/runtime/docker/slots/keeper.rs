//! Keeps slots: makes them where jobs found none, removes those that are of no use any more, and all that
//! nobody uses at the end. One call after the other, so that jobs' own starts come first at the engine.

use std::sync::Arc;
use std::time::Duration;

use berth_domain::spec::Network;
use futures::stream::{self, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::make::Maker;
use super::pool::Work;
use super::shared::Slots;
use crate::runtime::EngineError;

/// How long it takes at most to remove what is idle at the end; the next process removes the rest.
const LAST: Duration = Duration::from_secs(10);
/// Removals at the same time, at the end.
const LAST_AT_ONCE: usize = 4;
/// Waits between questions to an engine that does not answer.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps at most so many slots, until it is told to stop. What is under way then has as long as what follows.
pub(in crate::runtime::docker) async fn keep(
    slots: Arc<Slots>,
    maker: Maker,
    most: usize,
    stop: CancellationToken,
) {
    let impatience = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST).await;
    };
    tokio::select! {
        () = work(&slots, &maker, most, &stop) => {}
        () = impatience => {}
    }
    end(&slots, &maker).await;
}

async fn work(slots: &Slots, maker: &Maker, most: usize, stop: &CancellationToken) {
    if stop.run_until_cancelled(begin(slots, maker, most)).await.is_none() {
        return;
    }
    while let Some(work) = stop.run_until_cancelled(next(slots)).await {
        // A stop waits for the end of it: what was made must be known.
        match work {
            Work::Remove(id) => remove(slots, maker, id).await,
            Work::Make(network) => make(slots, maker, network).await,
            Work::Wait(_) => {}
        }
    }
}

/// Finds what an earlier process left, and opens the pool.
async fn begin(slots: &Slots, maker: &Maker, most: usize) {
    let left_over = loop {
        match maker.left_over().await {
            Ok(left_over) => break left_over,
            // Jobs find no slots meanwhile; the runtime says itself, once, why the engine is out of reach.
            Err(EngineError::Unreachable(_)) => {}
            Err(error @ (EngineError::Unavailable(_) | EngineError::Failed(_))) => {
                tracing::debug!(%error, "slots of an earlier process cannot be listed")
            }
        }
        tokio::time::sleep(AGAIN).await;
    };
    let now = Instant::now();
    for (slot, holder) in left_over {
        slots.pool().left_over(slot, holder, now);
    }
    if most == 0 {
        return;
    }
    match maker.suits().await {
        Ok(Ok(())) => slots.pool().open(most),
        Ok(Err(arch)) => tracing::info!(arch, "no network slots are kept on this architecture"),
        Err(error) => tracing::warn!(%error, "no network slots are kept: the engine does not answer"),
    }
}

/// Waits for the next thing to do.
async fn next(slots: &Slots) -> Work<String> {
    loop {
        // In this order, nothing that happens meanwhile is missed: a wake-up without a waiter is kept.
        let work = slots.pool().next(Instant::now());
        match work {
            Work::Wait(Some(until)) => {
                let _ = tokio::time::timeout_at(until, slots.changed.notified()).await;
            }
            Work::Wait(None) => slots.changed.notified().await,
            Work::Remove(_) | Work::Make(_) => return work,
        }
    }
}

async fn make(slots: &Slots, maker: &Maker, network: Network) {
    let name = maker.name();
    match maker.make(&name, network).await {
        Ok(slot) => {
            tracing::debug!(slot = slot.id, ?network, "network slot made");
            slots.pool().made(slot, network, Instant::now());
        }
        Err(error) => {
            let is_news = slots.pool().not_made(Instant::now());
            let removed = maker.remove(&name).await;
            // What did not answer may make it yet.
            if removed.is_err() || matches!(error, EngineError::Unavailable(_)) {
                slots.pool().not_removed(name, Instant::now());
            }
            match error {
                EngineError::Failed(_) if is_news => tracing::warn!(
                    reason = %error,
                    "a network slot could not be made: jobs run in networks of their own, which start slower"
                ),
                _ => tracing::debug!(reason = %error, "a network slot could not be made"),
            }
        }
    }
}

async fn remove(slots: &Slots, maker: &Maker, id: String) {
    match maker.remove(&id).await {
        Ok(()) => tracing::debug!(slot = id, "network slot removed"),
        Err(error) => {
            tracing::debug!(slot = id, %error, "a network slot could not be removed, which is tried again");
            slots.pool().not_removed(id, Instant::now());
        }
    }
}

/// Removes what nobody uses.
async fn end(slots: &Slots, maker: &Maker) {
    let idle = slots.pool().close();
    let removals = stream::iter(idle).for_each_concurrent(LAST_AT_ONCE, |id| async move {
        if let Err(error) = maker.remove(&id).await {
            tracing::debug!(slot = id, %error, "a network slot is left to the next process");
        }
    });
    if tokio::time::timeout(LAST, removals).await.is_err() {
        tracing::info!("idle network slots are left to the next process of this executor");
    }
}
