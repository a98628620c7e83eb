//! What is seen of executors and submits: how many are there, and how long answers take.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use berth_integration_tests::crowd::Witness;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Longer times count as this.
const LONGEST_US: u64 = 600_000_000;

/// Times of one kind, in microseconds.
pub struct Times(Mutex<Histogram<u64>>);

impl Default for Times {
    fn default() -> Self {
        Self(Mutex::new(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("bounds and digits")))
    }
}

impl Times {
    /// Takes one down.
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }

    /// Gives the median and the 99th percentile in milliseconds, and begins anew.
    pub fn take(&self) -> Taken {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        #[allow(clippy::cast_precision_loss, reason = "milliseconds for people")]
        let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1_000.0;
        let taken = Taken { count: times.len(), p50_ms: ms(0.5), p99_ms: ms(0.99) };
        times.reset();
        taken
    }
}

/// Of some times the median and the 99th percentile.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// How many there were.
    pub count: u64,
    /// The median.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
}

impl Taken {
    /// For programs.
    pub fn json(self) -> Value {
        json!({ "count": self.count, "p50Ms": self.p50_ms, "p99Ms": self.p99_ms })
    }
}

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
