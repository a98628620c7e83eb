//! The folder on a real disk.

use std::fs::TryLockError;
use std::io::{self, ErrorKind, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio::fs;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{Disk, FileEntry};
use crate::clock::millis;

/// A folder of the file system.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    /// Held open for the life of the process: closing it gives the lock back.
    lock: Mutex<Option<std::fs::File>>,
}

impl RealDisk {
    /// Opens the folder, and makes it where there is none.
    ///
    /// # Errors
    /// Fails when the folder cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        for folder in ["outbox", "logs"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        Ok(Self { root, lock: Mutex::new(None) })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

#[async_trait]
impl Disk for RealDisk {
    async fn lock(&self) -> io::Result<()> {
        let path = self.path("lock");
        let file = fs::File::create(&path).await?.into_std().await;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("{} is in use by another executor", self.root.display());
                return Err(io::Error::new(ErrorKind::ResourceBusy, text));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }

    async fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(path)).await {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read_at(&self, path: &str, position: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(self.path(path)).await?;
        file.seek(SeekFrom::Start(position)).await?;
        let mut content = Vec::with_capacity(most.min(1 << 20));
        file.take(most as u64).read_to_end(&mut content).await?;
        Ok(content)
    }

    async fn write_atomic(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let target = self.path(path);
        let temporary = self.path(&format!("{path}.tmp"));
        let mut file = fs::File::create(&temporary).await?;
        file.write_all(content).await?;
        // What a write met with is told by the next flush; a sync alone keeps a full disk to itself.
        file.flush().await?;
        file.sync_all().await?;
        fs::rename(&temporary, &target).await?;
        // The new name is durable only once its folder is.
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::File::open(folder).await?.sync_all().await
    }

    async fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.path(path)).await?;
        file.write_all(content).await?;
        file.flush().await
    }

    async fn truncate(&self, path: &str, bytes: u64) -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(self.path(path)).await?.set_len(bytes).await
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to)).await
    }

    async fn remove(&self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.path(path)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn list(&self, folder: &str) -> io::Result<Vec<FileEntry>> {
        let mut reader = match fs::read_dir(self.path(folder)).await {
            Ok(reader) => reader,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry().await? {
            let facts = entry.metadata().await?;
            if facts.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let age = facts.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
                entries.push(FileEntry { name, bytes: facts.len(), age_ms: millis(age) });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_belongs_to_one_process_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = RealDisk::open(folder.path()).expect("it opens");
        first.lock().await.expect("nobody holds it");
        let second = RealDisk::open(folder.path()).expect("it opens");
        let error = second.lock().await.expect_err("it is taken");
        assert!(error.to_string().contains("in use by another executor"), "{error}");
        drop(first);
        second.lock().await.expect("it was given back");
    }

    #[tokio::test]
    async fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = RealDisk::open(folder.path()).expect("it opens");
        disk.write_atomic("outbox/a", b"one").await.expect("it is written");
        disk.write_atomic("outbox/a", b"two").await.expect("it is written");
        assert_eq!(disk.read("outbox/a").await.expect("it is read"), Some(b"two".to_vec()));
        disk.append("logs/l", b"abc").await.expect("it is written");
        disk.append("logs/l", b"def").await.expect("it is written");
        assert_eq!(disk.read_at("logs/l", 2, 3).await.expect("it is read"), b"cde");
        disk.truncate("logs/l", 4).await.expect("it is cut");
        assert_eq!(disk.read("logs/l").await.expect("it is read"), Some(b"abcd".to_vec()));
        let names: Vec<_> = disk.list("outbox").await.expect("listed").into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["a"]);
    }
}
