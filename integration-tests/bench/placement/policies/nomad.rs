//! Nomad's way with batch jobs: of two drawn nodes with room the one that its bin-packing score prefers
//! (`ScoreFitBinPack` of nomad/structs/funcs.go, after Google's "best fit v3"). GPUs are not in the score.

use rand::rngs::StdRng;
use rand::seq::index::sample;

use super::choice::{Ask, Policy};
use super::simple::fitting;
use crate::cluster::{Cluster, Node, Shape};

const CANDIDATES: usize = 2;

/// The better of two.
#[derive(Debug)]
pub struct TwoCandidates {
    rng: StdRng,
}

impl TwoCandidates {
    /// Draws from these numbers.
    pub fn new(rng: StdRng) -> Self {
        Self { rng }
    }
}

impl Policy for TwoCandidates {
    fn choose(&mut self, ask: Ask, cluster: &Cluster) -> Option<usize> {
        let fitting = fitting(&ask.shape, cluster);
        let drawn = sample(&mut self.rng, fitting.len(), CANDIDATES.min(fitting.len()));
        let drawn = drawn.iter().map(|position| fitting[position]);
        drawn.reduce(|best, other| {
            let score = |index: usize| bin_pack(&ask.shape, &cluster.nodes[index]);
            if score(other) > score(best) { other } else { best }
        })
    }
}

/// 18 for a node that the pod fills to the last, 0 for an empty one.
pub fn bin_pack(shape: &Shape, node: &Node) -> f64 {
    let free = |free: u64, asked: u64, capacity: u64| (free - asked) as f64 / capacity.max(1) as f64;
    let cpu = free(node.free.cpu_millis, shape.cpu_millis, node.capacity.cpu_millis);
    let memory = free(node.free.memory_mib, shape.memory_mib, node.capacity.memory_mib);
    (20.0 - 10_f64.powf(cpu) - 10_f64.powf(memory)).clamp(0.0, 18.0)
}
