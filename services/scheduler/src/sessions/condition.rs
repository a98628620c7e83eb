//! Stores what an executor says of its own condition: whether it can run jobs, and that it is about to
//! restart. Only its current session may speak for it.

use std::time::Duration;

use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, SessionId};
use berth_store::{Call, Mutation, StoreError, Verdict};

use crate::context::Context;

/// How long an executor that announced its restart is waited for.
const RESTART_LEASE: Duration = Duration::from_secs(120);
/// How often a change that lost a race is decided again; the next heartbeat would bring it anyway.
const TRIES: u32 = 5;

/// Stores why the executor can run no jobs; an empty reason says that it can.
///
/// # Errors
/// Fails when the store does.
pub(super) async fn set_not_ready(
    context: &Context,
    executor: &ExecutorId,
    session: &SessionId,
    reason: &str,
) -> Result<(), StoreError> {
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
) -> Result<(), StoreError> {
    let lease = RESTART_LEASE.max(context.config.lease);
    let restarting = |record| Executor { not_ready: Some("It restarts.".to_owned()), ..record };
    change(context, executor, session, Some(lease), restarting).await
}

async fn change(
    context: &Context,
    executor: &ExecutorId,
    session: &SessionId,
    lease: Option<Duration>,
    next: impl Fn(Executor) -> Executor,
) -> Result<(), StoreError> {
    for _ in 0..TRIES {
        let known = context.store.executors().await?;
        let known = known.into_iter().find(|known| known.id == *executor);
        // Another session speaks for it now.
        let Some(known) = known.filter(|known| known.session.as_ref() == Some(session)) else {
            return Ok(());
        };
        let mutation = Mutation::PutExecutor { executor: Box::new(next(known)), lease };
        let call = Call { leader: None, generation: None, mutations: vec![mutation] };
        let committed = context.commit(call).await?;
        if let Some(Verdict::Applied(_)) = committed.verdicts.first() {
            return Ok(());
        }
    }
    tracing::warn!(executor_id = %executor, "the executor's condition could not be stored: it is being changed by others");
    Ok(())
}
