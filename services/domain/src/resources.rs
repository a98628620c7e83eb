//! Amounts of CPU, memory and GPU: what a job asks for, what an executor has, what is reserved.

use std::collections::BTreeSet;

use crate::constraint::{Constraint, Labels};

/// What a job asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Demand {
    /// CPU in thousandths of a core, at least 1.
    pub cpu_millis: u64,
    /// Memory in bytes, at least 1.
    pub memory_bytes: u64,
    /// Whole GPU devices.
    pub gpu_count: u32,
    /// Models any of which will do, sorted; empty means any model.
    pub gpu_models: Vec<String>,
    /// What the executor's labels must meet, all of it, sorted.
    pub constraints: Vec<Constraint>,
}

/// One GPU device of an executor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuDevice {
    /// The device's UUID; for an emulated one, a name made from executor and position.
    pub id: String,
    /// The model in lower case, for example `a100`.
    pub model: String,
    /// True when no such device exists and jobs see it in their environment only.
    pub emulated: bool,
}

/// What an executor has in all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capacity {
    /// CPU in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// GPU devices, sorted by id.
    pub gpus: Vec<GpuDevice>,
}

/// What running and assigned jobs hold on one executor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reserved {
    /// CPU in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Ids of the GPU devices in use.
    pub gpu_ids: BTreeSet<String>,
}

impl Demand {
    /// Says whether a device's model is among those the job accepts.
    pub fn accepts_model(&self, model: &str) -> bool {
        self.gpu_models.is_empty() || self.gpu_models.iter().any(|m| m == model)
    }

    /// Says whether an executor's labels will do.
    pub fn suits(&self, labels: &Labels) -> bool {
        self.constraints.iter().all(|constraint| constraint.is_met_by(labels))
    }

    /// Says whether the demand fits an executor on which nothing is reserved.
    pub fn fits_empty(&self, capacity: &Capacity) -> bool {
        self.fits(capacity, &Reserved::default())
    }

    /// Says whether the demand fits beside what is reserved already.
    pub fn fits(&self, capacity: &Capacity, reserved: &Reserved) -> bool {
        let cpu = reserved.cpu_millis.saturating_add(self.cpu_millis) <= capacity.cpu_millis;
        let memory = reserved.memory_bytes.saturating_add(self.memory_bytes) <= capacity.memory_bytes;
        cpu && memory && self.usable_gpus(capacity, reserved).count() >= self.gpu_count as usize
    }

    /// Lists the free devices that the job could use.
    pub fn usable_gpus<'a>(
        &'a self,
        capacity: &'a Capacity,
        reserved: &'a Reserved,
    ) -> impl Iterator<Item = &'a GpuDevice> {
        capacity
            .gpus
            .iter()
            .filter(|gpu| !reserved.gpu_ids.contains(&gpu.id) && self.accepts_model(&gpu.model))
    }
}

impl Reserved {
    /// Adds a job's share.
    pub fn add(&mut self, demand: &Demand, gpu_ids: &[String]) {
        self.cpu_millis = self.cpu_millis.saturating_add(demand.cpu_millis);
        self.memory_bytes = self.memory_bytes.saturating_add(demand.memory_bytes);
        self.gpu_ids.extend(gpu_ids.iter().cloned());
    }

    /// Takes a job's share back.
    pub fn remove(&mut self, demand: &Demand, gpu_ids: &[String]) {
        self.cpu_millis = self.cpu_millis.saturating_sub(demand.cpu_millis);
        self.memory_bytes = self.memory_bytes.saturating_sub(demand.memory_bytes);
        for id in gpu_ids {
            self.gpu_ids.remove(id);
        }
    }
}
