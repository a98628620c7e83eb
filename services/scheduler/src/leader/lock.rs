//! Competes for the leader lock, and leads while it is held. The lock gives progress; safety comes
//! from the fence in each commit, so a leader that was paused can do no harm.

use std::sync::Arc;
use std::time::Duration;

use berth_store::{Change, LeaderGuard, LockInfo, LockRequest};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lead::lead;
use crate::context::Context;
use crate::entropy::{jitter, random_name};
use crate::feed::FeedEvent;

/// What a leader knows of its own term.
#[derive(Debug, Clone)]
pub struct Term {
    /// The fence of its commits.
    pub guard: LeaderGuard,
    /// When it was acquired.
    pub since: Instant,
    /// Periods in which the queue clock stood still, oldest first.
    pub pauses: Vec<(u64, u64)>,
    /// Until when decisions may be made; moved on by every renewal.
    pub decide_until: watch::Receiver<Instant>,
}

/// Competes until `stop`; then gives the lock up, so that the next leader need not wait.
pub async fn compete(context: Arc<Context>, stop: CancellationToken) {
    let owner = format!("{}/{}", context.config.scheduler_id, random_name(context.entropy.as_ref()));
    let request = LockRequest {
        owner,
        scheduler_id: context.config.scheduler_id.to_string(),
        ttl: context.config.lock_ttl,
    };
    let ttl_ms = u64::try_from(request.ttl.as_millis()).unwrap_or(u64::MAX);
    while !stop.is_cancelled() {
        // Before it asks: a release after the answer is heard of.
        let mut feed = context.feed.subscribe();
        let sent = Instant::now();
        match context.store.acquire_lock(&request).await {
            Ok(Some(lock)) => {
                context.note_answer();
                // The pauses that come with it are by the store's clock as it is now.
                context.clock.observe(lock.expiry_ms.saturating_sub(ttl_ms));
                // A leader does not listen for a release, and what nobody takes would be kept in memory for it.
                drop(feed);
                serve_term(&context, &request, lock, sent, &stop).await;
                feed = context.feed.subscribe();
            }
            Ok(None) => context.note_answer(),
            Err(error) => tracing::warn!(%error, "leader lock could not be asked for"),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = released(&mut feed) => {}
            () = tokio::time::sleep(poll_wait(&context)) => {}
        }
    }
}

/// A sixth of the lock's life, a fifth shorter or longer, so that followers do not ask in step.
fn poll_wait(context: &Context) -> Duration {
    let base = context.config.lock_ttl / 6;
    let share = f64::from(jitter(context.entropy.as_ref())) / f64::from(u32::MAX);
    base.mul_f64(0.8 + 0.4 * share)
}

/// Waits until the lock may be free, as far as the log tells.
async fn released(feed: &mut broadcast::Receiver<FeedEvent>) {
    loop {
        match feed.recv().await {
            Ok(FeedEvent::Changes { changes, .. }) => {
                let free = |change: &Change| matches!(change, Change::Leader { scheduler_id, .. } if scheduler_id.is_empty());
                if changes.iter().any(|(_, change)| free(change)) {
                    return;
                }
            }
            // A new generation begins without a leader.
            Ok(FeedEvent::Resync) => return,
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

async fn serve_term(
    context: &Arc<Context>,
    request: &LockRequest,
    lock: LockInfo,
    sent: Instant,
    stop: &CancellationToken,
) {
    let ttl = context.config.lock_ttl;
    tracing::info!(epoch = lock.epoch, scheduler_id = %request.scheduler_id, "leader lock acquired");
    // Decisions stop a third of the lock's life before it can expire.
    let decide_for = ttl * 2 / 3;
    let (decide, decide_until) = watch::channel(sent + decide_for);
    let guard = LeaderGuard { epoch: lock.epoch, owner: lock.owner.clone() };
    let term = Term { guard, since: Instant::now(), pauses: lock.pauses, decide_until };
    let over = stop.child_token();
    let mut leading = tokio::spawn(lead(context.clone(), term, over.clone()));
    let lost = tokio::select! {
        biased;
        // A loop that broke must not keep the lock from a replica that can lead.
        ended = &mut leading => {
            // A stop ends it too, and may be seen here first.
            if ended.is_err() || !stop.is_cancelled() {
                tracing::error!(epoch = lock.epoch, broke = ended.is_err(), "leader loop ended by itself");
            }
            false
        }
        lost = keep(context, &lock.owner, lock.epoch, &decide, stop) => {
            over.cancel();
            if let Err(error) = leading.await {
                tracing::error!(%error, "leader loop ended abnormally");
            }
            lost
        }
    };
    if !lost {
        match context.store.release_lock(&lock.owner, lock.epoch).await {
            Ok(_) => tracing::info!(epoch = lock.epoch, "leader lock released"),
            Err(error) => tracing::warn!(%error, "leader lock could not be released; it expires"),
        }
    }
}

/// Renews the lock until it is lost (`true`) or the replica stops (`false`).
async fn keep(
    context: &Context,
    owner: &str,
    epoch: u64,
    decide: &watch::Sender<Instant>,
    stop: &CancellationToken,
) -> bool {
    let ttl = context.config.lock_ttl;
    let mut expires = *decide.borrow() + ttl / 3;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(ttl / 3) => {}
        }
        let sent = Instant::now();
        let renewed = tokio::time::timeout(ttl / 6, context.store.renew_lock(owner, epoch, ttl)).await;
        match renewed {
            Ok(Ok(true)) => {
                context.note_answer();
                decide.send_replace(sent + ttl * 2 / 3);
                expires = sent + ttl;
            }
            Ok(Ok(false)) => {
                tracing::warn!(epoch, "leader lock lost");
                return true;
            }
            Ok(Err(error)) => tracing::warn!(epoch, %error, "leader lock could not be renewed"),
            Err(_) => tracing::warn!(epoch, "leader lock renewal timed out"),
        }
        if Instant::now() >= expires {
            tracing::warn!(epoch, "leader lock expired");
            return true;
        }
    }
}
