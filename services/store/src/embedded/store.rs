//! The handle of an embedded store.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use berth_domain::executor::Executor;
use berth_domain::ids::JobId;
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;
use redb::{ReadTransaction, ReadableDatabase};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::medium::{FileMedium, Medium};
use super::reads;
use super::schema::broken;
use super::shared::Shared;
use super::task::{Act, Request, Work};
use super::writer::{self, Writer, clock_ms, closed};
use crate::cursor::Place;
use crate::rules::{self, Announced, Log, Outcome, Tables};
use crate::validate::check_call;
use crate::{
    Call, Changes, Committed, Cursor, LeaderGuard, LeaseRenewal, LockInfo, LockRequest, Meta, Page, Position,
    SchedulerInfo, Scope, Store, StoreDescription, StoreError,
};

/// What waits for the writer: callers beyond that wait for room.
const MAX_WAITING: usize = 1_024;

/// How an embedded store is opened.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Where its file is.
    pub folder: PathBuf,
    /// New jobs are refused while fewer bytes are free there.
    pub min_free_bytes: u64,
    /// How long changes are kept in the log.
    pub log_max_age: Duration,
    /// How many bytes of changes are kept.
    pub log_max_bytes: usize,
}

impl EmbeddedConfig {
    /// Names a folder, with defaults for the rest.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            min_free_bytes: 64 * 1024 * 1024,
            log_max_age: Duration::from_secs(60),
            log_max_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A store on this machine's disk. Clones are the same store; the database is closed when the last
/// one is gone.
#[derive(Clone)]
pub struct EmbeddedStore {
    tasks: mpsc::Sender<Request>,
    shared: Arc<Shared>,
    schedulers: Arc<Mutex<Announced>>,
    place: String,
    min_free_bytes: u64,
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").field("place", &self.place).finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the store in a folder, which is made if it does not exist. Takes as long as the disk
    /// does; after a crash also as long as the database's repair.
    ///
    /// # Errors
    /// Fails when the folder cannot be used or another process uses it.
    pub fn open(config: &EmbeddedConfig) -> Result<Self, StoreError> {
        let medium = FileMedium::new(&config.folder, config.min_free_bytes);
        Self::open_on(Arc::new(medium), config)
    }

    /// Opens the store on a medium of the caller's.
    ///
    /// # Errors
    /// Fails when the medium does.
    pub fn open_on(medium: Arc<dyn Medium>, config: &EmbeddedConfig) -> Result<Self, StoreError> {
        let log = Log::new(config.log_max_age, config.log_max_bytes);
        let view = writer::open(medium.as_ref(), log)?;
        let shared = Arc::new(Shared::new(view, config.log_max_age, config.log_max_bytes));
        let (sender, tasks) = mpsc::channel(MAX_WAITING);
        let place = medium.place();
        let writer = Writer { medium, shared: shared.clone(), tasks };
        std::thread::Builder::new()
            .name("berth-store".to_owned())
            .spawn(|| writer.run())
            .map_err(|error| broken(format!("no thread for it: {error}")))?;
        let min_free_bytes = config.min_free_bytes;
        Ok(Self { tasks: sender, shared, schedulers: Arc::default(), place, min_free_bytes })
    }

    /// Has the writer do something, and waits until it is done.
    async fn act<T: Send + 'static>(
        &self,
        durable: bool,
        act: impl Fn(&mut Work<'_, '_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let task = Box::new(Act { durable, act, result: None, reply });
        self.tasks.send(Request::Do(task)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| StoreError::Unknown {
            reason: "the store's thread ended before it answered".to_owned(),
        })?
    }

    /// Reads a snapshot, on a thread where waiting for the disk delays nobody.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = self.shared.with(|view| view.database.clone())?;
        let reading = tokio::task::spawn_blocking(move || {
            let snapshot = database.begin_read().map_err(broken)?;
            read(&snapshot)
        });
        reading.await.map_err(broken)?
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn commit(&self, call: Call) -> Result<Committed, StoreError> {
        check_call(&call)?;
        self.act(true, move |work| {
            match rules::commit(work.head, work.tables, &call, work.now_ms, work.full) {
                Ok(Outcome { verdicts, changes }) => {
                    work.entries.push(changes);
                    let position = work.head.position();
                    Ok(Ok(Committed { verdicts, position, time_ms: work.now_ms }))
                }
                Err(
                    refusal @ (StoreError::Fenced
                    | StoreError::Generation { .. }
                    | StoreError::Full
                    | StoreError::Malformed { .. }),
                ) => Ok(Err(refusal)),
                Err(
                    failure @ (StoreError::Unavailable { .. }
                    | StoreError::InUse { .. }
                    | StoreError::Unknown { .. }
                    | StoreError::Corrupt { .. }),
                ) => Err(failure),
            }
        })
        .await?
    }

    async fn meta(&self) -> Result<Meta, StoreError> {
        match self.shared.with(|view| view.head.meta(view.head.time.at(clock_ms()))) {
            Ok(meta) => Ok(meta),
            // Asking the writer is what opens a failed database again.
            Err(_) => self.act(false, |work| Ok(work.head.meta(work.now_ms))).await,
        }
    }

    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
        let ids = ids.to_vec();
        self.read(move |snapshot| reads::jobs(snapshot, &ids)).await
    }

    async fn specs(&self, ids: &[JobId]) -> Result<Vec<Option<JobSpec>>, StoreError> {
        let ids = ids.to_vec();
        self.read(move |snapshot| reads::specs(snapshot, &ids)).await
    }

    async fn page(&self, scope: &Scope, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let after = after.map(Place::parse).transpose()?;
        let scope = scope.clone();
        self.read(move |snapshot| reads::page(snapshot, &scope, after, limit)).await
    }

    async fn executors(&self) -> Result<Vec<Executor>, StoreError> {
        let leases = self.shared.with(|view| view.head.leases.clone())?;
        self.read(move |snapshot| reads::executors(snapshot, &leases)).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.shared.with(|view| view.head.position())
    }

    async fn changes(&self, after: Position, wait: Duration) -> Result<Changes, StoreError> {
        let deadline = Instant::now() + wait;
        loop {
            // Made before the log is read: it is woken by every change from here on.
            let changed = self.shared.changed.notified();
            let changes = self.shared.with(|view| view.log.after(after, view.head.position()))?;
            let is_idle = matches!(&changes, Changes::Entries { entries, .. } if entries.is_empty());
            if !is_idle || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Ok(changes);
            }
        }
    }

    async fn renew_leases(&self, renewals: &[LeaseRenewal]) -> Result<Vec<bool>, StoreError> {
        let renewals = renewals.to_vec();
        // Renewals live in memory: a new life of the store gives every executor time anyway.
        self.act(false, move |work| {
            let tables = &*work.tables;
            let session =
                |renewal: &LeaseRenewal| Ok(tables.executor(&renewal.executor)?.and_then(|e| e.session));
            rules::renew_leases(work.head, &renewals, work.now_ms, session)
        })
        .await
    }

    async fn acquire_lock(&self, request: &LockRequest) -> Result<Option<LockInfo>, StoreError> {
        let request = request.clone();
        self.act(true, move |work| {
            let change = work.head.acquire_lock(&request, work.now_ms);
            Ok(change.map(|change| {
                work.entries.push(vec![change]);
                work.head.lock.clone()
            }))
        })
        .await
    }

    async fn renew_lock(&self, owner: &str, epoch: u64, ttl: Duration) -> Result<bool, StoreError> {
        let guard = LeaderGuard { epoch, owner: owner.to_owned() };
        self.act(false, move |work| Ok(work.head.renew_lock(&guard, ttl, work.now_ms))).await
    }

    async fn release_lock(&self, owner: &str, epoch: u64) -> Result<bool, StoreError> {
        let guard = LeaderGuard { epoch, owner: owner.to_owned() };
        self.act(true, move |work| {
            let change = work.head.release_lock(&guard, work.now_ms);
            let ours = change.is_some();
            work.entries.extend(change.map(|change| vec![change]));
            Ok(ours)
        })
        .await
    }

    async fn announce_scheduler(&self, scheduler: &SchedulerInfo, ttl: Duration) -> Result<u64, StoreError> {
        let now_ms = self.shared.with(|view| view.head.time.at(clock_ms()))?;
        self.schedulers.lock().unwrap_or_else(PoisonError::into_inner).announce(scheduler, ttl, now_ms);
        Ok(now_ms)
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerInfo>, StoreError> {
        let now_ms = self.shared.with(|view| view.head.time.at(clock_ms()))?;
        Ok(self.schedulers.lock().unwrap_or_else(PoisonError::into_inner).alive(now_ms))
    }

    async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.tasks.send(Request::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    fn describe(&self) -> StoreDescription {
        StoreDescription {
            kind: "embedded",
            durability: format!("on disk in {}: every acknowledged write is synced", self.place),
            when_full: format!(
                "less than {} MiB are free on the disk of {}",
                self.min_free_bytes >> 20,
                self.place
            ),
        }
    }
}
