//! The leader's loop: whenever something changes, decide from the image, commit fenced, and look
//! again once the image shows what was committed. While a commit is under way, changes gather.

use std::sync::Arc;
use std::time::Duration;

use berth_store::{Call, MAX_MUTATIONS, Mutation, Position, StoreError, Verdict};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::decide::{Circumstances, decide, next_deadline_ms};
use super::liveness::Liveness;
use super::lock::Term;
use super::retention::Retention;
use crate::context::Context;
use crate::feed::{load, reached};

/// How long the image may take to show what was committed before everything is read again.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How many times longer than a safety pass took nobody looks again, and how long at most: much is not read all the
/// time.
const REST: u32 = 50;
const MOST_REST: Duration = Duration::from_secs(600);
/// The wait after a failed commit.
const RETRY_WAIT: Duration = Duration::from_millis(100);

/// Leads until `over`.
pub async fn lead(context: Arc<Context>, term: Term, over: CancellationToken) {
    tokio::select! {
        biased;
        () = over.cancelled() => {}
        () = place_for_ever(&context, &term) => {}
        () = Liveness::new(&context, &term).watch() => {}
        () = Retention::new(&context, &term).keep() => {}
    }
}

async fn place_for_ever(context: &Context, term: &Term) {
    // The image must be at least as new as the lock, so that a predecessor's commits are seen.
    synchronise(context).await;
    let mut applied = context.applied.subscribe();
    let mut safety = Instant::now() + context.config.safety_interval;
    loop {
        applied.mark_unchanged();
        let (mutations, wake_ms) = context.with_image_mut(|image| {
            let circumstances = Circumstances {
                epoch: term.guard.epoch,
                now_ms: context.clock.now_ms(),
                pauses: &term.pauses,
                lost_after_ms: context.config.lost_after_ms(),
            };
            let mutations = decide(image, &circumstances);
            let wake = if mutations.is_empty() { next_deadline_ms(image, &circumstances) } else { None };
            (mutations, wake)
        });
        if !mutations.is_empty() {
            commit_fenced(context, term, mutations).await;
            continue;
        }
        let now_ms = context.clock.now_ms();
        let deadline = wake_ms.map(|at| Instant::now() + Duration::from_millis(at.saturating_sub(now_ms)));
        tokio::select! {
            biased;
            changed = applied.changed() => if changed.is_err() { return },
            () = sleep_until(deadline.unwrap_or(safety)), if deadline.is_some() => {}
            () = sleep_until(safety) => {
                let began = Instant::now();
                let mut rest = context.config.safety_interval;
                match load(context).await {
                    Ok(()) => rest = rest.max((REST * began.elapsed()).min(MOST_REST)),
                    Err(error) => tracing::warn!(%error, "safety pass could not read the store"),
                }
                safety = Instant::now() + rest;
            }
        }
    }
}

/// Commits with the leader's fence and waits until the image shows it.
pub async fn commit_fenced(context: &Context, term: &Term, mutations: Vec<Mutation>) {
    if *term.decide_until.borrow() <= Instant::now() {
        // The lock may expire before the commit arrives. The fence would stop it; waiting is cheaper.
        tokio::time::sleep(RETRY_WAIT).await;
        return;
    }
    let decided_at = context.with_image(|image| image.position);
    let count = mutations.len();
    match commit_all(context, term, decided_at.generation, mutations).await {
        Ok((position, conflicts)) => {
            tracing::debug!(count, conflicts, revision = position.revision, "leader committed");
            if !reached(context, position, CATCH_UP).await {
                reload(context).await;
            } else if conflicts == count && context.with_image(|image| image.position) == decided_at {
                // The store contradicts the image, and nothing in the log explains it: the same would be
                // decided, and refused, for ever.
                tracing::warn!(count, "the store refuses what its log allows; reading everything again");
                reload(context).await;
                tokio::time::sleep(RETRY_WAIT).await;
            }
        }
        Err(StoreError::Fenced) => {
            tracing::warn!(epoch = term.guard.epoch, "leader commit was fenced");
            tokio::time::sleep(RETRY_WAIT).await;
        }
        Err(error) => {
            tracing::warn!(%error, "leader commit failed");
            tokio::time::sleep(RETRY_WAIT).await;
            // What was applied, if anything, shows in the log: nothing is decided before it does.
            synchronise(context).await;
        }
    }
}

/// Commits in as many calls as it takes, at the same time: what is decided together is about jobs of which each is
/// changed once, so that the order does not matter. Gives the newest position, and how many conflicts there were.
async fn commit_all(
    context: &Context,
    term: &Term,
    generation: u64,
    mutations: Vec<Mutation>,
) -> Result<(Position, usize), StoreError> {
    let mut mutations = mutations.into_iter();
    let mut calls = Vec::new();
    loop {
        let mutations: Vec<Mutation> = mutations.by_ref().take(MAX_MUTATIONS).collect();
        if mutations.is_empty() {
            break;
        }
        let call = Call { leader: Some(term.guard.clone()), generation: Some(generation), mutations };
        calls.push(context.commit(call));
    }
    let (mut position, mut conflicts) = (Position::default(), 0);
    for committed in futures::future::join_all(calls).await {
        let committed = committed?;
        position = position.max(committed.position);
        conflicts += committed.verdicts.iter().filter(|v| matches!(v, Verdict::Conflict(_))).count();
    }
    Ok((position, conflicts))
}

/// Waits until the image is at least as new as the store is now.
async fn synchronise(context: &Context) {
    loop {
        match context.store.head().await {
            Ok(head) => {
                context.note_answer();
                if reached(context, head, CATCH_UP).await {
                    return;
                }
                reload(context).await;
            }
            Err(error) => {
                tracing::warn!(%error, "store head could not be read");
                tokio::time::sleep(RETRY_WAIT).await;
            }
        }
    }
}

async fn reload(context: &Context) {
    if let Err(error) = load(context).await {
        tracing::warn!(%error, "cluster image could not be loaded");
        tokio::time::sleep(RETRY_WAIT).await;
    }
}
