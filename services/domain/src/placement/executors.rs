//! Executors with what they have and who is on them, as the board keeps them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::amounts::{ModelId, Room, Shape, Take};
use super::fleet::Rank;
use super::types::Ends;
use crate::constraint::Labels;
use crate::ids::{ExecutorId, JobId};
use crate::resources::{Capacity, Reserved};

/// So many images of an executor are remembered.
const MOST_IMAGES: usize = 32;

/// An executor.
#[derive(Debug, Clone)]
pub struct Executor {
    /// Its name.
    pub id: ExecutorId,
    /// None before it has registered, or once it is lost: jobs may be on it all the same.
    pub capacity: Option<Capacity>,
    /// Its labels.
    pub labels: Labels,
    /// Whether it may be given jobs.
    pub takes_jobs: bool,
    /// Where it stands among those that are equally good.
    pub rank: Rank,
    /// All that it has.
    pub whole: Room,
    /// What its jobs have of it.
    pub reserved: Reserved,
    /// The images that have run on it of late, the newest last.
    pub images: VecDeque<u64>,
    /// Its jobs.
    pub running: BTreeMap<JobId, Running>,
}

/// A job on an executor.
#[derive(Debug, Clone)]
pub struct Running {
    /// What it asked for.
    pub shape: Shape,
    /// The devices that it has.
    pub gpu_device_ids: Vec<String>,
    /// The models of its devices, as far as its executor has them.
    pub models: Vec<ModelId>,
    /// When it ends.
    pub ends: Ends,
}

impl Running {
    /// A job that is given a place, and devices whose names are not known yet.
    pub fn new(shape: &Shape, take: &Take, ends: Ends) -> Self {
        let models = take.iter().flat_map(|lot| std::iter::repeat_n(lot.model, lot.count as usize));
        Self { shape: shape.clone(), gpu_device_ids: Vec::new(), models: models.collect(), ends }
    }
}

impl Executor {
    /// Notes an image that has run on it; gives one that is forgotten instead.
    pub fn note_image(&mut self, image_hash: u64) -> Option<u64> {
        if self.images.back() == Some(&image_hash) {
            return None;
        }
        self.images.retain(|known| *known != image_hash);
        self.images.push_back(image_hash);
        if self.images.len() > MOST_IMAGES { self.images.pop_front() } else { None }
    }

    /// Those of its labels that some job asks about; none where there are none.
    pub fn labels_of(&self, keys: &BTreeSet<String>) -> Option<Arc<Labels>> {
        let asked = self.labels.iter().filter(|(key, _)| keys.contains(*key));
        let asked: Labels = asked.map(|(key, value)| (key.clone(), value.clone())).collect();
        (!asked.is_empty()).then(|| Arc::new(asked))
    }

    /// The models of devices that it has.
    pub fn models_of(&self, gpu_device_ids: &[String], models: &BTreeMap<String, ModelId>) -> Vec<ModelId> {
        let devices = self.capacity.iter().flat_map(|capacity| &capacity.gpus);
        let devices = devices.filter(|gpu| gpu_device_ids.contains(&gpu.id));
        devices.filter_map(|gpu| models.get(&gpu.model)).copied().collect()
    }

    /// Finds out what models the devices of its jobs are, once it has others or these have other numbers.
    pub fn look_up_models(&mut self, models: &BTreeMap<String, ModelId>) {
        let mut running = std::mem::take(&mut self.running);
        for job in running.values_mut() {
            job.models = self.models_of(&job.gpu_device_ids, models);
        }
        self.running = running;
    }
}
