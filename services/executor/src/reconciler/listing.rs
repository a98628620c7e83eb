//! Lists the engine's containers: once before anything is done, then from time to time. Until the first
//! list nothing is known of any attempt, so that nothing is done.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use berth_domain::backoff::Backoff;

use super::attempt::Attempt;
use super::owner::Reconciler;
use super::steps::Steps;
use super::types::Notice;
use crate::runtime::{EngineError, Listed};

/// How many safety intervals lie between two looks for old output.
const SWEEP_EVERY: u32 = 30;
/// An engine that takes longer to list containers at the start is worth a word.
const ENGINE_SLOW: Duration = Duration::from_secs(3);
/// Waits while the container engine does not answer at the start.
const ENGINE_RETRY: Backoff = Backoff { first_ms: 200, most_ms: 5_000 };

impl Reconciler {
    /// Asks for the containers that are there already, until the engine names them.
    pub(super) fn ask_for_first_list(&self) {
        let (steps, notify, stop) = (self.steps.clone(), self.notify.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Some(listed) = stop.run_until_cancelled(first(&steps)).await {
                let _ = notify.send(Notice::Listed(0, listed)).await;
            }
        });
    }

    /// Asks for all containers, to be compared with what is known.
    pub(super) fn ask_for_list(&mut self) {
        if !self.containers_known {
            return;
        }
        let (steps, notify, turn) = (self.steps.clone(), self.notify.clone(), self.turn);
        self.sweeps = (self.sweeps + 1) % SWEEP_EVERY;
        let sweep = self.sweeps == 0;
        self.tasks.spawn(async move {
            let notice = match steps.parts.runtime.list(&steps.surroundings.owner).await {
                Ok(listed) => Notice::Listed(turn, listed),
                Err(error) => Notice::ListFailed(error),
            };
            let _ = notify.send(notice).await;
            if sweep && let Err(error) = steps.parts.capture.store.sweep().await {
                tracing::warn!(error = %error, "old output cannot be removed");
            }
        });
    }

    /// Compares what the engine lists with what is known. Differences are looked into, never
    /// believed: the list may be older than what steps have done since.
    pub(super) fn listed(&mut self, asked_in_turn: u64, listed: Vec<Listed>) {
        if !self.containers_known {
            self.containers_known = true;
            // Whoever registered before did so without them: the schedulers do not know yet what is here.
            self.assignments_known = false;
            self.changed = true;
            if !listed.is_empty() {
                tracing::info!(count = listed.len(), "containers adopted");
            }
        }
        let boot_id = self.steps.surroundings.boot_id.clone();
        let mut present = BTreeSet::new();
        for container in listed {
            let stranger = self.assignments_known;
            let known = self.attempts.entry(container.attempt.clone());
            let known = known.or_insert_with(|| Attempt { stranger, ..Attempt::default() });
            present.insert(container.attempt.clone());
            known.old_boot = container.boot_id != boot_id;
            known.fence_grace_ms = known.fence_grace_ms.or(container.fence_grace_ms);
            let same = known.container.is_some_and(|state| container.shows(state));
            known.stale |= !same && !known.memory.busy && known.changed_turn <= asked_in_turn;
            self.touch(&container.attempt);
        }
        let mut gone = Vec::new();
        for (key, attempt) in &mut self.attempts {
            let settled = !attempt.memory.busy && attempt.changed_turn <= asked_in_turn;
            if attempt.container.is_some() && settled && !present.contains(key) {
                attempt.stale = true;
            }
            gone.push(key.clone());
        }
        self.dirty.extend(gone);
    }
}

async fn first(steps: &Steps) -> Vec<Listed> {
    let (mut failures, mut last) = (0, None);
    loop {
        match list(steps).await {
            Ok(listed) => return listed,
            Err(error) => {
                // What lasts is told once; that the engine is out of reach, by the runtime itself.
                if last.as_ref() != Some(&error) && !matches!(error, EngineError::Unreachable(_)) {
                    tracing::warn!(reason = %error, "the containers cannot be listed: waiting for the container engine");
                }
                last = Some(error);
                let wait_ms = ENGINE_RETRY.wait_ms(failures, steps.parts.random.next_u32());
                failures += 1;
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
        }
    }
}

/// Lists the containers; an engine that takes long over it is told of while it is waited for.
async fn list(steps: &Steps) -> Result<Vec<Listed>, EngineError> {
    let mut listing = pin!(steps.parts.runtime.list(&steps.surroundings.owner));
    match tokio::time::timeout(ENGINE_SLOW, &mut listing).await {
        Ok(listed) => listed,
        Err(_) => {
            tracing::warn!(
                waited_s = ENGINE_SLOW.as_secs(),
                "the container engine does not answer: it is waited for. Check: docker info"
            );
            listing.await
        }
    }
}
