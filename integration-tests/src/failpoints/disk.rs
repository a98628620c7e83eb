//! The executor's folder between points.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use berth_executor::disk::{Disk, FileEntry};

use super::{Points, between};

/// A folder whose calls pass points.
pub struct FaultyDisk {
    /// The folder itself.
    pub inner: Arc<dyn Disk>,
    /// The points of the process.
    pub points: Arc<Points>,
}

#[async_trait]
impl Disk for FaultyDisk {
    async fn lock(&self) -> io::Result<()> {
        between!(self.points, "disk.lock", self.inner.lock())
    }

    async fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        between!(self.points, "disk.read", self.inner.read(path))
    }

    async fn read_at(&self, path: &str, position: u64, most: usize) -> io::Result<Vec<u8>> {
        between!(self.points, "disk.read_at", self.inner.read_at(path, position, most))
    }

    async fn write_atomic(&self, path: &str, content: &[u8]) -> io::Result<()> {
        between!(self.points, "disk.write_atomic", self.inner.write_atomic(path, content))
    }

    async fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        between!(self.points, "disk.append", self.inner.append(path, content))
    }

    async fn truncate(&self, path: &str, bytes: u64) -> io::Result<()> {
        self.inner.truncate(path, bytes).await
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        between!(self.points, "disk.rename", self.inner.rename(from, to))
    }

    async fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path).await
    }

    async fn list(&self, folder: &str) -> io::Result<Vec<FileEntry>> {
        between!(self.points, "disk.list", self.inner.list(folder))
    }
}
