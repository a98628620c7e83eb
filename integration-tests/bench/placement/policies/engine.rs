//! Berth's own engine (`berth_domain::placement`), asked for one pod at a time. It counts what has come; what comes
//! it may be told before, as fragmentation gradient descent is.

use berth_domain::placement::{
    Fleet, ModelId, Models, Policy as How, Room as Free, Scale, Shape as Asked, ShapeId, Take,
};

use super::choice::{Ask, Policy};
use crate::cluster::{ANY_MODEL, Cluster, Devices, MIB, Node, Room, Shape};
use crate::workload::Workload;

/// The models that a mask has a bit for.
const MODELS: u16 = 32;

/// The engine, and what it knows of the cluster.
#[derive(Debug)]
pub struct Engine {
    fleet: Fleet,
    /// The version of each node that it knows.
    versions: Vec<u32>,
    take: Take,
}

impl Engine {
    /// Tells it of the cluster.
    pub fn of(cluster: &Cluster) -> Self {
        let mut fleet = Fleet::new(How::Auto);
        let slots = (0..cluster.nodes.len() as u64).map(|rank| fleet.add(rank));
        let versions = slots.map(|_| 0).collect();
        let mut capacity = vec![0; usize::from(MODELS)];
        let mut scale = Scale::default();
        for node in &cluster.nodes {
            scale.cpu_millis = scale.cpu_millis.max(node.capacity.cpu_millis);
            scale.memory_bytes = scale.memory_bytes.max(node.capacity.memory_mib * MIB);
            scale.gpu_millis = scale.gpu_millis.max(node.capacity.gpu_millis());
            if node.model != 0 {
                capacity[usize::from(model_id(node.model))] += node.capacity.gpu_millis();
            }
        }
        fleet.set_capacity(scale, capacity);
        Self { fleet, versions, take: Take::new() }
    }

    /// Tells it what will come.
    pub fn told(mut self, workload: &Workload) -> Self {
        for pod in &workload.pods {
            let shape = self.shape_id(&workload.shapes[*pod]);
            self.fleet.mix().arrive(shape, 1);
        }
        self
    }

    fn look_at(&mut self, cluster: &Cluster) {
        for (slot, (node, version)) in cluster.nodes.iter().zip(&mut self.versions).enumerate() {
            if *version != node.version {
                *version = node.version;
                self.fleet.set(slot, free(node.model, &node.free), true);
            }
        }
    }

    fn shape_id(&mut self, shape: &Shape) -> ShapeId {
        self.fleet.shape_id(&asked(shape))
    }
}

fn free(model: u32, room: &Room) -> Free {
    let model = model_id(model);
    let devices = room.gpus.iter().filter(|free| **free > 0).map(|free| (model, *free));
    Free::new(room.cpu_millis, room.memory_mib * MIB, devices)
}

fn model_id(bit: u32) -> ModelId {
    ModelId::try_from(bit.trailing_zeros()).unwrap_or(ModelId::MAX)
}

fn asked(shape: &Shape) -> Asked {
    let models = (0..MODELS).filter(|model| shape.models >> model & 1 == 1);
    Asked {
        gpus: u32::from(shape.gpus),
        gpu_millis: shape.gpu_millis,
        cpu_millis: shape.cpu_millis,
        memory_bytes: shape.memory_mib * MIB,
        models: if shape.models == ANY_MODEL {
            Models::Any
        } else {
            Models::Of(models.collect(), Vec::new())
        },
        constraints: Vec::new(),
    }
}

impl Policy for Engine {
    fn choose(&mut self, ask: Ask, cluster: &Cluster) -> Option<usize> {
        self.look_at(cluster);
        let shape = self.shape_id(&ask.shape);
        self.fleet.mix().arrive(shape, 1);
        let (slot, take) = self.fleet.choose(shape)?;
        self.take = take;
        Some(slot)
    }

    /// Those that the engine chose with the node.
    fn devices(&mut self, _: &Shape, node: &Node) -> Devices {
        let mut wanted: Vec<(u16, u32)> = self.take.iter().map(|lot| (lot.free_millis, lot.count)).collect();
        let mut devices: Devices = 0;
        for (index, free) in node.free.gpus.iter().enumerate() {
            if let Some((_, count)) = wanted.iter_mut().find(|(millis, count)| millis == free && *count > 0) {
                *count -= 1;
                devices |= 1 << index;
            }
        }
        devices
    }
}
