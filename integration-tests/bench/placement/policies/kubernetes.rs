//! Kubernetes' `NodeResourcesFit` with the strategy `MostAllocated`, CPU, memory and GPUs of equal weight:
//! whole percents, and GPUs count only for pods that ask for them.

use super::best::Score;
use crate::cluster::{Node, Shape};

/// The node that is fullest with the pod.
#[derive(Debug)]
pub struct MostAllocated;

impl Score for MostAllocated {
    fn score(&mut self, shape: &Shape, node: &Node) -> i64 {
        let percent = |capacity: u64, free: u64, asked: u64| {
            let taken = (capacity - free + asked) * 100 / capacity.max(1);
            i64::try_from(taken).unwrap_or(100)
        };
        let (capacity, free) = (&node.capacity, &node.free);
        let cpu = percent(capacity.cpu_millis, free.cpu_millis, shape.cpu_millis);
        let memory = percent(capacity.memory_mib, free.memory_mib, shape.memory_mib);
        if shape.gpus == 0 {
            return (cpu + memory) / 2;
        }
        let gpus = percent(capacity.gpu_millis(), free.gpu_millis(), shape.all_gpu_millis());
        (cpu + memory + gpus) / 3
    }
}
