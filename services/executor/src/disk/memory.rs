//! The folder in memory, for tests and simulations. It outlives a simulated crash when it is shared.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Disk, FileEntry};
use crate::clock::Clock;

struct File {
    content: Vec<u8>,
    written_ms: u64,
}

/// Files by path. Every clone-free share of it sees the same files; `lock` always succeeds, since a
/// simulation decides by itself who may use it.
pub struct MemoryDisk {
    files: Mutex<BTreeMap<String, File>>,
    clock: Arc<dyn Clock>,
    failing: Mutex<bool>,
}

impl MemoryDisk {
    /// Makes an empty folder.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { files: Mutex::default(), clock, failing: Mutex::new(false) }
    }

    /// Makes every write fail as on a full disk, or ends that.
    pub fn set_full(&self, full: bool) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = full;
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        if *self.failing.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(io::Error::new(ErrorKind::StorageFull, "the simulated disk is full"));
        }
        let written_ms = self.clock.wall_ms();
        let mut files = self.files();
        let file = files.entry(path.to_owned()).or_insert(File { content: Vec::new(), written_ms });
        change(&mut file.content);
        file.written_ms = written_ms;
        Ok(())
    }
}

fn missing(path: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("no file {path}"))
}

#[async_trait]
impl Disk for MemoryDisk {
    async fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    async fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files().get(path).map(|file| file.content.clone()))
    }

    async fn read_at(&self, path: &str, position: u64, most: usize) -> io::Result<Vec<u8>> {
        let files = self.files();
        let content = &files.get(path).ok_or_else(|| missing(path))?.content;
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(most).min(content.len());
        Ok(content[start..end].to_vec())
    }

    async fn write_atomic(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.change(path, |file| *file = content.to_vec())
    }

    async fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.change(path, |file| file.extend_from_slice(content))
    }

    async fn truncate(&self, path: &str, bytes: u64) -> io::Result<()> {
        self.change(path, |file| file.truncate(usize::try_from(bytes).unwrap_or(usize::MAX)))
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or_else(|| missing(from))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    async fn remove(&self, path: &str) -> io::Result<()> {
        self.files().remove(path);
        Ok(())
    }

    async fn list(&self, folder: &str) -> io::Result<Vec<FileEntry>> {
        let now_ms = self.clock.wall_ms();
        let prefix = format!("{folder}/");
        let files = self.files();
        let inside = files.iter().filter_map(|(path, file)| {
            let name = path.strip_prefix(&prefix).filter(|name| !name.contains('/'))?;
            Some(FileEntry {
                name: name.to_owned(),
                bytes: file.content.len() as u64,
                age_ms: now_ms.saturating_sub(file.written_ms),
            })
        });
        Ok(inside.collect())
    }
}
