//! What executors see of jobs: when each was to be started, and when its end was stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use berth_integration_tests::crowd::{Times, Witness};
use tokio::sync::watch;

/// One job that has been seen on an executor's stream or submitted, whichever came first.
#[derive(Default)]
struct Job {
    /// When its submit was due.
    due: Option<Instant>,
    started: Option<Instant>,
    ended: Option<Instant>,
}

/// Shared by all that submit and run.
#[derive(Clone, Default)]
pub struct Seen(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Jobs of which something is missing yet.
    open: Mutex<HashMap<String, Job>>,
    /// From the time a submit was due to the job on an executor's stream.
    to_stream: Times,
    /// To its end stored.
    to_end: Times,
    done: watch::Sender<usize>,
}

impl Seen {
    /// Notes a submit that was due at the given time.
    pub fn submitted(&self, job: String, due: Instant) {
        self.note(job, |job| job.due = Some(due));
    }

    /// Waits until so many jobs have ended, all told.
    pub async fn ended(&self, count: usize) {
        let mut done = self.0.done.subscribe();
        done.wait_for(|done| *done >= count).await.expect("it is there");
    }

    /// How many have ended.
    pub fn count(&self) -> usize {
        *self.0.done.borrow()
    }

    /// How long it took to the stream, and to the end.
    pub fn times(&self) -> (&Times, &Times) {
        (&self.0.to_stream, &self.0.to_end)
    }

    fn note(&self, id: String, what: impl FnOnce(&mut Job)) {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let job = open.entry(id.clone()).or_default();
        what(job);
        let (Some(due), Some(started), Some(ended)) = (job.due, job.started, job.ended) else { return };
        open.remove(&id);
        self.0.to_stream.note(started - due);
        self.0.to_end.note(ended - due);
        self.0.done.send_modify(|done| *done += 1);
    }
}

impl Witness for Seen {
    fn started(&self, job: &str) {
        let now = Instant::now();
        self.note(job.to_owned(), |job| job.started = Some(now));
    }

    fn ended(&self, job: &str) {
        let now = Instant::now();
        self.note(job.to_owned(), |job| job.ended = Some(now));
    }

    fn refused(&self) {
        panic!("a report is refused");
    }
}
