//! How many submits are let in at a time. What waits is bounded and the rest is refused at once, so that many who submit
//! keep neither heartbeats nor reports waiting, and the replica's memory stays small.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_api::status::Problem;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Calls with new jobs that the store is given at the same time.
const UNDER_WAY: usize = 2;
/// Jobs that may wait to be stored.
const MOST_WAITING: usize = 20_000;
/// What clients are told to wait: about as long as those before them take.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Lets submits in.
#[derive(Debug)]
pub struct Admission {
    turns: Semaphore,
    /// Jobs that wait, or are being stored.
    inside: Arc<Mutex<usize>>,
}

impl Default for Admission {
    fn default() -> Self {
        Self { turns: Semaphore::new(UNDER_WAY), inside: Arc::default() }
    }
}

/// The place of a submit inside; it is left when this is dropped.
#[derive(Debug)]
pub struct Place {
    jobs: usize,
    inside: Arc<Mutex<usize>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.inside.lock().unwrap_or_else(PoisonError::into_inner) -= self.jobs;
    }
}

impl Admission {
    /// Lets a submit of so many jobs in.
    ///
    /// # Errors
    /// Refuses it where too many wait: nothing of it was stored.
    pub fn enter(&self, jobs: usize) -> Result<Place, Problem> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if *inside + jobs > MOST_WAITING {
            return Err(Problem::Exhausted {
                reason: "OVERLOADED",
                message: format!(
                    "More jobs are submitted than can be stored: {} wait already. Nothing of this call was stored; submit it again in 1 s.",
                    *inside
                ),
                retry_after: RETRY_AFTER,
            });
        }
        *inside += jobs;
        Ok(Place { jobs, inside: Arc::clone(&self.inside) })
    }

    /// Waits until one call with new jobs may go to the store.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_refused_until_there_is_room() {
        let admission = Admission::default();
        let first = admission.enter(MOST_WAITING - 10).expect("there is room");
        assert!(matches!(admission.enter(11), Err(Problem::Exhausted { reason: "OVERLOADED", .. })));
        let second = admission.enter(10).expect("there is room");
        drop(first);
        drop(second);
        assert!(admission.enter(MOST_WAITING).is_ok(), "nothing stays behind");
    }
}
