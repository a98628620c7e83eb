//! The thread that owns the database: gathers what is asked into transactions, makes them durable,
//! shows the result, and answers. After a failure it opens the database anew, in a new generation.

use std::sync::Arc;

use redb::{Database, ReadableDatabase};
use tokio::sync::{mpsc, oneshot};

use super::medium::Medium;
use super::schema::{HEAD, HEAD_KEY, broken};
use super::shared::{Shared, View};
use super::tables::DiskTables;
use super::task::{Request, Task, Work};
use crate::record::{decode_head, encode_head};
use crate::rules::{Head, Log};
use crate::{Change, StoreError};

/// The most tasks of one transaction: what a disk takes for one is shared by that many.
const MAX_BATCH: usize = 64;
/// Why nothing is done after the end.
const CLOSED: &str = "the store is closed";

/// Reads the machine's clock, in milliseconds since the Unix epoch.
pub(super) fn clock_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Opens the database and begins a generation.
pub(super) fn open(medium: &dyn Medium, log: Log) -> Result<View, StoreError> {
    let database = medium.open()?;
    let mut head = read_head(&database)?;
    let now_ms = head.time.tell(clock_ms());
    head.begin_generation(now_ms);
    let transaction = database.begin_write().map_err(broken)?;
    // Readers find every table from the start.
    drop(DiskTables::open(&transaction)?);
    put_head(&transaction, &head)?;
    transaction.commit().map_err(broken)?;
    Ok(View { database: Arc::new(database), head, log })
}

fn read_head(database: &Database) -> Result<Head, StoreError> {
    let transaction = database.begin_read().map_err(broken)?;
    let table = match transaction.open_table(HEAD) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Head::default()),
        Err(error) => return Err(broken(error)),
    };
    let row = table.get(HEAD_KEY).map_err(broken)?;
    row.map_or_else(|| Ok(Head::default()), |bytes| decode_head(bytes.value()))
}

fn put_head(transaction: &redb::WriteTransaction, head: &Head) -> Result<(), StoreError> {
    let mut table = transaction.open_table(HEAD).map_err(broken)?;
    table.insert(HEAD_KEY, encode_head(head).as_slice()).map_err(broken)?;
    Ok(())
}

/// The writer.
pub(super) struct Writer {
    pub(super) medium: Arc<dyn Medium>,
    pub(super) shared: Arc<Shared>,
    pub(super) tasks: mpsc::Receiver<Request>,
}

/// Why a transaction came to nothing.
enum Failure {
    /// Nothing was made durable; the database is still good.
    Task(StoreError),
    /// The database must be opened anew; the error says whether anything may be durable.
    Database(StoreError),
}

impl Writer {
    /// Works until every handle is gone, or one of them says that it is over.
    pub(super) fn run(mut self) {
        while let Some(first) = self.tasks.blocking_recv() {
            let mut next = Some(first);
            let mut batch = Vec::new();
            let closing = loop {
                match next.take() {
                    Some(Request::Do(task)) => batch.push(task),
                    Some(Request::Close(done)) => break Some(done),
                    None => break None,
                }
                if batch.len() < MAX_BATCH {
                    next = self.tasks.try_recv().ok();
                }
            };
            if !batch.is_empty() {
                self.serve(batch);
            }
            if let Some(done) = closing {
                return self.close(done);
            }
        }
    }

    /// Closes the database, which closes with its last user: here, unless a reader is under way.
    fn close(mut self, done: oneshot::Sender<()>) {
        self.shared.replace(Err(CLOSED.to_owned()));
        self.tasks.close();
        while let Ok(late) = self.tasks.try_recv() {
            match late {
                Request::Do(task) => task.finish(Err(closed())),
                Request::Close(done) => drop(done.send(())),
            }
        }
        let _ = done.send(());
    }

    fn serve(&self, mut batch: Vec<Box<dyn Task>>) {
        if let Err(error) = self.revive() {
            return answer(batch, || Err(StoreError::Unavailable { reason: error.clone() }));
        }
        match self.transact(&mut batch) {
            Ok(()) => answer(batch, || Ok(())),
            // One of them is to blame: each has a transaction of its own.
            Err(Failure::Task(_)) if batch.len() > 1 => {
                batch.into_iter().for_each(|task| self.serve(vec![task]));
            }
            Err(Failure::Task(error)) => {
                let mut error = Some(error);
                answer(batch, || Err(error.take().unwrap_or_else(|| broken("a task failed"))));
            }
            Err(Failure::Database(error)) => {
                tracing::error!(%error, "the database on disk failed; it is opened again");
                self.shared.replace(Err(error.to_string()));
                answer(batch, || Err(same(&error)));
            }
        }
    }

    /// Opens the database again if it has failed.
    fn revive(&self) -> Result<(), String> {
        if self.shared.with(|_| ()).is_ok() {
            return Ok(());
        }
        let log = Log::new(self.shared.log_max_age, self.shared.log_max_bytes);
        let view = open(self.medium.as_ref(), log).map_err(|error| error.to_string());
        let outcome = view.as_ref().map(|_| ()).map_err(Clone::clone);
        self.shared.replace(view);
        outcome
    }

    /// Runs the tasks in one transaction and makes it durable if any of them asks for that.
    fn transact(&self, batch: &mut [Box<dyn Task>]) -> Result<(), Failure> {
        let (database, mut head) =
            self.shared.with(|view| (view.database.clone(), view.head.clone())).map_err(Failure::Database)?;
        let full = self.medium.is_full();
        let now_ms = head.time.tell(clock_ms());
        let mut entries = Vec::new();
        let transaction = database.begin_write().map_err(|error| Failure::Database(broken(error)))?;
        let ran = run(&transaction, batch, &mut head, &mut entries, (now_ms, full));
        match ran {
            Ok(()) => {}
            Err(error @ StoreError::Corrupt { .. }) => {
                transaction.abort().map_err(|error| Failure::Database(broken(error)))?;
                return Err(Failure::Task(error));
            }
            Err(error) => return Err(Failure::Database(error)),
        }
        if is_durable(batch) {
            put_head(&transaction, &head).map_err(Failure::Database)?;
            transaction.commit().map_err(|error| {
                Failure::Database(StoreError::Unknown { reason: format!("the disk failed: {error}") })
            })?;
        } else {
            transaction.abort().map_err(|error| Failure::Database(broken(error)))?;
        }
        self.show(head, entries, now_ms).map_err(Failure::Database)
    }

    /// Shows what is durable now.
    fn show(&self, head: Head, entries: Vec<Vec<(u64, Change)>>, now_ms: u64) -> Result<(), StoreError> {
        let moved = self.shared.with(|view| {
            let moved = view.head.revision != head.revision;
            view.head = head;
            entries.into_iter().for_each(|entry| view.log.append(entry, now_ms));
            moved
        })?;
        if moved {
            self.shared.changed.notify_waiters();
        }
        Ok(())
    }
}

fn run(
    transaction: &redb::WriteTransaction,
    batch: &mut [Box<dyn Task>],
    head: &mut Head,
    entries: &mut Vec<Vec<(u64, Change)>>,
    (now_ms, full): (u64, bool),
) -> Result<(), StoreError> {
    let mut tables = DiskTables::open(transaction)?;
    if is_durable(batch) {
        tables.forget_keys(now_ms)?;
    }
    for task in batch {
        task.run(&mut Work { head, tables: &mut tables, entries, now_ms, full })?;
    }
    Ok(())
}

/// Says whether any of the tasks must be on the disk before it is answered.
fn is_durable(batch: &[Box<dyn Task>]) -> bool {
    batch.iter().any(|task| task.is_durable())
}

fn answer(batch: Vec<Box<dyn Task>>, mut outcome: impl FnMut() -> Result<(), StoreError>) {
    batch.into_iter().for_each(|task| task.finish(outcome()));
}

/// What a call is told after the end.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable { reason: CLOSED.to_owned() }
}

/// The same error for another caller.
fn same(error: &StoreError) -> StoreError {
    match error {
        StoreError::Unknown { reason } => StoreError::Unknown { reason: reason.clone() },
        other => StoreError::Unavailable { reason: other.to_string() },
    }
}
