//! What the owner makes of the session's commands and of what became of steps.

use std::collections::BTreeSet;

use berth_domain::ids::AttemptRef;
use berth_domain::reconcile::ContainerState;

use super::owner::Reconciler;
use super::types::{Command, Inventory, LiveAttempt, Orders, Outcome, Phase, Progress};

/// The most ends a registration tells; what is not noted is reported in any case.
const MOST_ENDED: usize = 4_000;

impl Reconciler {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Orders(orders) => self.orders(orders),
            Command::Acknowledged { attempt, ended, current } => self.acknowledged(&attempt, ended, current),
            Command::Dismiss(key) => self.dismiss(&key),
            Command::Registered => {
                // What is here belongs to this process; what of it is wanted is told next.
                self.assignments_known = false;
                for attempt in self.attempts.values_mut() {
                    attempt.stranger = false;
                }
            }
            Command::Inventory(answer) => {
                // A session that is gone meanwhile asks again.
                let _ = answer.send(self.inventory());
            }
        }
    }

    fn orders(&mut self, orders: Orders) {
        if orders.full_set {
            let started = orders.starts.iter().map(|(key, _)| key);
            let wanted: BTreeSet<&AttemptRef> = started.chain(&orders.confirmed).collect();
            let unwanted: Vec<AttemptRef> =
                self.attempts.keys().filter(|key| !wanted.contains(key)).cloned().collect();
            for key in unwanted {
                self.leave_out(&key);
            }
            self.assignments_known = true;
        }
        for key in orders.confirmed {
            if let Some(attempt) = self.attempts.get_mut(&key).filter(|attempt| attempt.order.is_none()) {
                attempt.confirmed = attempt.end.is_none();
                attempt.stranger = false;
                self.touch(&key);
            }
        }
        let now_ms = self.now_ms();
        for (key, order) in orders.starts {
            let attempt = self.attempts.entry(key.clone()).or_default();
            let new = attempt.order.is_none() && attempt.end.is_none();
            attempt.order(order, now_ms);
            if new {
                // Output that is captured already is whole, and nothing more of it is to be expected.
                if attempt.captured.is_none() {
                    self.steps.parts.capture.store.expect(&key);
                }
                let phase = Phase::Accepted;
                let progress = Progress { attempt: key.clone(), phase, pulled_bytes: 0, total_bytes: 0 };
                let _ = self.steps.parts.progress.try_send(progress);
            }
            self.touch(&key);
        }
        for (key, grace_ms) in orders.stops {
            if let Some(attempt) = self.attempts.get_mut(&key) {
                if attempt.abort(grace_ms, now_ms) {
                    tracing::info!(job_id = %key.job, attempt = key.number, epoch = key.epoch, "stop requested");
                }
                self.touch(&key);
            }
        }
    }

    /// The whole set does not have the attempt. An end that nobody took note of is told all the
    /// same: it may be news to the schedulers.
    fn leave_out(&mut self, key: &AttemptRef) {
        let Some(attempt) = self.attempts.get_mut(key).filter(|attempt| !attempt.stranger) else { return };
        match attempt.end {
            Some(_) => attempt.order = None,
            None => attempt.dismiss(),
        }
        self.touch(key);
    }

    fn dismiss(&mut self, key: &AttemptRef) {
        if let Some(attempt) = self.attempts.get_mut(key) {
            tracing::info!(job_id = %key.job, attempt = key.number, epoch = key.epoch, "no longer wanted here");
            attempt.dismiss();
            self.touch(key);
        }
    }

    fn acknowledged(&mut self, key: &AttemptRef, ended: bool, current: bool) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if ended && attempt.end.is_some() {
            attempt.note();
            let (outbox, key) = (self.steps.parts.outbox.clone(), key.clone());
            self.tasks.spawn(async move {
                if let Err(error) = outbox.acknowledge(&key).await {
                    // The end is only reported once more after a restart.
                    tracing::debug!(job_id = %key.job, error = %error, "an acknowledgement was not noted");
                }
            });
        } else if !current {
            attempt.dismiss();
        }
        self.touch(key);
    }

    fn inventory(&self) -> Inventory {
        let mut inventory = Inventory { containers_known: self.containers_known, ..Inventory::default() };
        for (key, attempt) in &self.attempts {
            match &attempt.end {
                Some(end) => inventory.ended.push(end.clone()),
                None if attempt.container.is_some() || attempt.stale || attempt.order.is_some() => {
                    let gpus = attempt.order.as_ref().map(|order| order.gpu_device_ids.clone());
                    inventory.live.push(LiveAttempt {
                        attempt: key.clone(),
                        started_ms: attempt.started_ms,
                        gpu_device_ids: gpus.unwrap_or_default(),
                        spec_known: attempt.order.is_some(),
                    });
                }
                None => {}
            }
        }
        let noted = |key: &AttemptRef| self.attempts.get(key).is_some_and(|attempt| attempt.noted);
        inventory.ended.sort_by_key(|end| (noted(&end.attempt), std::cmp::Reverse(end.end_time_ms)));
        inventory.ended.truncate(MOST_ENDED);
        inventory
    }

    pub(super) fn done(&mut self, key: &AttemptRef, outcome: Outcome) {
        let (now_ms, jitter) = (self.now_ms(), self.steps.parts.random.next_u32());
        self.set_changed_turn(key);
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let (job_id, number, epoch) = (&key.job, key.number, key.epoch);
        let (started, ended) = (outcome == Outcome::Started, matches!(outcome, Outcome::Ended { .. }));
        match &outcome {
            Outcome::Started => tracing::info!(%job_id, attempt = number, epoch, "container started"),
            Outcome::Stopping(stop) => {
                tracing::info!(%job_id, attempt = number, epoch, cause = ?stop.cause, "container asked to stop");
            }
            Outcome::SlotDead => {
                tracing::info!(%job_id, attempt = number, epoch, "network slot dead: the container is made anew");
            }
            Outcome::Killed => tracing::info!(%job_id, attempt = number, epoch, "container killed"),
            Outcome::Ended { end, .. } => {
                tracing::info!(%job_id, attempt = number, epoch, cause = ?end.cause, message = %end.message, "attempt ended");
            }
            // What stops every step is worth one word, not one a job.
            Outcome::Broken { message, .. } | Outcome::Unsure { message, .. }
                if self.last_failure.as_ref() == Some(message) =>
            {
                tracing::debug!(%job_id, attempt = number, epoch, reason = %message, "step failed again");
            }
            Outcome::Broken { message, .. } | Outcome::Unsure { message, .. } => {
                tracing::warn!(%job_id, attempt = number, epoch, reason = %message, "step failed and is tried again");
                self.last_failure = Some(message.clone());
            }
            Outcome::Forgotten if attempt.order.is_none() => return self.forget(key),
            Outcome::Forgotten
            | Outcome::Seen(_)
            | Outcome::Created
            | Outcome::Removed
            | Outcome::Cancelled => {}
        }
        attempt.done(outcome, now_ms, jitter);
        if ended && attempt.captured.is_none() {
            self.steps.parts.capture.store.close(key);
        }
        // An end of before the restart may stand beside a container whose output is not all here.
        let exited = attempt.container == Some(ContainerState::Exited);
        if exited && attempt.end.is_some() {
            self.capture(key);
        }
        if started && self.attempts.get(key).is_some_and(|a| runs(a.container)) {
            self.watch(key);
        }
        self.touch(key);
    }
}

fn runs(container: Option<ContainerState>) -> bool {
    matches!(container, Some(ContainerState::Running { .. }))
}
