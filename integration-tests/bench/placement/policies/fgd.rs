//! Fragmentation gradient descent, as published: "Beware of Fragmentation: Scheduling GPU-Sharing Workloads
//! with Fragmentation Gradient Descent" (USENIX ATC 2023). A free part of a GPU is a fragment for a pod that
//! could not use it; what a node has of that is averaged over typical pods, and a pod goes where it adds
//! least to it, or takes most away. Memory is not looked at.

use std::collections::HashMap;

use super::best::Score;
use crate::cluster::{Devices, MAX_GPUS, Node, Room, Shape};
use crate::workload::Workload;

/// Typical are the most frequent pods that make up so much of the trace.
const TYPICAL_PCT: u64 = 95;
/// Scores are whole numbers up to this: many are equal, and then the lowest index wins.
const HIGHEST: f64 = 100.0;
/// Thousandths of a GPU in one.
const GPU: f64 = 1_000.0;

/// A typical pod, without its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Typical {
    cpu_millis: u64,
    gpu_millis: u16,
    gpus: u16,
    models: u32,
}

/// Free amounts of a node, on which its fragments depend.
type State = (u32, u64, [u16; MAX_GPUS]);

/// What the free parts of nodes are worth to typical pods.
#[derive(Debug)]
pub struct Fragmentation {
    /// Typical pods, and how many each stands for.
    typical: Vec<(Typical, u64)>,
    /// How many pods they stand for together.
    pods: u64,
    known: HashMap<State, u64>,
}

impl Fragmentation {
    /// Finds the typical pods of a trace.
    pub fn of(workload: &Workload) -> Self {
        let mut counts: HashMap<Typical, u64> = HashMap::new();
        for pod in &workload.pods {
            let Shape { cpu_millis, gpu_millis, gpus, models, .. } = workload.shapes[*pod];
            *counts.entry(Typical { cpu_millis, gpu_millis, gpus, models }).or_default() += 1;
        }
        let mut typical: Vec<(Typical, u64)> = counts.into_iter().collect();
        // Of equally frequent ones the larger is first.
        typical.sort_by_key(|(pod, count)| std::cmp::Reverse((*count, *pod)));
        let (wanted, mut pods) = (workload.pods.len() as u64 * TYPICAL_PCT, 0);
        typical.retain(|(_, count)| {
            let is_typical = pods * 100 < wanted;
            pods += if is_typical { *count } else { 0 };
            is_typical
        });
        Self { typical, pods, known: HashMap::new() }
    }

    /// The fragments of a node: over all typical pods, how many of them there are times the thousandths of a
    /// GPU that they could not use.
    pub fn fragments(&mut self, model: u32, free: &Room) -> u64 {
        let mut gpus = free.gpus;
        gpus.sort_unstable_by(|one, other| other.cmp(one));
        let state = (model, free.cpu_millis, gpus);
        if let Some(known) = self.known.get(&state) {
            return *known;
        }
        let all = free.gpu_millis();
        let each = self.typical.iter().map(|(pod, count)| count * pod.unusable(model, free, all));
        let fragments = each.sum();
        self.known.insert(state, fragments);
        fragments
    }

    /// How many fewer fragments the node has with the pod on these GPUs, as a whole score.
    fn gain(&mut self, shape: &Shape, node: &Node, devices: Devices) -> i64 {
        let before = self.fragments(node.model, &node.free) as f64;
        let after = self.fragments(node.model, &node.free.less(shape, devices)) as f64;
        let gpus = (before - after) / GPU / self.pods.max(1) as f64;
        (HIGHEST / (1.0 + (-gpus).exp())) as i64
    }

    /// The GPU with the best score for a part of one, the first of equal ones.
    fn best_part(&mut self, shape: &Shape, node: &Node) -> (i64, Devices) {
        let mut best = (i64::MIN, 0);
        for (index, free) in node.free.gpus.iter().enumerate() {
            // One that is as free as one before it has the same score.
            if *free < shape.gpu_millis || node.free.gpus[..index].contains(free) {
                continue;
            }
            let score = self.gain(shape, node, 1 << index);
            if score > best.0 {
                best = (score, 1 << index);
            }
        }
        best
    }
}

impl Typical {
    /// What it could not use of a node's free GPUs, in thousandths of one.
    fn unusable(&self, model: u32, free: &Room, all: u64) -> u64 {
        let is_usable = self.gpus > 0
            && self.models & model != 0
            && free.cpu_millis >= self.cpu_millis
            && free.gpus_with(self.gpu_millis) >= usize::from(self.gpus);
        if !is_usable {
            return all;
        }
        free.gpus.iter().filter(|free| **free < self.gpu_millis).copied().map(u64::from).sum()
    }
}

impl Score for Fragmentation {
    fn score(&mut self, shape: &Shape, node: &Node) -> i64 {
        if shape.is_shared() {
            self.best_part(shape, node).0
        } else {
            self.gain(shape, node, node.free.tightest(shape))
        }
    }

    fn devices(&mut self, shape: &Shape, node: &Node) -> Devices {
        if shape.is_shared() { self.best_part(shape, node).1 } else { node.free.tightest(shape) }
    }
}
