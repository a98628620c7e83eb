//! What the writer shows to readers: the database, and what is newer in memory than on the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::Database;
use tokio::sync::Notify;

use crate::StoreError;
use crate::rules::{Head, Log};

/// One life of the database: from an opening to its end or its failure.
pub(super) struct View {
    pub(super) database: Arc<Database>,
    pub(super) head: Head,
    pub(super) log: Log,
}

/// What writer and readers share.
pub(super) struct Shared {
    view: Mutex<Result<View, String>>,
    /// Told after each change of the view.
    pub(super) changed: Notify,
    pub(super) log_max_age: Duration,
    pub(super) log_max_bytes: usize,
}

impl Shared {
    pub(super) fn new(view: View, log_max_age: Duration, log_max_bytes: usize) -> Self {
        Self { view: Mutex::new(Ok(view)), changed: Notify::new(), log_max_age, log_max_bytes }
    }

    /// Reads the view.
    ///
    /// # Errors
    /// Fails while the database cannot be used.
    pub(super) fn with<T>(&self, read: impl FnOnce(&mut View) -> T) -> Result<T, StoreError> {
        match &mut *self.lock() {
            Ok(view) => Ok(read(view)),
            Err(reason) => Err(StoreError::Unavailable { reason: reason.clone() }),
        }
    }

    /// Shows another life of the database, or why there is none.
    pub(super) fn replace(&self, view: Result<View, String>) {
        *self.lock() = view;
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Result<View, String>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
