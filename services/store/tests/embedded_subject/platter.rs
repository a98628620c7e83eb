//! A disk that can lose power: what was not synced by then is lost, all or in part.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use berth_store::StoreError;
use berth_store::embedded::Medium;
use redb::{Database, StorageBackend};

/// The unit in which a disk writes: a sector is written whole or not at all.
const SECTOR: usize = 512;

/// The disk. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Platter(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    synced: Vec<u8>,
    /// What the programs see: the synced bytes with what is still on its way.
    seen: Vec<u8>,
    /// Sectors on their way.
    dirty: BTreeMap<usize, ()>,
    /// Counts the times the power came back; what was opened before is dead.
    life: u64,
    full: bool,
    failing_syncs: u32,
    random: u64,
}

impl Platter {
    /// Cuts the power: of the sectors on their way each arrives or not, as the seed has it.
    pub fn cut(&self, seed: u64) {
        let mut disk = self.0.lock().unwrap();
        disk.random ^= seed;
        let dirty: Vec<usize> = std::mem::take(&mut disk.dirty).into_keys().collect();
        let length = disk.seen.len();
        let longest = length.max(disk.synced.len());
        disk.synced.resize(longest, 0);
        for sector in dirty {
            if disk.coin() {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(length);
                if range.start < range.end {
                    let bytes = disk.seen[range.clone()].to_vec();
                    disk.synced[range].copy_from_slice(&bytes);
                }
            }
        }
        disk.seen = disk.synced.clone();
        disk.life += 1;
    }

    /// Leaves no room for new jobs, or gives it back.
    pub fn set_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }

    /// Makes the next syncs fail.
    pub fn fail_syncs(&self, count: u32) {
        self.0.lock().unwrap().failing_syncs = count;
    }

    /// The disk as a process sees it until the next cut.
    pub fn medium(&self) -> Arc<dyn Medium> {
        Arc::new(PlatterMedium { platter: self.clone(), life: self.0.lock().unwrap().life })
    }
}

impl Disk {
    /// Steps a linear congruential generator (Knuth's MMIX constants) and reads its top bit.
    fn coin(&mut self) -> bool {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 63 == 1
    }
}

struct PlatterMedium {
    platter: Platter,
    life: u64,
}

impl Medium for PlatterMedium {
    fn open(&self) -> Result<Database, StoreError> {
        let backend = Backend { platter: self.platter.clone(), life: self.life };
        Database::builder()
            .create_with_backend(backend)
            .map_err(|error| StoreError::Unavailable { reason: error.to_string() })
    }

    fn is_full(&self) -> bool {
        self.platter.0.lock().unwrap().full
    }

    fn place(&self) -> String {
        "a platter".to_owned()
    }
}

#[derive(Debug)]
struct Backend {
    platter: Platter,
    life: u64,
}

impl Backend {
    fn disk<T>(&self, act: impl FnOnce(&mut Disk) -> io::Result<T>) -> Result<T, io::Error> {
        let mut disk = self.platter.0.lock().unwrap();
        if disk.life != self.life {
            return Err(io::Error::other("the power was cut"));
        }
        act(&mut disk)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        self.disk(|disk| Ok(disk.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.disk(|disk| {
            let start = usize::try_from(offset).unwrap();
            let bytes = disk.seen.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.disk(|disk| {
            disk.seen.resize(usize::try_from(len).unwrap(), 0);
            Ok(())
        })
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.disk(|disk| {
            if disk.failing_syncs > 0 {
                disk.failing_syncs -= 1;
                return Err(io::Error::other("the disk failed to sync"));
            }
            disk.synced = disk.seen.clone();
            disk.dirty.clear();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.disk(|disk| {
            let start = usize::try_from(offset).unwrap();
            let end = start + data.len();
            let target = disk.seen.get_mut(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
            target.copy_from_slice(data);
            disk.dirty.extend((start / SECTOR..=(end.max(1) - 1) / SECTOR).map(|sector| (sector, ())));
            Ok(())
        })
    }
}
