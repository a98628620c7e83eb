//! Removes ended jobs whose time is over, or that are too many.

use std::time::Duration;

use berth_domain::job::Job;
use berth_store::{MAX_MUTATIONS, Mutation, Scope, StoreError};
use tokio::time::{Instant, sleep_until};

use super::decide::MOST_DECIDED;
use super::lead::commit_fenced;
use super::lock::Term;
use crate::context::Context;

/// The longest time between two looks.
const MOST_WAIT: Duration = Duration::from_secs(10);
/// The shortest time between two looks.
const LEAST_WAIT: Duration = Duration::from_millis(100);

/// Keeps the finished jobs within their bounds.
pub struct Retention<'a> {
    context: &'a Context,
    term: &'a Term,
}

impl<'a> Retention<'a> {
    /// Keeps them on behalf of a leader.
    pub fn new(context: &'a Context, term: &'a Term) -> Self {
        Self { context, term }
    }

    /// Looks again and again: soon after the earliest job's time, at least every ten seconds.
    pub async fn keep(self) {
        let wait = (self.context.config.retention / 10).clamp(LEAST_WAIT, MOST_WAIT);
        loop {
            sleep_until(Instant::now() + wait).await;
            // Whole calls are followed by another, so that a backlog shrinks at the store's speed.
            loop {
                match self.remove_some().await {
                    Ok(removed) if removed >= MAX_MUTATIONS => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "ended jobs could not be looked through");
                        break;
                    }
                }
            }
        }
    }

    async fn remove_some(&self) -> Result<usize, StoreError> {
        let context = self.context;
        let meta = context.store.meta().await?;
        let finished: u64 =
            meta.counts.iter().filter(|(state, _)| state.is_terminal()).map(|(_, count)| count).sum();
        let surplus = finished.saturating_sub(context.config.retention_count);
        let retention_ms = u64::try_from(context.config.retention.as_millis()).unwrap_or(u64::MAX);
        let before = context.clock.now_ms().saturating_sub(retention_ms);
        let page = context.store.page(&Scope::Finished, None, MOST_DECIDED).await?;
        let over = |(i, job): &(usize, Job)| {
            (*i as u64) < surplus || job.end_time_ms.is_some_and(|end| end <= before)
        };
        let removals: Vec<Mutation> = page
            .jobs
            .into_iter()
            .enumerate()
            .filter(over)
            .map(|(_, job)| Mutation::Delete { job_id: job.id, revision: job.revision })
            .collect();
        let count = removals.len();
        if count > 0 {
            commit_fenced(context, self.term, removals).await;
        }
        Ok(count)
    }
}
