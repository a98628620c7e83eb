//! What a policy is: it chooses a node for a pod, and GPUs on the node. It sees the cluster as it is, and
//! nothing of what comes.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::best::Best;
use super::best_fit::LeastLeftOver;
use super::engine::Engine;
use super::fgd::Fragmentation;
use super::kubernetes::MostAllocated;
use super::nomad::TwoCandidates;
use super::packing::{DotProduct, GpuPacking};
use super::simple::{AnyNode, FirstNode};
use crate::cluster::{Cluster, Devices, Node, Shape};
use crate::workload::Workload;

/// A pod that wants a place.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// The position of its shape among those of the workload.
    pub id: usize,
    /// What it asks for.
    pub shape: Shape,
}

/// Chooses.
pub trait Policy {
    /// Chooses a node that the pod fits on; none only where it fits on none.
    fn choose(&mut self, ask: Ask, cluster: &Cluster) -> Option<usize>;

    /// Chooses GPUs for a pod on a node that it fits on.
    fn devices(&mut self, shape: &Shape, node: &Node) -> Devices {
        node.free.tightest(shape)
    }
}

/// The policies there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any node with room.
    Random,
    /// The first node with room.
    FirstFit,
    /// The node with the least left over, as Berth's `best-fit`.
    BestFit,
    /// The better of two drawn nodes, by Nomad's bin-packing score.
    Nomad2,
    /// Kubernetes' `MostAllocated`, with GPUs.
    MostAllocated,
    /// The node whose free amounts are least like the pod's.
    DotProduct,
    /// GPUs in use before free ones, nodes in use before free ones.
    GpuPacking,
    /// Fragmentation gradient descent.
    Fgd,
    /// Berth's own, told what will come as `Fgd` is.
    Ours,
    /// The same, told nothing.
    OursUntold,
}

impl Kind {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 10] = [
        Self::Random,
        Self::FirstFit,
        Self::BestFit,
        Self::Nomad2,
        Self::MostAllocated,
        Self::DotProduct,
        Self::GpuPacking,
        Self::Fgd,
        Self::Ours,
        Self::OursUntold,
    ];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::FirstFit => "first-fit",
            Self::BestFit => "best-fit",
            Self::Nomad2 => "nomad2",
            Self::MostAllocated => "most-allocated",
            Self::DotProduct => "dot-product",
            Self::GpuPacking => "gpu-packing",
            Self::Fgd => "fgd",
            Self::Ours => "ours",
            Self::OursUntold => "ours-untold",
        }
    }

    /// For a policy with a queue of its own: whether it is told what will come.
    pub fn own_queue(self) -> Option<bool> {
        match self {
            Self::Ours => Some(true),
            Self::OursUntold => Some(false),
            Self::Random
            | Self::FirstFit
            | Self::BestFit
            | Self::Nomad2
            | Self::MostAllocated
            | Self::DotProduct
            | Self::GpuPacking
            | Self::Fgd => None,
        }
    }

    /// The policy of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Makes one for a run on this cluster, while it is empty.
    pub fn make(self, cluster: &Cluster, workload: &Workload, seed: u64) -> Box<dyn Policy> {
        // Other numbers than those that the arrivals are drawn from.
        let rng = StdRng::seed_from_u64(!seed);
        match self {
            Self::Random => Box::new(AnyNode::new(rng)),
            Self::FirstFit => Box::new(FirstNode),
            Self::BestFit => Box::new(Best::new(LeastLeftOver::of(cluster))),
            Self::Nomad2 => Box::new(TwoCandidates::new(rng)),
            Self::MostAllocated => Box::new(Best::new(MostAllocated)),
            Self::DotProduct => Box::new(Best::new(DotProduct)),
            Self::GpuPacking => Box::new(Best::new(GpuPacking)),
            Self::Fgd => Box::new(Best::new(Fragmentation::of(workload))),
            Self::Ours => Box::new(Engine::of(cluster).told(workload)),
            Self::OursUntold => Box::new(Engine::of(cluster)),
        }
    }
}
