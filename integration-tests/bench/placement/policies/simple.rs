//! The two ends of the scale: any node, and the first node.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;

use super::choice::{Ask, Policy};
use crate::cluster::{Cluster, Devices, Node, Shape};

/// Any node with room, and any GPU with room.
#[derive(Debug)]
pub struct AnyNode {
    rng: StdRng,
}

impl AnyNode {
    /// Draws from these numbers.
    pub fn new(rng: StdRng) -> Self {
        Self { rng }
    }
}

impl Policy for AnyNode {
    fn choose(&mut self, ask: Ask, cluster: &Cluster) -> Option<usize> {
        let fitting = fitting(&ask.shape, cluster);
        (!fitting.is_empty()).then(|| fitting[self.rng.random_range(0..fitting.len())])
    }

    fn devices(&mut self, shape: &Shape, node: &Node) -> Devices {
        if !shape.is_shared() {
            return node.free.tightest(shape);
        }
        let usable = node.free.gpus.iter().enumerate().filter(|(_, free)| **free >= shape.gpu_millis);
        usable.choose(&mut self.rng).map_or(0, |(index, _)| 1 << index)
    }
}

/// The first node with room.
#[derive(Debug)]
pub struct FirstNode;

impl Policy for FirstNode {
    fn choose(&mut self, ask: Ask, cluster: &Cluster) -> Option<usize> {
        cluster.nodes.iter().position(|node| node.fits(&ask.shape))
    }
}

/// The nodes that a pod fits on.
pub fn fitting(shape: &Shape, cluster: &Cluster) -> Vec<usize> {
    let nodes = cluster.nodes.iter().enumerate();
    nodes.filter(|(_, node)| node.fits(shape)).map(|(index, _)| index).collect()
}
