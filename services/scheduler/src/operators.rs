//! What operators do to executors: take one out of service, put it back, declare it dead. Each is one
//! change of its record; the leader does what follows from it.

use std::time::Duration;

use berth_api::convert::duration_ms;
use berth_api::status::Problem;
use berth_api::v1;
use berth_domain::executor::{Drain, Executor, ExecutorState};
use berth_domain::ids::ExecutorId;
use berth_store::{Call, Mutation, StoreError, Verdict};

use crate::context::Context;
use crate::jobs::list::show_executor;

/// How often a change that lost a race is decided again.
const TRIES: u32 = 5;

/// Gives an executor no new jobs, and at the deadline puts back those it still has. A repeated call
/// without a deadline keeps the one there is, 0 removes it. One that is lost is drained once it is back.
///
/// # Errors
/// Refuses an unknown executor and a malformed deadline; fails as the store does.
pub async fn drain(context: &Context, request: v1::DrainExecutorRequest) -> Result<v1::Executor, Problem> {
    let limit_ms = request.deadline.as_ref().map(|deadline| duration_ms("deadline", deadline)).transpose();
    let limit_ms = limit_ms.map_err(|wrong| Problem::Invalid(vec![wrong]))?;
    let executor = change(context, &request.id, |known| {
        let now_ms = context.clock.now_ms();
        let deadline_ms = match limit_ms {
            None => known.drain.and_then(|drain| drain.deadline_ms),
            Some(0) => None,
            Some(limit_ms) => Some(now_ms.saturating_add(limit_ms)),
        };
        Ok(Executor { drain: Some(Drain { deadline_ms }), ..known })
    })
    .await?;
    tracing::info!(executor_id = %executor.id, ?limit_ms, reason = request.reason, "executor is drained");
    Ok(show_executor(context, &executor))
}

/// Lets an executor take jobs again.
///
/// # Errors
/// Refuses an unknown executor, and a lost one that is not drained; fails as the store does.
pub async fn resume(context: &Context, request: v1::ResumeExecutorRequest) -> Result<v1::Executor, Problem> {
    let executor = change(context, &request.id, |known| match (known.state, known.drain) {
        (ExecutorState::Lost, None) => Err(Problem::Precondition {
            reason: "EXECUTOR_LOST",
            message: format!(
                "Executor {} is lost and not drained, so there is nothing to resume. It takes jobs again once it is back.",
                known.id
            ),
        }),
        (ExecutorState::Active | ExecutorState::Lost, _) => Ok(Executor { drain: None, ..known }),
    })
    .await?;
    tracing::info!(executor_id = %executor.id, "executor takes jobs again");
    Ok(show_executor(context, &executor))
}

/// Declares an executor dead: its session is void, and what it ran may run elsewhere.
///
/// # Errors
/// Refuses an unknown executor; fails as the store does.
pub async fn fence(context: &Context, request: v1::FenceExecutorRequest) -> Result<v1::Executor, Problem> {
    let executor = change(context, &request.id, |known| {
        let (lease_ms, now_ms) = (context.config.lease_ms(), context.clock.now_ms());
        let seen_ms = Some(known.last_seen_ms(lease_ms, now_ms));
        Ok(Executor {
            state: ExecutorState::Lost,
            session: None,
            not_ready: None,
            restarting: false,
            fenced: true,
            seen_ms,
            ..known
        })
    })
    .await?;
    tracing::warn!(executor_id = %executor.id, reason = request.reason, "executor was fenced by an operator");
    Ok(show_executor(context, &executor))
}

/// Changes one executor's record; a change that changes nothing is not stored.
async fn change(
    context: &Context,
    id: &str,
    decide: impl Fn(Executor) -> Result<Executor, Problem>,
) -> Result<Executor, Problem> {
    let id = ExecutorId::parse(id).map_err(|error| Problem::field("id", error.to_string()))?;
    for _ in 0..TRIES {
        // Times are those of this generation; in a later one the store's clock may be behind.
        let generation = context.generation();
        let known = context.store.executors().await.map_err(|e| context.problem(&e))?;
        let Some(known) = known.into_iter().find(|known| known.id == id) else {
            return Err(Problem::NotFound { kind: "executor", id: id.to_string() });
        };
        let next = decide(known.clone())?;
        if next == known {
            return Ok(known);
        }
        let mutation = Mutation::PutExecutor { executor: Box::new(next.clone()), lease: None };
        let call = Call { leader: None, generation: Some(generation), mutations: vec![mutation] };
        let committed = match context.commit(call).await {
            Err(StoreError::Generation { .. }) => continue,
            committed => committed.map_err(|e| context.problem(&e))?,
        };
        if let Some(Verdict::Applied(revision)) = committed.verdicts.first() {
            return Ok(Executor { revision: *revision, ..next });
        }
    }
    Err(Problem::Unavailable {
        reason: "EXECUTOR_CHANGING",
        message: format!("Executor {id} is being changed by others; retry."),
        retry_after: Duration::from_secs(1),
    })
}
