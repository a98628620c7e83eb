//! Stores what an executor says of its own condition: whether it can run jobs, and that it is about to
//! restart. Only its current session may speak for it.

use std::time::Duration;

use berth_domain::executor::{Executor, RESTART_LEASE_MS};
use berth_domain::ids::{ExecutorId, SessionId};
use berth_store::{Call, Mutation, StoreError, Verdict};

use crate::context::Context;

/// How often a change that lost a race is decided again.
const TRIES: u32 = 5;

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is stored.
    Stored,
    /// Others were faster each time: it is to be tried again later.
    Busy,
    /// Another session speaks for the executor by now.
    Over,
}

/// Stores why the executor can run no jobs; an empty reason says that it can.
///
/// # Errors
/// Fails when the store does.
pub(super) async fn set_not_ready(
    context: &Context,
    executor: &ExecutorId,
    session: &SessionId,
    reason: &str,
) -> Result<Noted, StoreError> {
    let reason = (!reason.is_empty()).then(|| reason.to_owned());
    match &reason {
        Some(reason) => tracing::warn!(executor_id = %executor, %reason, "executor can run no jobs"),
        None => tracing::info!(executor_id = %executor, "executor can run jobs"),
    }
    change(context, executor, session, None, |record| Executor { not_ready: reason.clone(), ..record }).await
}

/// Gives the executor time to restart, and no jobs meanwhile.
///
/// # Errors
/// Fails when the store does.
pub(super) async fn set_restarting(
    context: &Context,
    executor: &ExecutorId,
    session: &SessionId,
) -> Result<Noted, StoreError> {
    let lease = Duration::from_millis(RESTART_LEASE_MS).max(context.config.lease);
    let seen_ms = Some(context.clock.now_ms());
    let restarting = |record| Executor { restarting: true, seen_ms, ..record };
    change(context, executor, session, Some(lease), restarting).await
}

async fn change(
    context: &Context,
    executor: &ExecutorId,
    session: &SessionId,
    lease: Option<Duration>,
    next: impl Fn(Executor) -> Executor,
) -> Result<Noted, StoreError> {
    for _ in 0..TRIES {
        let generation = context.generation();
        let known = context.store.executor(executor).await?;
        let Some(known) = known.filter(|known| known.session.as_ref() == Some(session)) else {
            return Ok(Noted::Over);
        };
        let mutation = Mutation::PutExecutor { executor: Box::new(next(known)), lease };
        let call = Call { leader: None, generation: Some(generation), mutations: vec![mutation] };
        match context.commit(call).await {
            Ok(committed) if matches!(committed.verdicts.first(), Some(Verdict::Applied(_))) => {
                return Ok(Noted::Stored);
            }
            Ok(_) | Err(StoreError::Generation { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    tracing::warn!(executor_id = %executor, "the executor's condition could not be stored: it is being changed by others");
    Ok(Noted::Busy)
}
