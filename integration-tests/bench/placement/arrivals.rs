//! Runs in which nothing departs: pods come until 130 % of the GPUs are asked for, one by one or as one
//! queue; what does not fit is dropped.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::cluster::{Cluster, Room, Shape};
use crate::policies::{Ask, Policy};
use crate::whole::Whole;
use crate::workload::{ARRIVING_PCT, Workload};

/// It is counted when so much of the GPUs has been asked for.
pub const MARKS_PCT: [u64; 2] = [100, ARRIVING_PCT];

/// What was placed of what came.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Placed {
    /// The GPUs given out, in percent of the cluster's.
    pub allocated_pct: f64,
    /// GPUs not given out.
    pub unallocated_gpus: f64,
    /// Of the pods with 8 GPUs, in percent; none where none came.
    pub eight_gpu_pct: Option<f64>,
    /// Of the pods without GPUs.
    pub cpu_only_pct: Option<f64>,
}

/// Counts pods of two classes, so that nobody wins by dropping one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Classes {
    eight_gpu: (u64, u64),
    cpu_only: (u64, u64),
}

impl Classes {
    /// Counts a pod, placed or not.
    pub fn count(&mut self, shape: &Shape, is_placed: bool) {
        let class = match shape.gpus {
            0 => &mut self.cpu_only,
            8 => &mut self.eight_gpu,
            _ => return,
        };
        class.0 += u64::from(is_placed);
        class.1 += 1;
    }

    /// Adds the amounts that are in use.
    pub fn with(self, allocated_gpu_millis: f64, cluster_gpu_millis: u64) -> Placed {
        let all = cluster_gpu_millis as f64;
        let share = |(placed, came): (u64, u64)| (came > 0).then(|| placed as f64 * 100.0 / came as f64);
        Placed {
            allocated_pct: allocated_gpu_millis * 100.0 / all,
            unallocated_gpus: (all - allocated_gpu_millis) / 1_000.0,
            eight_gpu_pct: share(self.eight_gpu),
            cpu_only_pct: share(self.cpu_only),
        }
    }
}

/// Places the pods one by one, and counts at each mark.
pub fn online(
    cluster: &mut Cluster,
    workload: &Workload,
    pods: &[usize],
    policy: &mut dyn Policy,
) -> Vec<(u64, Placed)> {
    let mut marks = Vec::new();
    let mut classes = Classes::default();
    let ends = MARKS_PCT.map(|mark| prefix(cluster, workload, pods, mark));
    for (position, id) in pods.iter().enumerate() {
        let is_placed = place(cluster, workload, *id, policy);
        classes.count(&workload.shapes[*id], is_placed);
        for (mark, end) in MARKS_PCT.iter().zip(ends) {
            if end == position + 1 {
                marks.push((*mark, counted(cluster, classes)));
            }
        }
    }
    marks
}

/// Hands over all pods up to a mark as one queue, for each mark on an empty cluster.
pub fn batch(
    cluster: &mut Cluster,
    workload: &Workload,
    pods: &[usize],
    mark: u64,
    policy: &mut dyn Policy,
) -> Placed {
    let queue = &pods[..prefix(cluster, workload, pods, mark)];
    let mut classes = Classes::default();
    for id in in_order(cluster, workload, queue) {
        let is_placed = place(cluster, workload, id, policy);
        classes.count(&workload.shapes[id], is_placed);
    }
    counted(cluster, classes)
}

/// The same with a placement that orders the queue itself.
pub fn whole_batch(
    mut whole: Whole<'_>,
    empty: &Cluster,
    workload: &Workload,
    pods: &[usize],
    mark: u64,
) -> Placed {
    let queue = &pods[..prefix(empty, workload, pods, mark)];
    for (pod, shape) in queue.iter().enumerate() {
        whole.wait(pod, *shape, pod as u64);
    }
    let placed: HashSet<usize> = whole.round(queue.len() as u64).into_iter().collect();
    let mut classes = Classes::default();
    for (pod, shape) in queue.iter().enumerate() {
        classes.count(&workload.shapes[*shape], placed.contains(&pod));
    }
    let allocated = placed.iter().map(|pod| workload.shapes[queue[*pod]].all_gpu_millis()).sum::<u64>();
    classes.with(allocated as f64, empty.gpu_millis())
}

/// So many pods until the mark is reached; all where it is not.
fn prefix(cluster: &Cluster, workload: &Workload, pods: &[usize], mark_pct: u64) -> usize {
    let wanted = cluster.gpu_millis() * mark_pct / 100;
    let mut asked = 0;
    let reaches = pods.iter().position(|id| {
        asked += workload.shapes[*id].all_gpu_millis();
        asked >= wanted
    });
    // The last mark is the end: deleting at random may stop a little short of it.
    if mark_pct == ARRIVING_PCT { pods.len() } else { reaches.map_or(pods.len(), |last| last + 1) }
}

/// The order that every policy is given a queue in: first the longest prefix whose sum the cluster has in
/// every resource, the hardest to place first; then the others as they came. To sort all of a queue that
/// cannot fit would drop whole classes of pods.
pub fn in_order(cluster: &Cluster, workload: &Workload, queue: &[usize]) -> Vec<usize> {
    let shape = |id: &usize| &workload.shapes[*id];
    let sum = |free: fn(&Room) -> u64| cluster.nodes.iter().map(|node| free(&node.free)).sum::<u64>();
    let (mut cpu, mut memory) = (sum(|free| free.cpu_millis), sum(|free| free.memory_mib));
    let mut gpus = sum(Room::gpu_millis);
    let admitted = queue.iter().map_while(|id| {
        cpu = cpu.checked_sub(shape(id).cpu_millis)?;
        memory = memory.checked_sub(shape(id).memory_mib)?;
        gpus = gpus.checked_sub(shape(id).all_gpu_millis())?;
        Some(())
    });
    let (admitted, rest) = queue.split_at(admitted.count());
    let eligible: Vec<u64> =
        workload.shapes.iter().map(|shape| eligible_gpu_millis(cluster, shape)).collect();
    let mut order = admitted.to_vec();
    order.sort_by_key(|id| {
        (eligible[*id], Reverse(shape(id).all_gpu_millis()), Reverse(shape(id).cpu_millis))
    });
    order.extend(rest);
    order
}

fn eligible_gpu_millis(cluster: &Cluster, shape: &Shape) -> u64 {
    let nodes = cluster.nodes.iter().filter(|node| node.may_run(shape));
    nodes.map(|node| node.capacity.gpu_millis()).sum()
}

/// Places a pod where the policy wants it; says whether it fitted anywhere.
pub fn place(cluster: &mut Cluster, workload: &Workload, id: usize, policy: &mut dyn Policy) -> bool {
    let shape = workload.shapes[id];
    let Some(node) = policy.choose(Ask { id, shape }, cluster) else { return false };
    let devices = policy.devices(&shape, &cluster.nodes[node]);
    cluster.place(node, &shape, devices);
    true
}

fn counted(cluster: &Cluster, classes: Classes) -> Placed {
    let all = cluster.gpu_millis();
    classes.with((all - cluster.free_gpu_millis()) as f64, all)
}
