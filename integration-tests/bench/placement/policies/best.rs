//! Policies that score each node on its own: the highest score wins, of equal ones the lowest index. Scores
//! are kept for each shape and computed anew only for nodes that changed.

use super::choice::{Ask, Policy};
use crate::cluster::{Cluster, Devices, Node, Shape};

/// Scores nodes.
pub trait Score {
    /// How good it is to have the pod on a node that it fits on.
    fn score(&mut self, shape: &Shape, node: &Node) -> i64;

    /// Chooses GPUs for a pod on a node that it fits on.
    fn devices(&mut self, shape: &Shape, node: &Node) -> Devices {
        node.free.tightest(shape)
    }
}

/// The node with the highest score.
#[derive(Debug)]
pub struct Best<S> {
    score: S,
    /// For each shape that was asked for, what is known of each node.
    known: Vec<Vec<Known>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// The node's version then; 0 before the first look.
    version: u32,
    /// None where the pod does not fit.
    score: Option<i64>,
}

impl<S> Best<S> {
    /// Nothing is known yet.
    pub fn new(score: S) -> Self {
        Self { score, known: Vec::new() }
    }
}

impl<S: Score> Policy for Best<S> {
    fn choose(&mut self, ask: Ask, cluster: &Cluster) -> Option<usize> {
        if self.known.len() <= ask.id {
            self.known.resize_with(ask.id + 1, Vec::new);
        }
        let known = &mut self.known[ask.id];
        known.resize(cluster.nodes.len(), Known { version: 0, score: None });
        let mut best: Option<(i64, usize)> = None;
        for (index, (node, known)) in cluster.nodes.iter().zip(known).enumerate() {
            if known.version != node.version {
                let score = node.fits(&ask.shape).then(|| self.score.score(&ask.shape, node));
                *known = Known { version: node.version, score };
            }
            if let Some(score) = known.score
                && best.is_none_or(|(highest, _)| score > highest)
            {
                best = Some((score, index));
            }
        }
        best.map(|(_, index)| index)
    }

    fn devices(&mut self, shape: &Shape, node: &Node) -> Devices {
        self.score.devices(shape, node)
    }
}
