//! Judges executors lost, in two steps: a lease that ran out makes one suspect; the same lease
//! seen expired for the rest of `lost_after`, by the leader's own monotonic clock, makes it lost.
//! Then its jobs are dealt with in chunks. A new leader resumes from lost executors that still
//! have jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::{ExecutorId, SessionId};
use berth_store::Mutation;
use tokio::time::{Instant, sleep_until};

use super::decide::{bury, empty};
use super::lead::commit_fenced;
use super::lock::Term;
use crate::context::Context;
use crate::entropy::jitter;
use crate::image::Image;

/// Time between two looks at the leases.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// More than this share of executors lost at once, in hundredths, is rather our own trouble.
const FREEZE_PERCENT: usize = 25;
/// Fewer than this many lost executors never freeze verdicts.
const FREEZE_LEAST: usize = 3;
/// After this long, a frozen verdict is spoken anyway.
const FREEZE_FOR: Duration = Duration::from_secs(600);

/// One lease seen expired.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Suspicion {
    session: Option<SessionId>,
    expiry_ms: u64,
    since: Instant,
}

/// Watches the leases for a leader.
pub struct Liveness<'a> {
    context: &'a Context,
    term: &'a Term,
    suspicions: BTreeMap<ExecutorId, Suspicion>,
    /// No verdict before this.
    quiet_until: Instant,
    frozen_since: Option<Instant>,
    generation: u64,
}

impl<'a> Liveness<'a> {
    /// Watches on behalf of a leader, whose first verdict waits for a full `lost_after`.
    pub fn new(context: &'a Context, term: &'a Term) -> Self {
        Self {
            context,
            term,
            suspicions: BTreeMap::new(),
            quiet_until: term.since + context.config.lost_after,
            frozen_since: None,
            generation: context.generation(),
        }
    }

    /// Watches for ever.
    pub async fn watch(mut self) {
        loop {
            sleep_until(Instant::now() + LOOK_EVERY).await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let executors = match self.context.store.executors().await {
            Ok(executors) => executors,
            Err(error) => {
                tracing::warn!(%error, "leases could not be read; no verdicts for a while");
                self.quiet_until = Instant::now() + self.context.config.lost_after;
                return;
            }
        };
        self.context.note_answer();
        self.keep_quiet_where_due();
        let lost = self.lost(&executors);
        for executor in &lost {
            self.pronounce(executor.clone()).await;
        }
        // Those just judged are lost in the image by now, though not in what was read before.
        let is_lost = |known: &&Executor| known.state == ExecutorState::Lost;
        for executor in executors.iter().filter(is_lost).chain(&lost) {
            let bury = |image: &Image, now_ms| {
                bury(image, &executor.id, now_ms, || jitter(self.context.entropy.as_ref()))
            };
            self.commit_all(&executor.id, "putting back the jobs of a lost executor", bury).await;
        }
        // One that is away cannot stop anything, and may be resumed before it is back.
        let now_ms = self.context.clock.now_ms();
        let is_there = |known: &&Executor| !known.restarting && known.lease_expiry_ms > now_ms;
        for executor in executors.iter().filter(|known| known.drain.is_some()).filter(is_there) {
            let empty = |image: &Image, now_ms| {
                image.executor(&executor.id).map_or_else(Vec::new, |executor| empty(image, executor, now_ms))
            };
            self.commit_all(&executor.id, "stopping the jobs of a drained executor", empty).await;
        }
    }

    /// After anything that puts the leases themselves in doubt, nobody is judged for a while.
    fn keep_quiet_where_due(&mut self) {
        let lost_after = self.context.config.lost_after;
        if let Some(jumped) = self.context.clock.jumped_at() {
            self.quiet_until = self.quiet_until.max(jumped + lost_after);
        }
        let generation = self.context.generation();
        if generation != self.generation {
            self.generation = generation;
            self.quiet_until = Instant::now() + lost_after;
        }
    }

    /// Lists the executors whose verdict is due.
    fn lost(&mut self, executors: &[Executor]) -> Vec<Executor> {
        let now_ms = self.context.clock.now_ms();
        let living: Vec<&Executor> = executors.iter().filter(|e| e.state != ExecutorState::Lost).collect();
        let expired: Vec<&Executor> =
            living.iter().copied().filter(|e| e.lease_expiry_ms <= now_ms).collect();
        self.suspicions.retain(|id, _| expired.iter().any(|executor| executor.id == *id));
        let patience = self.context.config.lost_after.saturating_sub(self.context.config.lease);
        let mut due = Vec::new();
        for executor in &expired {
            let seen = Suspicion {
                session: executor.session.clone(),
                expiry_ms: executor.lease_expiry_ms,
                since: Instant::now(),
            };
            let suspicion = self.suspicions.entry(executor.id.clone()).or_insert_with(|| {
                tracing::warn!(executor_id = %executor.id, "executor is out of touch");
                seen.clone()
            });
            if (&suspicion.session, suspicion.expiry_ms) != (&seen.session, seen.expiry_ms) {
                *suspicion = seen;
            } else if suspicion.since.elapsed() >= patience {
                due.push((*executor).clone());
            }
        }
        if due.is_empty() || Instant::now() < self.quiet_until || self.frozen(&expired, &living) {
            Vec::new()
        } else {
            due
        }
    }

    /// Counts all that are out of touch: of those that were cut off together, the verdicts fall due one
    /// after the other, as their last heartbeats came. Who announced its stop was not cut off.
    fn frozen(&mut self, expired: &[&Executor], living: &[&Executor]) -> bool {
        let unannounced =
            |executors: &[&Executor]| executors.iter().filter(|known| !known.restarting).count();
        let (silent, living) = (unannounced(expired), unannounced(living));
        if silent < FREEZE_LEAST || silent * 100 <= living * FREEZE_PERCENT {
            self.frozen_since = None;
            return false;
        }
        let since = *self.frozen_since.get_or_insert_with(|| {
            tracing::error!(
                silent,
                living,
                "too many executors are out of touch at once; verdicts are frozen"
            );
            Instant::now()
        });
        since.elapsed() < FREEZE_FOR
    }

    async fn pronounce(&self, executor: Executor) {
        tracing::warn!(executor_id = %executor.id, "executor is lost");
        let (lease_ms, now_ms) = (self.context.config.lease_ms(), self.context.clock.now_ms());
        let seen_ms = Some(executor.last_seen_ms(lease_ms, now_ms));
        let lost =
            Executor { state: ExecutorState::Lost, session: None, restarting: false, seen_ms, ..executor };
        let mutation = Mutation::PutExecutor { executor: Box::new(lost), lease: None };
        commit_fenced(self.context, self.term, vec![mutation]).await;
    }

    /// Commits what is decided for an executor, in chunks, until nothing more is.
    async fn commit_all(
        &self,
        executor: &ExecutorId,
        what: &'static str,
        decide: impl Fn(&Image, u64) -> Vec<Mutation>,
    ) {
        loop {
            let now_ms = self.context.clock.now_ms();
            let mutations = self.context.with_image(|image| decide(image, now_ms));
            if mutations.is_empty() {
                return;
            }
            tracing::info!(executor_id = %executor, count = mutations.len(), what);
            commit_fenced(self.context, self.term, mutations).await;
        }
    }
}
