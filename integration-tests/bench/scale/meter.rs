//! What is seen of executors: how many are there, and how long answers take.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth_integration_tests::crowd::{Times, Witness};
use tokio::sync::watch;

/// What is seen of executors.
pub struct Meter {
    /// Sessions that were opened, all told.
    pub opened: watch::Sender<usize>,
    /// Jobs that were to be started, all told.
    pub started: watch::Sender<usize>,
    /// Answers to heartbeats.
    pub beats: Times,
    /// Acknowledgements of reports.
    pub reports: Times,
    /// Reports that were refused.
    pub refused: AtomicUsize,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            opened: watch::channel(0).0,
            started: watch::channel(0).0,
            beats: Times::default(),
            reports: Times::default(),
            refused: AtomicUsize::new(0),
        }
    }
}

impl Witness for Meter {
    fn opened(&self) {
        self.opened.send_modify(|count| *count += 1);
    }

    fn started(&self, _job: &str) {
        self.started.send_modify(|count| *count += 1);
    }

    fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn beat(&self, took: Duration) {
        self.beats.note(took);
    }

    fn stored(&self, took: Duration) {
        self.reports.note(took);
    }
}
