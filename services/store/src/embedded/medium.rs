//! Where the database is: a file, or what a test puts in its place.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError};

use super::schema::broken;
use crate::StoreError;

/// What is kept of the file in memory: the system's own cache of files holds the rest.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

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
    /// The file while it is made: a power cut then leaves nothing that looks like a database.
    const NEW_FILE: &str = "berth.redb.new";

    /// Names a folder; new jobs are refused while fewer bytes than `min_free_bytes` are free there.
    pub fn new(folder: &Path, min_free_bytes: u64) -> Self {
        Self { folder: folder.to_owned(), min_free_bytes }
    }

    /// Makes the folder and an empty database in it, both for their owner alone: specs hold what jobs
    /// are given, secrets too.
    fn make(&self) -> Result<(), StoreError> {
        let unusable = |error: io::Error| StoreError::Unavailable {
            reason: format!("{} cannot be written: {error}", self.folder.display()),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(unusable)?;
        let (path, new) = (self.folder.join(Self::FILE), self.folder.join(Self::NEW_FILE));
        if path.exists() {
            return Ok(());
        }
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
            Ok(()) | Err(_) => {}
        }
        drop(Database::create(&new).map_err(broken)?);
        std::fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(unusable)?;
        std::fs::rename(&new, &path).map_err(unusable)?;
        // The file's name must outlive a power cut as what is in it does.
        let folders = self.folder.ancestors().take(2);
        folders
            .filter(|folder| !folder.as_os_str().is_empty())
            .try_for_each(|folder| File::open(folder)?.sync_all())
            .map_err(unusable)
    }
}

impl Medium for FileMedium {
    fn open(&self) -> Result<Database, StoreError> {
        self.make()?;
        let path = self.folder.join(Self::FILE);
        Database::builder().set_cache_size(CACHE_BYTES).open(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                StoreError::InUse { place: self.folder.display().to_string() }
            }
            other => StoreError::Unavailable { reason: format!("{}: {other}", path.display()) },
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
