//! The executor's folder, as an argument: identity, outbox and logs live in it. Paths are relative
//! to the folder and made of plain names, so that no path can leave it.

mod memory;
mod real;

pub use memory::MemoryDisk;
pub use real::RealDisk;

use std::io;

use async_trait::async_trait;

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name, without the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its age: time since it was last written.
    pub age_ms: u64,
}

/// What the executor does with its folder.
#[async_trait]
pub trait Disk: Send + Sync {
    /// Takes the folder for this process alone, until the process ends.
    ///
    /// # Errors
    /// Fails when another process holds it.
    async fn lock(&self) -> io::Result<()>;

    /// Reads a whole file; `None` where there is none.
    ///
    /// # Errors
    /// Fails as the operating system says.
    async fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Reads up to `most` bytes from a position. An empty answer means the end.
    ///
    /// # Errors
    /// Fails as the operating system says; a missing file is an error.
    async fn read_at(&self, path: &str, position: u64, most: usize) -> io::Result<Vec<u8>>;

    /// Writes a whole file so that, whenever the machine stops, either the old or the new content
    /// is there. When it returns, the new content is durable.
    ///
    /// # Errors
    /// Fails as the operating system says; the old content is then still there.
    async fn write_atomic(&self, path: &str, content: &[u8]) -> io::Result<()>;

    /// Adds to the end of a file, which is made where there is none. Not durable by itself.
    ///
    /// # Errors
    /// Fails as the operating system says; a part may have been written.
    async fn append(&self, path: &str, content: &[u8]) -> io::Result<()>;

    /// Cuts a file to a length.
    ///
    /// # Errors
    /// Fails as the operating system says.
    async fn truncate(&self, path: &str, bytes: u64) -> io::Result<()>;

    /// Renames a file. Not durable by itself.
    ///
    /// # Errors
    /// Fails as the operating system says.
    async fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; none is no error. Not durable by itself.
    ///
    /// # Errors
    /// Fails as the operating system says.
    async fn remove(&self, path: &str) -> io::Result<()>;

    /// Lists the files of a folder by name; a missing folder is empty.
    ///
    /// # Errors
    /// Fails as the operating system says.
    async fn list(&self, folder: &str) -> io::Result<Vec<FileEntry>>;
}
