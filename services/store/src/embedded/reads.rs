//! Reads on a snapshot of the database.

use std::collections::BTreeMap;
use std::ops::Bound;

use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;
use redb::{AccessGuard, ReadTransaction, ReadableTable, StorageError};

use super::schema::{EXECUTORS, HEAD, HEAD_KEY, JOBS, PLACES, SPECS, broken, name_of};
use crate::cursor::Place;
use crate::record::{decode_head, decode_spec, decode_stored_executor, decode_stored_job};
use crate::rules::Index;
use crate::{MAX_PAGE, Page, Scope, StoreError};

/// Reads records in the order of their ids.
pub(super) fn jobs(snapshot: &ReadTransaction, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
    let table = snapshot.open_table(JOBS).map_err(broken)?;
    let read = |id: &JobId| {
        let row = table.get(id.as_str()).map_err(broken)?;
        row.map(|bytes| Ok(decode_stored_job(bytes.value())?.job)).transpose()
    };
    ids.iter().map(read).collect()
}

/// Reads specs in the order of their ids.
pub(super) fn specs(snapshot: &ReadTransaction, ids: &[JobId]) -> Result<Vec<Option<JobSpec>>, StoreError> {
    let table = snapshot.open_table(SPECS).map_err(broken)?;
    let read = |id: &JobId| {
        let row = table.get(id.as_str()).map_err(broken)?;
        row.map(|bytes| decode_spec(bytes.value())).transpose()
    };
    ids.iter().map(read).collect()
}

/// Reads every executor. Leases are renewed in memory, so that the later end of the snapshot's and the
/// renewed lease counts; an executor without a session has none.
pub(super) fn executors(
    snapshot: &ReadTransaction,
    renewed: &BTreeMap<ExecutorId, u64>,
) -> Result<Vec<Executor>, StoreError> {
    let head = snapshot.open_table(HEAD).map_err(broken)?;
    let granted = match head.get(HEAD_KEY).map_err(broken)? {
        Some(bytes) => decode_head(bytes.value())?.leases,
        None => BTreeMap::new(),
    };
    let table = snapshot.open_table(EXECUTORS).map_err(broken)?;
    let rows = table.iter().map_err(broken)?.map(|row| {
        let (_, bytes) = row.map_err(broken)?;
        let executor = decode_stored_executor(bytes.value())?;
        let lease = |leases: &BTreeMap<ExecutorId, u64>| leases.get(&executor.id).copied().unwrap_or(0);
        let lease_expiry_ms =
            if executor.session.is_some() { lease(&granted).max(lease(renewed)) } else { 0 };
        Ok(Executor { lease_expiry_ms, ..executor })
    });
    rows.collect()
}

/// Reads one page of an index.
pub(super) fn page(
    snapshot: &ReadTransaction,
    scope: &Scope,
    after: Option<Place>,
    limit: usize,
) -> Result<Page, StoreError> {
    let (index, newest_first) = match scope {
        Scope::All => (Index::All, true),
        Scope::Pending => (Index::Pending, false),
        Scope::Delayed => (Index::Delayed, false),
        Scope::Finished => (Index::Finished, false),
        Scope::Assigned(executor) => (Index::Assigned(executor.clone()), false),
    };
    let limit = limit.clamp(1, MAX_PAGE);
    let places = places(snapshot, &name_of(&index), newest_first, after.as_ref(), limit)?;
    let next = if places.len() == limit { places.last().map(Place::to_cursor) } else { None };
    let ids: Vec<JobId> = places.into_iter().map(|place| JobId::trusted(place.id)).collect();
    Ok(Page { jobs: jobs(snapshot, &ids)?.into_iter().flatten().collect(), next })
}

fn places(
    snapshot: &ReadTransaction,
    name: &str,
    newest_first: bool,
    after: Option<&Place>,
    limit: usize,
) -> Result<Vec<Place>, StoreError> {
    let table = snapshot.open_table(PLACES).map_err(broken)?;
    let whole = (Bound::Included((name, 0, "")), Bound::Excluded((name, u64::MAX, "")));
    let start = after.map(|place| Bound::Excluded((name, place.score, place.id.as_str())));
    if newest_first {
        let rows = table.range((whole.0, start.unwrap_or(whole.1))).map_err(broken)?;
        rows.rev().take(limit).map(place_of).collect()
    } else {
        let rows = table.range((start.unwrap_or(whole.0), whole.1)).map_err(broken)?;
        rows.take(limit).map(place_of).collect()
    }
}

/// An entry of an index as the database gives it.
type Entry<'a> = (AccessGuard<'a, (&'static str, u64, &'static str)>, AccessGuard<'a, ()>);

fn place_of(entry: Result<Entry<'_>, StorageError>) -> Result<Place, StoreError> {
    let (key, _) = entry.map_err(broken)?;
    let (_, score, id) = key.value();
    Ok(Place { score, id: id.to_owned() })
}
