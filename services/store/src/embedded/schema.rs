//! The tables on the disk, and what their failures mean.

use std::borrow::Cow;

use redb::TableDefinition;

use crate::StoreError;
use crate::rules::Index;

/// A table of records by id.
pub(super) type Rows = TableDefinition<'static, &'static str, &'static [u8]>;

/// The head, under `HEAD_KEY`.
pub(super) const HEAD: Rows = TableDefinition::new("head");
/// The only key of `HEAD`.
pub(super) const HEAD_KEY: &str = "head";
/// Jobs by id.
pub(super) const JOBS: Rows = TableDefinition::new("jobs");
/// Specs by job id.
pub(super) const SPECS: Rows = TableDefinition::new("specs");
/// Executors by id.
pub(super) const EXECUTORS: Rows = TableDefinition::new("executors");
/// Idempotency keys.
pub(super) const KEYS: Rows = TableDefinition::new("keys");
/// Idempotency keys by expiry.
pub(super) const KEY_EXPIRIES: TableDefinition<'static, (u64, &'static str), ()> =
    TableDefinition::new("key-expiries");
/// All indexes: (name of the index, score, job).
pub(super) const PLACES: TableDefinition<'static, (&'static str, u64, &'static str), ()> =
    TableDefinition::new("places");

/// The name of an index in `PLACES`.
pub(super) fn name_of(index: &Index) -> Cow<'static, str> {
    match index {
        Index::All => Cow::Borrowed("all"),
        Index::Pending => Cow::Borrowed("pending"),
        Index::Delayed => Cow::Borrowed("delayed"),
        Index::Finished => Cow::Borrowed("finished"),
        Index::Assigned(executor) => Cow::Owned(format!("assigned:{executor}")),
    }
}

/// A failure of the database before anything was made durable.
pub(super) fn broken(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable { reason: format!("the database on disk failed: {error}") }
}
