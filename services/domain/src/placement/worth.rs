//! How good it is to have a job on an executor. Fragmentation gradient descent ("Beware of Fragmentation",
//! USENIX ATC 2023): a free device is a fragment for a shape that could not use it, averaged over the mix of
//! shapes; a job goes where it adds least to that. A device of a model that is asked for by name has a price
//! besides, so that jobs that accept any model leave it alone. Small differences are noise: they fall into one
//! bin, within which jobs are packed. Whole numbers throughout, so that every machine decides alike.

use super::amounts::{Lot, ModelId, Models, Room, Shape, Take, WHOLE};

/// How executors are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// By fragments and scarcity; jobs without GPUs on executors without free ones as by `BestFit`.
    #[default]
    Auto,
    /// The least left over.
    BestFit,
}

/// Differences in thousandths of a device that are taken for noise, by the number of devices asked for: none,
/// one, several.
const BINS_MILLIS: [i128; 3] = [250, 300, 1_000];
/// The same where only shapes that ask for several devices are looked at, to tell apart what is equal in sum.
const LARGE_BIN_MILLIS: i128 = 50;
/// CPU that is left over is told apart in so many parts of the largest executor, where the rest is equal.
const CPU_STEPS: i64 = 30;
/// The price of a device is at most this, in thousandths.
const HIGHEST_PRICE_MILLIS: u128 = 1_500;
/// A price counts so many times as much as a fragment.
const PRICE_WEIGHT: i128 = 2;
/// What is left over is counted in so many parts of the largest executor.
const PARTS: i64 = 1_000_000_000;
/// More than anything that can be left over.
const EMPTY_HANDED: i64 = 4_000_000_000;
/// Tables for one model have at most so many cells.
const MOST_CELLS: usize = 1 << 16;

/// How good a place is: the higher the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// By fragments and scarcity, without what is noise.
    pub bin: i64,
    /// Among equal bins.
    pub tie: i64,
}

/// The largest amounts in the cluster, by which leftovers of different kinds are made comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// CPU in thousandths of a core; at least 1.
    pub cpu_millis: u64,
    /// Memory in bytes; at least 1.
    pub memory_bytes: u64,
    /// Thousandths of devices; at least 1.
    pub gpu_millis: u64,
}

impl Default for Scale {
    fn default() -> Self {
        Self { cpu_millis: 1, memory_bytes: 1, gpu_millis: u64::from(WHOLE) }
    }
}

impl Scale {
    /// Sums the shares that stay free, in billionths of the largest executor.
    fn left_over(self, room: &Room, shape: &Shape) -> i64 {
        let memory = share(room.memory_bytes, shape.memory_bytes, self.memory_bytes);
        self.cpu_left_over(room, shape).saturating_add(memory)
    }

    fn cpu_left_over(self, room: &Room, shape: &Shape) -> i64 {
        share(room.cpu_millis, shape.cpu_millis, self.cpu_millis)
    }

    fn gpus_left_over(self, room: &Room, shape: &Shape) -> i64 {
        share(room.gpu_millis(), shape.all_gpu_millis(), self.gpu_millis)
    }
}

fn share(free: u64, asked: u64, most: u64) -> i64 {
    let parts = u128::from(free.saturating_sub(asked)) * u128::from(PARTS.unsigned_abs()) / u128::from(most);
    i64::try_from(parts).unwrap_or(i64::MAX)
}

/// What free devices are worth to the mix of shapes.
#[derive(Debug, Clone, Default)]
pub struct Worth {
    policy: Policy,
    scale: Scale,
    /// How many jobs the mix stands for.
    weight: u64,
    /// By model, thousandths.
    prices: Vec<i128>,
    /// For all shapes of the mix, and for those that ask for several devices.
    all: Loss,
    large: Loss,
}

impl Worth {
    /// Reckons it for a mix; `capacity` has the thousandths of devices of each model in the cluster.
    pub fn new(policy: Policy, scale: Scale, typical: Vec<(Shape, u64)>, capacity: &[u64]) -> Self {
        if policy == Policy::BestFit {
            return Self { policy, scale, ..Self::default() };
        }
        let weight = typical.iter().map(|(_, weight)| weight).sum::<u64>().max(1);
        let prices = prices(&typical, capacity);
        let large = typical.iter().filter(|(shape, _)| shape.gpus > 1).cloned().collect();
        let (all, large) = (Loss::new(typical, capacity), Loss::new(large, capacity));
        Self { policy, scale, weight, prices, all, large }
    }

    /// The fragments of free room: over the mix, how many of a shape there are times the thousandths of a device
    /// that it could not use.
    pub fn fragments(&self, room: &Room) -> u64 {
        self.all.of(room)
    }

    /// Scores a job in free room that it fits in, whose fragments are known, and chooses devices.
    pub fn score(&self, shape: &Shape, room: &Room, fragments: u64) -> (Score, Take) {
        match self.policy {
            Policy::BestFit => {
                let left = self.scale.left_over(room, shape) + self.scale.gpus_left_over(room, shape);
                (Score { bin: 0, tie: -left }, room.take(shape))
            }
            Policy::Auto if shape.is_part() => {
                let options = room.options(shape).map(|lot| vec![Lot { count: 1, ..lot }]);
                let scored = options.map(|take| (self.gain(shape, room, fragments, &take), take));
                let best = scored.max_by_key(|(score, take)| {
                    (*score, take.iter().map(|lot| std::cmp::Reverse(lot.free_millis)).collect::<Vec<_>>())
                });
                best.unwrap_or((Score { bin: i64::MIN, tie: 0 }, Take::new()))
            }
            Policy::Auto => {
                let take = room.take(shape);
                (self.gain(shape, room, fragments, &take), take)
            }
        }
    }

    fn gain(&self, shape: &Shape, room: &Room, before: u64, take: &[Lot]) -> Score {
        let left = room.less(shape, take);
        let gain = i128::from(before) - i128::from(self.fragments(&left));
        let price = |lot: &Lot| {
            let price = self.prices.get(usize::from(lot.model)).copied().unwrap_or(0);
            price * i128::from(lot.count) * i128::from(shape.gpu_millis) / i128::from(WHOLE)
        };
        let cost: i128 = take.iter().map(price).sum();
        let weight = i128::from(self.weight);
        let class = usize::try_from(shape.gpus.min(2)).unwrap_or(0);
        let bin = (gain - PRICE_WEIGHT * cost * weight).div_euclid(BINS_MILLIS[class] * weight);
        let tie = match shape.gpus {
            0 if room.lots().is_empty() => EMPTY_HANDED - self.scale.left_over(room, shape),
            0 => 0,
            // What is noise in sum may be all the room that a large job has.
            1 => {
                let lost = i128::from(self.large.of(&left)) - i128::from(self.large.of(room));
                let spared = i64::try_from(-lost.div_euclid(LARGE_BIN_MILLIS * weight)).unwrap_or(i64::MIN);
                let cpu = self.scale.cpu_left_over(room, shape) / (PARTS / CPU_STEPS);
                spared.saturating_mul(CPU_STEPS + 1).saturating_sub(cpu)
            }
            _ => -self.scale.left_over(room, shape),
        };
        Score { bin: i64::try_from(bin).unwrap_or(i64::MIN), tie }
    }
}

/// What a device of each model costs: how much it is asked for by name, as a share of what there is, if all of
/// the cluster's devices were asked for.
fn prices(typical: &[(Shape, u64)], capacity: &[u64]) -> Vec<i128> {
    let all: u64 = capacity.iter().sum();
    let asked: u128 = typical.iter().map(|(s, weight)| u128::from(s.all_gpu_millis() * weight)).sum();
    let mut by_name = vec![0_u128; capacity.len()];
    for (shape, weight) in typical {
        let Models::Of(models, _) = &shape.models else { continue };
        let eligible: u64 = models.iter().filter_map(|model| capacity.get(usize::from(*model))).sum();
        for model in models.iter().map(|model| usize::from(*model)).filter(|model| *model < capacity.len()) {
            // The demand is split over the models that will do, by how much there is of each; a share of
            // the model's capacity is the same for all of them.
            by_name[model] +=
                u128::from(shape.all_gpu_millis() * weight) * 1_000_000 / u128::from(eligible.max(1));
        }
    }
    let price = |demand: u128| {
        let share = demand * u128::from(all) / 1_000 / asked.max(1);
        i128::try_from(share.min(HIGHEST_PRICE_MILLIS)).unwrap_or(0)
    };
    by_name.into_iter().map(price).collect()
}

/// What free devices are of no use to some shapes.
#[derive(Debug, Clone, Default)]
struct Loss {
    /// The shapes, and how many each stands for.
    typical: Vec<(Shape, u64)>,
    /// By model; none where it would be large, or where no executor has the model.
    tables: Vec<Option<Table>>,
}

impl Loss {
    fn new(typical: Vec<(Shape, u64)>, capacity: &[u64]) -> Self {
        let models = (0..=ModelId::MAX).zip(capacity);
        let table = |(model, millis): (ModelId, &u64)| {
            if *millis == 0 { None } else { Table::new(&typical, model) }
        };
        let tables = models.map(table).collect();
        Self { typical, tables }
    }

    /// How many there are of a shape times the thousandths of a device that it could not use, over all.
    fn of(&self, room: &Room) -> u64 {
        let table = match room.lots() {
            [] => return 0,
            [lot] if lot.free_millis == WHOLE => self.tables.get(usize::from(lot.model)).zip(Some(lot.count)),
            _ => None,
        };
        match table {
            Some((Some(table), count)) => {
                table.useless(count, room.cpu_millis, room.memory_bytes) * room.gpu_millis()
            }
            Some((None, _)) | None => {
                self.typical.iter().map(|(shape, weight)| weight * room.lost_to(shape)).sum()
            }
        }
    }
}

/// For whole devices of one model: what weight of shapes could not use them, by how many they are and by the
/// CPU and memory beside them.
#[derive(Debug, Clone)]
struct Table {
    gpus: Vec<u32>,
    cpu_millis: Vec<u64>,
    memory_bytes: Vec<u64>,
    /// The weight of shapes that do fit, up to each step of the three, plus one for what is below the first.
    fitting: Vec<u64>,
    weight: u64,
}

impl Table {
    fn new(typical: &[(Shape, u64)], model: ModelId) -> Option<Self> {
        let weight = typical.iter().map(|(_, weight)| weight).sum();
        let accepted = || typical.iter().filter(|(shape, _)| shape.gpus > 0 && shape.models.accept(model));
        let gpus = steps(accepted().map(|(shape, _)| shape.gpus));
        let cpu_millis = steps(accepted().map(|(shape, _)| shape.cpu_millis));
        let memory_bytes = steps(accepted().map(|(shape, _)| shape.memory_bytes));
        let cells = (gpus.len() + 1) * (cpu_millis.len() + 1) * (memory_bytes.len() + 1);
        if cells > MOST_CELLS {
            return None;
        }
        let mut table = Self { gpus, cpu_millis, memory_bytes, fitting: vec![0; cells], weight };
        for (shape, weight) in accepted() {
            let at = table.cell(shape.gpus, shape.cpu_millis, shape.memory_bytes);
            table.fitting[at] += weight;
        }
        table.sum_up();
        Some(table)
    }

    fn useless(&self, gpus: u32, cpu_millis: u64, memory_bytes: u64) -> u64 {
        self.weight - self.fitting[self.cell(gpus, cpu_millis, memory_bytes)]
    }

    fn cell(&self, gpus: u32, cpu_millis: u64, memory_bytes: u64) -> usize {
        let gpu = self.gpus.partition_point(|step| *step <= gpus);
        let cpu = self.cpu_millis.partition_point(|step| *step <= cpu_millis);
        let memory = self.memory_bytes.partition_point(|step| *step <= memory_bytes);
        self.at(gpu, cpu, memory)
    }

    fn at(&self, gpu: usize, cpu: usize, memory: usize) -> usize {
        (gpu * (self.cpu_millis.len() + 1) + cpu) * (self.memory_bytes.len() + 1) + memory
    }

    /// Makes of the weights at each step those up to each step.
    fn sum_up(&mut self) {
        let (gpus, cpus, memories) = (self.gpus.len(), self.cpu_millis.len(), self.memory_bytes.len());
        for gpu in 0..=gpus {
            for cpu in 0..=cpus {
                for memory in 1..=memories {
                    let at = self.at(gpu, cpu, memory);
                    self.fitting[at] += self.fitting[at - 1];
                }
            }
            for cpu in 1..=cpus {
                for memory in 0..=memories {
                    let at = self.at(gpu, cpu, memory);
                    self.fitting[at] += self.fitting[self.at(gpu, cpu - 1, memory)];
                }
            }
        }
        let layer = (cpus + 1) * (memories + 1);
        for at in layer..self.fitting.len() {
            self.fitting[at] += self.fitting[at - layer];
        }
    }
}

fn steps<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut steps: Vec<T> = values.collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}
