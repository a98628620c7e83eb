//! How many submits are let in at a time. What waits is bounded, in jobs and in bytes, and the rest is refused at once, so
//! that many who submit keep neither heartbeats nor reports waiting, and the replica's memory stays bounded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_api::status::Problem;
use berth_store::MAX_MUTATIONS;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Jobs that the store is given at the same time: those of two calls.
const UNDER_WAY: usize = 2 * MAX_MUTATIONS;
/// Jobs that may wait to be stored.
const MOST_JOBS: usize = 20_000;
/// Bytes of their requests.
const MOST_BYTES: usize = 64 << 20;
/// What clients are told to wait: about as long as those before them take.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Lets submits in.
#[derive(Debug)]
pub struct Admission {
    turns: Semaphore,
    inside: Arc<Mutex<Inside>>,
}

/// What waits, or is being stored.
#[derive(Debug, Default)]
struct Inside {
    jobs: usize,
    bytes: usize,
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
    bytes: usize,
    inside: Arc<Mutex<Inside>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.jobs -= self.jobs;
        inside.bytes -= self.bytes;
    }
}

impl Admission {
    /// Lets a submit of so many jobs, in a request of so many bytes, in.
    ///
    /// # Errors
    /// Refuses it where too many wait: nothing of it was stored.
    pub fn enter(&self, jobs: usize, bytes: usize) -> Result<Place, Problem> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.jobs + jobs > MOST_JOBS || inside.bytes + bytes > MOST_BYTES {
            return Err(Problem::Exhausted {
                reason: "OVERLOADED",
                message: format!(
                    "More jobs are submitted than can be stored: {} wait already. Nothing of this call was stored; submit \
                     it again in 1 s.",
                    inside.jobs
                ),
                retry_after: RETRY_AFTER,
            });
        }
        inside.jobs += jobs;
        inside.bytes += bytes;
        Ok(Place { jobs, bytes, inside: Arc::clone(&self.inside) })
    }

    /// Waits until a call with so many new jobs may go to the store.
    pub async fn turn(&self, jobs: usize) -> Option<SemaphorePermit<'_>> {
        let jobs = u32::try_from(jobs.min(UNDER_WAY)).unwrap_or(1);
        // It is never closed.
        self.turns.acquire_many(jobs).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_refused_until_there_is_room() {
        let admission = Admission::default();
        let first = admission.enter(MOST_JOBS - 10, 100).expect("there is room");
        assert!(matches!(admission.enter(11, 1), Err(Problem::Exhausted { reason: "OVERLOADED", .. })));
        assert!(matches!(admission.enter(1, MOST_BYTES), Err(Problem::Exhausted { .. })), "bytes count, too");
        let second = admission.enter(10, 100).expect("there is room");
        drop(first);
        drop(second);
        assert!(admission.enter(MOST_JOBS, MOST_BYTES).is_ok(), "nothing stays behind");
    }
}
