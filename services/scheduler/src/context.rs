//! What every part of a replica shares: the store, the clock, the image, and how the store fares.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use berth_api::status::Problem;
use berth_domain::executor::Executor;
use berth_domain::ids::ExecutorId;
use berth_store::{Call, Committed, Store, StoreError};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::clock::StoreClock;
use crate::config::SchedulerConfig;
use crate::entropy::{Entropy, JobIds};
use crate::feed::FeedEvent;
use crate::image::Image;
use crate::jobs::pending::Remembered;
use crate::sessions::Sessions;
use crate::specs::Specs;

/// How long the list of executors may be reused for showing who is out of touch.
const EXECUTORS_FRESH: Duration = Duration::from_secs(1);
/// What clients are told to wait when the store is unavailable.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Shared by every task of a replica.
pub struct Context {
    /// The settings.
    pub config: SchedulerConfig,
    /// The truth.
    pub store: Arc<dyn Store>,
    /// The store's time.
    pub clock: StoreClock,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Makes job ids.
    pub job_ids: JobIds,
    /// What is going on; written by the feed alone, locked only for moments.
    pub image: RwLock<Image>,
    /// What the feed has just applied.
    pub feed: broadcast::Sender<FeedEvent>,
    /// The position of the image.
    pub applied: watch::Sender<berth_store::Position>,
    /// Held by whoever tries out what would become of a job.
    pub trials: tokio::sync::Mutex<()>,
    /// The sessions this replica holds.
    pub sessions: Sessions,
    /// Specs that need not be read.
    pub specs: Specs,
    /// Why jobs wait, in a large cluster.
    pub remembered: Remembered,
    /// Lets submits in.
    pub admission: Admission,
    /// Cancelled when the replica stops: whatever never ends by itself ends then.
    pub stop: CancellationToken,
    /// Held by whoever reads the image of a new generation.
    loading: tokio::sync::Mutex<()>,
    /// When the store last answered.
    store_answered: Mutex<Instant>,
    executors: tokio::sync::Mutex<Option<(Instant, Arc<Vec<Executor>>)>>,
}

impl Context {
    /// Puts a replica's shared parts together.
    pub fn new(
        config: SchedulerConfig,
        store: Arc<dyn Store>,
        entropy: Arc<dyn Entropy>,
        time_ms: u64,
        stop: CancellationToken,
    ) -> Self {
        let image = Image::new(config.placement);
        Self {
            config,
            store,
            clock: StoreClock::new(time_ms),
            entropy,
            job_ids: JobIds::default(),
            image: RwLock::new(image),
            // A receiver that falls this far behind reads a snapshot instead.
            feed: broadcast::channel(4_096).0,
            applied: watch::channel(berth_store::Position::default()).0,
            trials: tokio::sync::Mutex::default(),
            sessions: Sessions::default(),
            specs: Specs::default(),
            admission: Admission::default(),
            remembered: Remembered::default(),
            stop,
            loading: tokio::sync::Mutex::default(),
            store_answered: Mutex::new(Instant::now()),
            executors: tokio::sync::Mutex::new(None),
        }
    }

    /// Reads from the image. The closure must be short: the feed waits for it.
    pub fn with_image<T>(&self, read: impl FnOnce(&Image) -> T) -> T {
        read(&self.image.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same where what the image remembers of earlier answers may change; what it shows must not.
    pub fn with_image_mut<T>(&self, decide: impl FnOnce(&mut Image) -> T) -> T {
        decide(&mut self.image.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Commits, and takes note of the store's clock.
    ///
    /// # Errors
    /// As the store says.
    pub async fn commit(&self, call: Call) -> Result<Committed, StoreError> {
        let committed = self.store.commit(call).await;
        match &committed {
            Ok(committed) => {
                self.clock.observe(committed.time_ms);
                self.note_answer();
            }
            Err(StoreError::Generation { current }) => self.catch_up_with(*current).await,
            Err(_) => {}
        }
        committed
    }

    /// Reads the image of a generation, unless somebody else has: whoever decides again needs it.
    pub async fn catch_up_with(&self, generation: u64) {
        let _turn = self.loading.lock().await;
        if self.generation() != generation
            && let Err(error) = crate::feed::load(self).await
        {
            tracing::warn!(%error, "cluster image could not be loaded");
        }
    }

    /// The newest generation of the store that the replica knows; its clock tells the time of this one.
    pub fn generation(&self) -> u64 {
        self.with_image(|image| image.position.generation)
    }

    /// Takes note that the store has just answered.
    pub fn note_answer(&self) {
        *self.store_answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Tells how long ago the store last answered.
    pub fn silence(&self) -> Duration {
        self.store_answered.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Turns a failure of the store into what a client is told.
    pub fn problem(&self, error: &StoreError) -> Problem {
        let silence = humantime_seconds(self.silence());
        match error {
            StoreError::Full => Problem::Exhausted {
                reason: "QUEUE_FULL",
                message: format!(
                    "The queue is full: {}. Running jobs continue; make room, then submit again.",
                    self.store.describe().when_full
                ),
                retry_after: RETRY_AFTER,
            },
            StoreError::Unavailable { .. } | StoreError::InUse { .. } | StoreError::Unknown { .. } => {
                tracing::warn!(%error, "store call failed");
                Problem::Unavailable {
                    reason: "QUEUE_UNAVAILABLE",
                    message: format!(
                        "The queue is unavailable: no {} for {silence}. Running jobs continue; retry in 2 s.",
                        kind_name(self.store.describe().kind)
                    ),
                    retry_after: RETRY_AFTER,
                }
            }
            StoreError::Generation { .. } | StoreError::Fenced => Problem::Unavailable {
                reason: "QUEUE_CHANGING",
                message: "The queue is changing hands; retry in 2 s.".to_owned(),
                retry_after: RETRY_AFTER,
            },
            StoreError::Corrupt { .. } | StoreError::Malformed { .. } => {
                tracing::error!(%error, "store call broke a promise");
                Problem::Internal(error.to_string())
            }
        }
    }

    /// Lists the executors with their leases, at most a second old.
    ///
    /// # Errors
    /// As the store says.
    pub async fn executors(&self) -> Result<Arc<Vec<Executor>>, StoreError> {
        let mut cached = self.executors.lock().await;
        if let Some((_, executors)) = cached.as_ref().filter(|(at, _)| at.elapsed() < EXECUTORS_FRESH) {
            return Ok(executors.clone());
        }
        let executors = Arc::new(self.store.executors().await?);
        *cached = Some((Instant::now(), executors.clone()));
        Ok(executors)
    }

    /// Says whether an executor's lease has run out, as far as is known.
    pub fn lease_expired(&self, executors: &[Executor], id: &ExecutorId) -> bool {
        let now_ms = self.clock.now_ms();
        executors
            .iter()
            .find(|executor| executor.id == *id)
            .is_none_or(|executor| executor.lease_expiry_ms <= now_ms)
    }
}

/// What is said to whoever listens to a replica that stops.
pub fn stopping() -> Problem {
    Problem::Unavailable {
        reason: "REPLICA_STOPPING",
        message: "This scheduler stops; ask another one.".to_owned(),
        retry_after: Duration::ZERO,
    }
}

fn humantime_seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

fn kind_name(kind: &str) -> &str {
    match kind {
        "redis" => "Redis",
        _ => "answer from the store",
    }
}
