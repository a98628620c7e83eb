//! What is known of jobs that were submitted, and of those that have ended.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_integration_tests::crowd::Witness;

#[derive(Default)]
struct Known {
    /// Acknowledged to the client, and not said to have ended.
    open: HashSet<String>,
    /// Said to have ended before the client heard that they exist.
    early: HashSet<String>,
    counts: Counts,
}

/// How many there are.
#[derive(Default, Clone, Copy)]
pub struct Counts {
    /// Acknowledged to the client.
    pub submitted: u64,
    /// Ends that were acknowledged to executors.
    pub ended: u64,
    /// Jobs that ended twice, or ran where they must not.
    pub wrong: u64,
}

/// Shared by all that submit and run.
#[derive(Default, Clone)]
pub struct Ledger(Arc<Mutex<Known>>);

impl Ledger {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that jobs were acknowledged.
    pub fn submitted(&self, ids: impl IntoIterator<Item = String>) {
        let mut known = self.known();
        for id in ids {
            known.counts.submitted += 1;
            if !known.early.remove(&id) {
                known.open.insert(id);
            }
        }
    }

    /// How many acknowledged jobs have not ended.
    pub fn open(&self) -> usize {
        self.known().open.len()
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        self.known().counts
    }
}

impl Witness for Ledger {
    fn ended(&self, job: &str) {
        let mut known = self.known();
        known.counts.ended += 1;
        if !known.open.remove(job) && !known.early.insert(job.to_owned()) {
            known.counts.wrong += 1;
        }
    }

    fn refused(&self) {
        self.known().counts.wrong += 1;
    }
}
