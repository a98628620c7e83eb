//! Demands and free room as numbers: what the engine compares, without names of executors or devices.

use std::sync::Arc;

use crate::constraint::{Constraint, Labels};

/// A model of GPU, numbered.
pub type ModelId = u16;

/// Thousandths of a device in a whole one.
pub const WHOLE: u16 = 1_000;

/// The models that will do for a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Models {
    /// Any model.
    Any,
    /// Any of these: those that executors have, by number, and names that none has.
    Of(Vec<ModelId>, Vec<String>),
}

impl Models {
    /// Says whether a model will do.
    pub fn accept(&self, model: ModelId) -> bool {
        match self {
            Self::Any => true,
            Self::Of(models, _) => models.contains(&model),
        }
    }
}

/// What a job asks for. Jobs ask for whole devices; a part of one is for traces in which they are shared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// How many GPUs.
    pub gpus: u32,
    /// Thousandths of each of them: [`WHOLE`], or less with a single one that is shared.
    pub gpu_millis: u16,
    /// CPU in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The models that will do.
    pub models: Models,
    /// What labels must meet, sorted.
    pub constraints: Vec<Constraint>,
}

impl Shape {
    /// Says whether it asks for a part of a device.
    pub fn is_part(&self) -> bool {
        self.gpus > 0 && self.gpu_millis < WHOLE
    }

    /// All that it asks for.
    pub fn amounts(&self) -> Amounts {
        Amounts {
            cpu_millis: self.cpu_millis,
            memory_bytes: self.memory_bytes,
            gpu_millis: self.all_gpu_millis(),
        }
    }

    /// The same for whatever labels.
    pub fn without_constraints(&self) -> Self {
        Self { constraints: Vec::new(), ..self.clone() }
    }

    /// The same with other numbers for models.
    pub fn with_models(&self, renumber: &dyn Fn(&Models) -> Models) -> Self {
        Self { models: renumber(&self.models), ..self.clone() }
    }

    /// Says whether every room that holds this one holds the other.
    pub fn is_at_least(&self, other: &Self) -> bool {
        self.cpu_millis >= other.cpu_millis
            && self.memory_bytes >= other.memory_bytes
            && self.gpus >= other.gpus
            && self.gpu_millis >= other.gpu_millis
            && other.constraints.iter().all(|constraint| self.constraints.contains(constraint))
            && match (&self.models, &other.models) {
                (_, Models::Any) => true,
                (Models::Any, Models::Of(..)) => other.gpus == 0,
                (Models::Of(own, _), Models::Of(others, _)) => own.iter().all(|model| others.contains(model)),
            }
    }

    /// What it asks of all devices together, in thousandths of one.
    pub fn all_gpu_millis(&self) -> u64 {
        u64::from(self.gpus) * u64::from(self.gpu_millis)
    }
}

/// Sums over jobs or executors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// CPU in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Thousandths of devices.
    pub gpu_millis: u64,
}

/// What shares are counted in.
const WHOLE_SHARE: u128 = 1_000_000_000;

impl Amounts {
    /// Adds.
    pub fn add(&mut self, other: Self) {
        self.cpu_millis = self.cpu_millis.saturating_add(other.cpu_millis);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.gpu_millis = self.gpu_millis.saturating_add(other.gpu_millis);
    }

    /// Takes away.
    pub fn remove(&mut self, other: Self) {
        self.cpu_millis = self.cpu_millis.saturating_sub(other.cpu_millis);
        self.memory_bytes = self.memory_bytes.saturating_sub(other.memory_bytes);
        self.gpu_millis = self.gpu_millis.saturating_sub(other.gpu_millis);
    }

    /// Takes away where all of it is there.
    pub fn take(&mut self, other: Self) -> bool {
        let is_there = self.cpu_millis >= other.cpu_millis
            && self.memory_bytes >= other.memory_bytes
            && self.gpu_millis >= other.gpu_millis;
        if is_there {
            self.remove(other);
        }
        is_there
    }

    /// The largest share that it is of a whole, in billionths.
    pub fn share_of(&self, whole: &Self) -> u64 {
        let share = |part: u64, whole: u64| u128::from(part) * WHOLE_SHARE / u128::from(whole.max(1));
        let cpu = share(self.cpu_millis, whole.cpu_millis);
        let memory = share(self.memory_bytes, whole.memory_bytes);
        let gpus = share(self.gpu_millis, whole.gpu_millis);
        u64::try_from(cpu.max(memory).max(gpus)).unwrap_or(u64::MAX)
    }
}

/// Devices of one model that are equally free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lot {
    /// The model.
    pub model: ModelId,
    /// What is free of each, in thousandths; never 0.
    pub free_millis: u16,
    /// How many; never 0.
    pub count: u32,
}

/// Devices that a job would take: so many of each of these lots.
pub type Take = Vec<Lot>;

/// What an executor has, or what is free on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Room {
    /// CPU in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Its devices, sorted.
    lots: Vec<Lot>,
    /// The labels that some job asks about; none where there are none.
    labels: Option<Arc<Labels>>,
}

impl Room {
    /// Room with these devices: the model of each, and what is free of it.
    pub fn new(cpu_millis: u64, memory_bytes: u64, devices: impl Iterator<Item = (ModelId, u16)>) -> Self {
        let mut room = Self { cpu_millis, memory_bytes, lots: Vec::new(), labels: None };
        devices.for_each(|(model, free_millis)| room.add(Lot { model, free_millis, count: 1 }));
        room
    }

    /// The same on an executor with these labels.
    pub fn labelled(self, labels: Option<Arc<Labels>>) -> Self {
        Self { labels, ..self }
    }

    /// Its devices.
    pub fn lots(&self) -> &[Lot] {
        &self.lots
    }

    /// What is free of all devices together, in thousandths of one.
    pub fn gpu_millis(&self) -> u64 {
        self.lots.iter().map(|lot| u64::from(lot.free_millis) * u64::from(lot.count)).sum()
    }

    /// Says whether the same is there as in another room, whatever the labels.
    pub fn has_as_much_as(&self, other: &Self) -> bool {
        let of = |room: &Self| (room.cpu_millis, room.memory_bytes);
        of(self) == of(other) && self.lots == other.lots
    }

    /// All of it.
    pub fn amounts(&self) -> Amounts {
        Amounts {
            cpu_millis: self.cpu_millis,
            memory_bytes: self.memory_bytes,
            gpu_millis: self.gpu_millis(),
        }
    }

    /// Adds what a job gives back; devices by model.
    pub fn give_back(&mut self, shape: &Shape, devices: impl Iterator<Item = ModelId>) {
        self.cpu_millis = self.cpu_millis.saturating_add(shape.cpu_millis);
        self.memory_bytes = self.memory_bytes.saturating_add(shape.memory_bytes);
        devices.for_each(|model| self.add(Lot { model, free_millis: WHOLE, count: 1 }));
    }

    /// Counts the devices that a job could use.
    pub fn usable(&self, shape: &Shape) -> u32 {
        self.options(shape).map(|lot| lot.count).sum()
    }

    /// Says whether a job fits.
    pub fn holds(&self, shape: &Shape) -> bool {
        self.cpu_millis >= shape.cpu_millis
            && self.memory_bytes >= shape.memory_bytes
            && (shape.gpus == 0 || self.usable(shape) >= shape.gpus)
            && self.suits(shape)
    }

    fn suits(&self, shape: &Shape) -> bool {
        let is_met = |constraint: &Constraint| match &self.labels {
            Some(labels) => constraint.is_met_by(labels),
            None => constraint.is_met_by(&Labels::new()),
        };
        shape.constraints.iter().all(is_met)
    }

    /// What a job could not use of the devices, in thousandths of one.
    pub fn lost_to(&self, shape: &Shape) -> u64 {
        if shape.gpus == 0 || !self.holds(shape) {
            return self.gpu_millis();
        }
        let used = self.options(shape).map(|lot| u64::from(lot.free_millis) * u64::from(lot.count));
        self.gpu_millis() - used.sum::<u64>()
    }

    /// Chooses devices for a job that fits: of one model where one has enough, that with the fewest free; else
    /// of several. For a part, the device with the least free that suffices.
    pub fn take(&self, shape: &Shape) -> Take {
        let mut usable: Vec<Lot> = self.options(shape).collect();
        if shape.is_part() {
            let tightest = usable.iter().min_by_key(|lot| lot.free_millis);
            return tightest.map(|lot| Lot { count: 1, ..*lot }).into_iter().collect();
        }
        usable.sort_by_key(|lot| (lot.count < shape.gpus, lot.count));
        let mut missing = shape.gpus;
        usable.iter_mut().for_each(|lot| {
            lot.count = lot.count.min(missing);
            missing -= lot.count;
        });
        usable.retain(|lot| lot.count > 0);
        usable
    }

    /// The lots that a device for a job could come from.
    pub fn options<'a>(&'a self, shape: &'a Shape) -> impl Iterator<Item = Lot> + 'a {
        let is_usable = |lot: &&Lot| lot.free_millis >= shape.gpu_millis && shape.models.accept(lot.model);
        self.lots.iter().filter(is_usable).copied().filter(|_| shape.gpus > 0)
    }

    /// Says whether these devices are there.
    pub fn has(&self, take: &Take) -> bool {
        let is_there = |own: &Lot, lot: &Lot| {
            (own.model, own.free_millis) == (lot.model, lot.free_millis) && own.count >= lot.count
        };
        take.iter().all(|lot| self.lots.iter().any(|own| is_there(own, lot)))
    }

    /// What is left beside a job on these devices.
    pub fn less(&self, shape: &Shape, take: &[Lot]) -> Self {
        let mut left = self.clone();
        left.cpu_millis = left.cpu_millis.saturating_sub(shape.cpu_millis);
        left.memory_bytes = left.memory_bytes.saturating_sub(shape.memory_bytes);
        for taken in take {
            left.remove(*taken);
            left.add(Lot { free_millis: taken.free_millis.saturating_sub(shape.gpu_millis), ..*taken });
        }
        left
    }

    fn add(&mut self, lot: Lot) {
        if lot.free_millis == 0 || lot.count == 0 {
            return;
        }
        match self.lots.binary_search_by_key(&(lot.model, lot.free_millis), |l| (l.model, l.free_millis)) {
            Ok(at) => self.lots[at].count += lot.count,
            Err(at) => self.lots.insert(at, lot),
        }
    }

    fn remove(&mut self, lot: Lot) {
        if let Ok(at) =
            self.lots.binary_search_by_key(&(lot.model, lot.free_millis), |l| (l.model, l.free_millis))
        {
            self.lots[at].count = self.lots[at].count.saturating_sub(lot.count);
            if self.lots[at].count == 0 {
                self.lots.remove(at);
            }
        }
    }
}
