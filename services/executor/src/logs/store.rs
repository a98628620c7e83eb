//! All outputs of this executor: who writes which, who reads which, and what must go when there is
//! too much or it is too old.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_domain::ids::AttemptRef;
use tokio::sync::watch;

use super::frame;
use super::reader::LogReader;
use super::writer::{Extent, LogWriter, Scan};
use crate::clock::millis;
use crate::config::LogLimits;
use crate::disk::Disk;
use crate::outbox::parse_stem;

type Open = BTreeMap<AttemptRef, Arc<watch::Sender<Extent>>>;

/// The outputs in the executor's folder.
#[derive(Clone)]
pub struct LogStore {
    disk: Arc<dyn Disk>,
    limits: LogLimits,
    /// How far each output reaches that is not complete. The lock is held for look-ups only.
    open: Arc<Mutex<Open>>,
}

impl LogStore {
    /// Uses the folder's outputs.
    pub fn new(disk: Arc<dyn Disk>, limits: LogLimits) -> Self {
        Self { disk, limits, open: Arc::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Expects output of an attempt, so that whoever asks for it before it comes can wait.
    pub(crate) fn expect(&self, attempt: &AttemptRef) -> Arc<watch::Sender<Extent>> {
        self.open().entry(attempt.clone()).or_default().clone()
    }

    /// Expects nothing more of an attempt: readers come to the end of what there is.
    pub fn close(&self, attempt: &AttemptRef) {
        if let Some(extent) = self.open().remove(attempt) {
            extent.send_modify(|extent| extent.complete = true);
        }
    }

    /// Opens an attempt's output for writing, at its end.
    ///
    /// # Errors
    /// Fails as the disk does; trying again is safe.
    pub async fn writer(&self, attempt: &AttemptRef) -> io::Result<LogWriter> {
        let extent = self.expect(attempt);
        let path = frame::path(attempt);
        LogWriter::open(self.disk.clone(), path, self.limits.attempt_bytes, extent).await
    }

    /// Opens an attempt's output for reading; `None` where there is none. An attempt of epoch 0
    /// stands for that of the highest epoch.
    ///
    /// # Errors
    /// Fails as the disk does; trying again is safe.
    pub async fn reader(
        &self,
        attempt: &AttemptRef,
        from_bytes: u64,
        follow: bool,
    ) -> io::Result<Option<LogReader>> {
        let Some(attempt) = self.resolve(attempt).await? else { return Ok(None) };
        let path = frame::path(&attempt);
        let known = self.open().get(&attempt).map(|extent| extent.subscribe());
        let extent = match known {
            Some(extent) => extent,
            None => {
                let mut extent = Extent { complete: true, ..Extent::default() };
                let mut scan = Scan::new(self.disk.clone(), path.clone(), 0);
                while let Some((frame, bytes)) = scan.next().await? {
                    extent.file_bytes += bytes;
                    if let frame::Frame::End { dropped_bytes } = frame {
                        extent.dropped_bytes = dropped_bytes;
                    }
                }
                watch::channel(extent).1
            }
        };
        let scan = Scan::new(self.disk.clone(), path, 0);
        Ok(Some(LogReader::new(scan, extent, from_bytes, follow)))
    }

    async fn resolve(&self, attempt: &AttemptRef) -> io::Result<Option<AttemptRef>> {
        if self.open().contains_key(attempt) {
            return Ok(Some(attempt.clone()));
        }
        let kept = self.disk.list("logs").await?;
        let same = |kept: &AttemptRef| {
            kept.job == attempt.job
                && kept.number == attempt.number
                && (attempt.epoch == 0 || kept.epoch == attempt.epoch)
        };
        let attempts = kept.iter().filter_map(|file| parse_stem(file.name.strip_suffix(".log")?));
        Ok(attempts.filter(same).max())
    }

    /// Removes what is too old, then the oldest until the rest is small enough. An output that is
    /// still written is never removed.
    ///
    /// # Errors
    /// Fails as the disk does; trying again is safe.
    pub async fn sweep(&self) -> io::Result<()> {
        let mut files = self.disk.list("logs").await?;
        files.sort_by_key(|file| std::cmp::Reverse(file.age_ms));
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        for file in files {
            let too_old = file.age_ms > millis(self.limits.age);
            if !too_old && total <= self.limits.total_bytes {
                break;
            }
            let Some(attempt) = file.name.strip_suffix(".log").and_then(parse_stem) else { continue };
            if self.open().get(&attempt).is_some_and(|extent| !extent.borrow().complete) {
                continue;
            }
            self.close(&attempt);
            self.disk.remove(&frame::path(&attempt)).await?;
            total = total.saturating_sub(file.bytes);
            tracing::debug!(job_id = %attempt.job, attempt = attempt.number, "old output removed");
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
