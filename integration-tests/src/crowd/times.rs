//! How long things take, as histograms.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longer times count as this.
const LONGEST_US: u64 = 600_000_000;

/// Times of one kind.
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

    /// Gives the median, the 99th percentile and the longest in milliseconds, and begins anew.
    pub fn take(&self) -> Taken {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        #[allow(clippy::cast_precision_loss, reason = "milliseconds for people")]
        let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1_000.0;
        let taken = Taken { count: times.len(), p50_ms: ms(0.5), p99_ms: ms(0.99), most_ms: ms(1.0) };
        times.reset();
        taken
    }
}

/// Of some times the median, the 99th percentile and the longest.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// How many there were.
    pub count: u64,
    /// The median.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub most_ms: f64,
}

impl Taken {
    /// For programs.
    pub fn json(self) -> Value {
        json!({ "count": self.count, "p50Ms": self.p50_ms, "p99Ms": self.p99_ms, "mostMs": self.most_ms })
    }
}
