//! Where the database is: a file, or what a test puts in its place.

use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError};

use crate::StoreError;

/// Opens the database, at the start and again after it failed.
pub trait Medium: Send + Sync + 'static {
    /// Opens the database.
    ///
    /// # Errors
    /// Fails when it cannot be used now; trying again later is safe.
    fn open(&self) -> Result<Database, StoreError>;

    /// Says whether there is no room for new jobs.
    fn is_full(&self) -> bool;

    /// Says where it is, for people.
    fn place(&self) -> String;
}

/// A file in a folder.
#[derive(Debug)]
pub struct FileMedium {
    folder: PathBuf,
    min_free_bytes: u64,
}

impl FileMedium {
    /// The database's file in its folder.
    const FILE: &str = "berth.redb";

    /// Names a folder; new jobs are refused while fewer bytes than `min_free_bytes` are free there.
    pub fn new(folder: &Path, min_free_bytes: u64) -> Self {
        Self { folder: folder.to_owned(), min_free_bytes }
    }
}

impl Medium for FileMedium {
    fn open(&self) -> Result<Database, StoreError> {
        let unusable = |reason: String| StoreError::Unavailable { reason };
        std::fs::create_dir_all(&self.folder)
            .map_err(|error| unusable(format!("{} cannot be made: {error}", self.folder.display())))?;
        let path = self.folder.join(Self::FILE);
        Database::create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                unusable(format!("another process of berth uses {}", self.folder.display()))
            }
            other => unusable(format!("{}: {other}", path.display())),
        })
    }

    fn is_full(&self) -> bool {
        // Where the room cannot be told, the writes themselves will.
        nix::sys::statvfs::statvfs(&self.folder)
            .is_ok_and(|stat| stat.blocks_available() * stat.fragment_size() < self.min_free_bytes)
    }

    fn place(&self) -> String {
        self.folder.display().to_string()
    }
}
