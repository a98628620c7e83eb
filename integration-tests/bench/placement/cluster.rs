//! The cluster that policies are measured on: nodes with CPU, memory and GPUs of one model each, and what is
//! free on them. It knows no policy and no trace.

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Thousandths of a GPU in a whole one.
pub const WHOLE: u16 = 1_000;
/// So many GPUs at most has a node.
pub const MAX_GPUS: usize = 16;
/// Any model will do.
pub const ANY_MODEL: u32 = u32::MAX;

/// What a pod asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// CPU in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// GPUs; none for a CPU-only pod.
    pub gpus: u16,
    /// Thousandths of each of these GPUs: 1000 but for one that is shared, 0 without GPUs.
    pub gpu_millis: u16,
    /// The models that will do, a bit each.
    pub models: u32,
}

impl Shape {
    /// What it asks of all GPUs together, in thousandths of a GPU.
    pub fn all_gpu_millis(&self) -> u64 {
        u64::from(self.gpus) * u64::from(self.gpu_millis)
    }

    /// Says whether it asks for a part of a GPU.
    pub fn is_shared(&self) -> bool {
        self.gpus > 0 && self.gpu_millis < WHOLE
    }
}

/// GPUs of one node, a bit each, the first one lowest.
pub type Devices = u16;

/// Amounts of one node: what it has, or what is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Room {
    /// CPU in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Thousandths of each GPU; 0 for those that the node does not have.
    pub gpus: [u16; MAX_GPUS],
}

impl Room {
    /// Says whether a pod fits, models aside.
    pub fn holds(&self, shape: &Shape) -> bool {
        self.cpu_millis >= shape.cpu_millis
            && self.memory_mib >= shape.memory_mib
            && (shape.gpus == 0 || self.gpus_with(shape.gpu_millis) >= usize::from(shape.gpus))
    }

    /// Counts the GPUs with so much free.
    pub fn gpus_with(&self, gpu_millis: u16) -> usize {
        self.gpus.iter().filter(|free| **free >= gpu_millis).count()
    }

    /// Thousandths of a GPU, over all GPUs.
    pub fn gpu_millis(&self) -> u64 {
        self.gpus.iter().copied().map(u64::from).sum()
    }

    /// Chooses GPUs for a pod that fits: the first whole ones, or for a part the one with the least free.
    pub fn tightest(&self, shape: &Shape) -> Devices {
        let usable = self.gpus.iter().enumerate().filter(|(_, free)| **free >= shape.gpu_millis);
        if shape.is_shared() {
            usable.min_by_key(|(_, free)| **free).map_or(0, |(index, _)| 1 << index)
        } else {
            usable.take(usize::from(shape.gpus)).fold(0, |devices, (index, _)| devices | 1 << index)
        }
    }

    /// What is left beside a pod on these GPUs.
    pub fn less(&self, shape: &Shape, devices: Devices) -> Self {
        let mut left = *self;
        left.cpu_millis = left.cpu_millis.wrapping_sub(shape.cpu_millis);
        left.memory_mib = left.memory_mib.wrapping_sub(shape.memory_mib);
        for (_, free) in chosen(&mut left.gpus, devices) {
            *free = free.wrapping_sub(shape.gpu_millis);
        }
        left
    }

    /// What there is once such a pod has left these GPUs.
    pub fn plus(&self, shape: &Shape, devices: Devices) -> Self {
        let mut more = *self;
        more.cpu_millis += shape.cpu_millis;
        more.memory_mib += shape.memory_mib;
        for (_, free) in chosen(&mut more.gpus, devices) {
            *free += shape.gpu_millis;
        }
        more
    }

    fn is_within(&self, capacity: &Self) -> bool {
        self.cpu_millis <= capacity.cpu_millis
            && self.memory_mib <= capacity.memory_mib
            && self.gpus.iter().zip(&capacity.gpus).all(|(free, most)| free <= most)
    }
}

fn chosen(gpus: &mut [u16; MAX_GPUS], devices: Devices) -> impl Iterator<Item = (usize, &mut u16)> {
    gpus.iter_mut().enumerate().filter(move |(index, _)| devices >> index & 1 == 1)
}

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it has.
    pub capacity: Room,
    /// What is free.
    pub free: Room,
    /// The bit of its GPUs' model; no bit without GPUs.
    pub model: u32,
    /// Rises with every change, from 1.
    pub version: u32,
}

impl Node {
    /// An empty node.
    pub fn new(capacity: Room, model: u32) -> Self {
        Self { capacity, free: capacity, model, version: 1 }
    }

    /// Says whether a pod fits now.
    pub fn fits(&self, shape: &Shape) -> bool {
        self.may_run(shape) && self.free.holds(shape)
    }

    /// Says whether it has GPUs of a model that will do, busy or not.
    pub fn may_run(&self, shape: &Shape) -> bool {
        shape.gpus == 0 || shape.models & self.model != 0
    }
}

/// All nodes; their position is their index for those policies that go by it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Puts a pod on a node.
    pub fn place(&mut self, node: usize, shape: &Shape, devices: Devices) {
        let node = &mut self.nodes[node];
        node.free = node.free.less(shape, devices);
        node.version += 1;
    }

    /// Takes a pod off a node.
    pub fn remove(&mut self, node: usize, shape: &Shape, devices: Devices) {
        let node = &mut self.nodes[node];
        node.free = node.free.plus(shape, devices);
        node.version += 1;
    }

    /// Thousandths of a GPU in the whole cluster.
    pub fn gpu_millis(&self) -> u64 {
        self.nodes.iter().map(|node| node.capacity.gpu_millis()).sum()
    }

    /// Thousandths of a GPU that are free.
    pub fn free_gpu_millis(&self) -> u64 {
        self.nodes.iter().map(|node| node.free.gpu_millis()).sum()
    }

    /// Says whether nothing was given out twice: what was taken below zero has wrapped around.
    pub fn is_sound(&self) -> bool {
        self.nodes.iter().all(|node| node.free.is_within(&node.capacity))
    }
}
