//! The rules' tables on a write transaction.

use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::spec::JobSpec;
use redb::{ReadableTable, Table, WriteTransaction};

use super::schema::{self, broken, name_of};
use crate::StoreError;
use crate::record::{
    decode_stored_executor, decode_stored_job, decode_stored_key, encode_spec, encode_stored_executor,
    encode_stored_job, encode_stored_key,
};
use crate::rules::{Index, StoredJob, StoredKey, Tables};

type Rows<'t> = Table<'t, &'static str, &'static [u8]>;

/// The most forgotten keys that one transaction removes: about as many as one may add under load, and
/// few enough that no caller pays for all of them.
const MAX_FORGOTTEN: usize = 1_000;

/// The tables of one transaction.
pub(super) struct DiskTables<'t> {
    jobs: Rows<'t>,
    specs: Rows<'t>,
    executors: Rows<'t>,
    keys: Rows<'t>,
    key_expiries: Table<'t, (u64, &'static str), ()>,
    places: Table<'t, (&'static str, u64, &'static str), ()>,
}

impl<'t> DiskTables<'t> {
    /// Opens the tables, making those that do not exist yet.
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        let rows = |definition| transaction.open_table(definition).map_err(broken);
        Ok(Self {
            jobs: rows(schema::JOBS)?,
            specs: rows(schema::SPECS)?,
            executors: rows(schema::EXECUTORS)?,
            keys: rows(schema::KEYS)?,
            key_expiries: transaction.open_table(schema::KEY_EXPIRIES).map_err(broken)?,
            places: transaction.open_table(schema::PLACES).map_err(broken)?,
        })
    }

    /// Removes a few of the idempotency keys that are no longer valid.
    pub(super) fn forget_keys(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let expired = self.key_expiries.range(..(now_ms, "")).map_err(broken)?;
        let expired = expired.take(MAX_FORGOTTEN).map(|entry| {
            let (place, _) = entry.map_err(broken)?;
            let (expiry_ms, key) = place.value();
            Ok((expiry_ms, key.to_owned()))
        });
        for (expiry_ms, key) in expired.collect::<Result<Vec<_>, StoreError>>()? {
            self.key_expiries.remove((expiry_ms, key.as_str())).map_err(broken)?;
            // The key may have been used again since.
            if self.key(&key)?.is_some_and(|stored| stored.expiry_ms == expiry_ms) {
                self.keys.remove(key.as_str()).map_err(broken)?;
            }
        }
        Ok(())
    }
}

/// Reads a row and decodes it.
fn row<T>(
    table: &Rows<'_>,
    key: &str,
    decode: impl FnOnce(&[u8]) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    table.get(key).map_err(broken)?.map(|bytes| decode(bytes.value())).transpose()
}

fn put_row(table: &mut Rows<'_>, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
    table.insert(key, bytes).map_err(broken)?;
    Ok(())
}

impl Tables for DiskTables<'_> {
    fn job(&self, id: &JobId) -> Result<Option<StoredJob>, StoreError> {
        row(&self.jobs, id.as_str(), decode_stored_job)
    }

    fn put_job(&mut self, stored: StoredJob) -> Result<(), StoreError> {
        put_row(&mut self.jobs, stored.job.id.as_str(), &encode_stored_job(&stored))
    }

    fn remove_job(&mut self, id: &JobId) -> Result<(), StoreError> {
        self.jobs.remove(id.as_str()).map_err(broken)?;
        self.specs.remove(id.as_str()).map_err(broken)?;
        Ok(())
    }

    fn put_spec(&mut self, id: &JobId, spec: &JobSpec) -> Result<(), StoreError> {
        put_row(&mut self.specs, id.as_str(), &encode_spec(spec))
    }

    fn key(&self, key: &str) -> Result<Option<StoredKey>, StoreError> {
        row(&self.keys, key, decode_stored_key)
    }

    fn put_key(&mut self, key: &str, stored: StoredKey) -> Result<(), StoreError> {
        self.key_expiries.insert((stored.expiry_ms, key), ()).map_err(broken)?;
        put_row(&mut self.keys, key, &encode_stored_key(&stored))
    }

    fn executor(&self, id: &ExecutorId) -> Result<Option<Executor>, StoreError> {
        row(&self.executors, id.as_str(), decode_stored_executor)
    }

    fn put_executor(&mut self, executor: Executor) -> Result<(), StoreError> {
        put_row(&mut self.executors, executor.id.as_str(), &encode_stored_executor(&executor))
    }

    fn place(&mut self, index: &Index, score: u64, id: &JobId) -> Result<(), StoreError> {
        self.places.insert((name_of(index).as_ref(), score, id.as_str()), ()).map_err(broken)?;
        Ok(())
    }

    fn displace(&mut self, index: &Index, score: u64, id: &JobId) -> Result<(), StoreError> {
        self.places.remove((name_of(index).as_ref(), score, id.as_str())).map_err(broken)?;
        Ok(())
    }
}
