//! Best fit as Berth has it (`berth_domain::placement`): the node with the least left over, the shares of
//! CPU, memory and GPUs of the largest node summed up; GPUs of a part count as that part.

use super::best::Score;
use crate::cluster::{Cluster, Node, Shape};

/// The largest amounts in the cluster.
#[derive(Debug)]
pub struct LeastLeftOver {
    cpu_millis: u64,
    memory_mib: u64,
    gpu_millis: u64,
}

impl LeastLeftOver {
    /// Looks for the largest amounts.
    pub fn of(cluster: &Cluster) -> Self {
        let most = Self { cpu_millis: 1, memory_mib: 1, gpu_millis: 1 };
        cluster.nodes.iter().map(|node| node.capacity).fold(most, |most, capacity| Self {
            cpu_millis: most.cpu_millis.max(capacity.cpu_millis),
            memory_mib: most.memory_mib.max(capacity.memory_mib),
            gpu_millis: most.gpu_millis.max(capacity.gpu_millis()),
        })
    }
}

impl Score for LeastLeftOver {
    fn score(&mut self, shape: &Shape, node: &Node) -> i64 {
        let left = |free: u64, asked: u64, most: u64| {
            let billionths = u128::from(free - asked) * 1_000_000_000 / u128::from(most);
            i64::try_from(billionths).unwrap_or(i64::MAX / 4)
        };
        -left(node.free.cpu_millis, shape.cpu_millis, self.cpu_millis)
            - left(node.free.memory_mib, shape.memory_mib, self.memory_mib)
            - left(node.free.gpu_millis(), shape.all_gpu_millis(), self.gpu_millis)
    }
}
