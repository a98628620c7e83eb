//! Best fit: each job goes to the executor that it leaves least room on. Ties go to the lowest id,
//! so that the same queue on the same cluster always gives the same plan.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ExecutorId, JobId};
use crate::quantity;
use crate::resources::{Capacity, Demand, Reserved};

/// What placement needs to know of an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The executor.
    pub id: ExecutorId,
    /// False for one that must not get new jobs; it still counts as large enough for a job.
    pub takes_jobs: bool,
    /// What it has in all.
    pub capacity: Capacity,
    /// What is reserved on it.
    pub reserved: Reserved,
}

/// What placement needs to know of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The job.
    pub job: JobId,
    /// What it asks for.
    pub demand: Demand,
    /// An executor to be used only if no other will do.
    pub avoid: Option<ExecutorId>,
}

/// Where a job goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The executor.
    pub executor: ExecutorId,
    /// The devices, as many as the job asked for.
    pub gpu_device_ids: Vec<String>,
}

/// Places jobs in the given order, each beside those placed before it; reserves on `nodes` as it
/// goes. Jobs that fit nowhere now are left out.
pub fn plan(requests: &[Request], nodes: &mut BTreeMap<ExecutorId, Node>) -> Vec<(JobId, Choice)> {
    let scale = Scale::of(nodes.values());
    // Within one pass room only shrinks: a shape that found no place will find none later.
    let mut hopeless: BTreeSet<&Demand> = BTreeSet::new();
    let mut placed = Vec::new();
    for request in requests {
        if hopeless.contains(&request.demand) {
            continue;
        }
        let Some(choice) = best_fit(&request.demand, request.avoid.as_ref(), nodes.values(), scale) else {
            hopeless.insert(&request.demand);
            continue;
        };
        if let Some(node) = nodes.get_mut(&choice.executor) {
            node.reserved.add(&request.demand, &choice.gpu_device_ids);
        }
        placed.push((request.job.clone(), choice));
    }
    placed
}

/// The largest amounts in the cluster, by which leftovers of different kinds are made comparable.
#[derive(Debug, Clone, Copy)]
struct Scale {
    cpu_millis: u64,
    memory_bytes: u64,
    gpus: u64,
}

impl Scale {
    fn of<'a>(nodes: impl Iterator<Item = &'a Node>) -> Self {
        let none = Self { cpu_millis: 1, memory_bytes: 1, gpus: 1 };
        nodes.fold(none, |scale, node| Self {
            cpu_millis: scale.cpu_millis.max(node.capacity.cpu_millis),
            memory_bytes: scale.memory_bytes.max(node.capacity.memory_bytes),
            gpus: scale.gpus.max(node.capacity.gpus.len() as u64),
        })
    }

    /// Sums the shares of CPU, memory and GPUs that stay free, in billionths of the largest
    /// executor: integers, so that equal leftovers are equal on every machine.
    fn leftover(self, node: &Node, demand: &Demand) -> u128 {
        let share = |free: u64, most: u64| u128::from(free) * 1_000_000_000 / u128::from(most);
        let free = |capacity: u64, reserved: u64, asked: u64| {
            capacity.saturating_sub(reserved).saturating_sub(asked)
        };
        let cpu = free(node.capacity.cpu_millis, node.reserved.cpu_millis, demand.cpu_millis);
        let memory = free(node.capacity.memory_bytes, node.reserved.memory_bytes, demand.memory_bytes);
        let gpus = free(
            node.capacity.gpus.len() as u64,
            node.reserved.gpu_ids.len() as u64,
            u64::from(demand.gpu_count),
        );
        share(cpu, self.cpu_millis) + share(memory, self.memory_bytes) + share(gpus, self.gpus)
    }
}

fn best_fit<'a>(
    demand: &Demand,
    avoid: Option<&ExecutorId>,
    nodes: impl Iterator<Item = &'a Node>,
    scale: Scale,
) -> Option<Choice> {
    let candidates = nodes.filter(|node| node.takes_jobs && demand.fits(&node.capacity, &node.reserved));
    let best = candidates
        .min_by_key(|node| (avoid == Some(&node.id), scale.leftover(node, demand), node.id.clone()))?;
    Some(Choice { executor: best.id.clone(), gpu_device_ids: choose_gpus(demand, best) })
}

/// Chooses devices of one model where one has enough, the model with the fewest free; else of
/// several. Lowest ids first.
fn choose_gpus(demand: &Demand, node: &Node) -> Vec<String> {
    let mut by_model: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for gpu in demand.usable_gpus(&node.capacity, &node.reserved) {
        by_model.entry(&gpu.model).or_default().push(&gpu.id);
    }
    let wanted = demand.gpu_count as usize;
    let mut models: Vec<Vec<&str>> = by_model.into_values().collect();
    models.sort_by_key(|ids| (ids.len() < wanted, ids.len()));
    let mut chosen: Vec<String> = models.into_iter().flatten().take(wanted).map(str::to_owned).collect();
    chosen.sort();
    chosen
}

/// Why a job is not placed, with what stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// No executor is registered.
    NoExecutors,
    /// No executor is large enough even when empty.
    TooLarge(String),
    /// Some are large enough, none has room now.
    Busy {
        /// How many are large enough.
        fitting: usize,
        /// How many of these must not get new jobs.
        out_of_service: usize,
    },
}

/// Explains why a job with this demand is not placed now.
pub fn explain<'a>(demand: &Demand, nodes: impl Iterator<Item = &'a Node> + Clone) -> Obstacle {
    if nodes.clone().next().is_none() {
        return Obstacle::NoExecutors;
    }
    let fitting = nodes.clone().filter(|node| demand.fits_empty(&node.capacity));
    let out_of_service = fitting.clone().filter(|node| !node.takes_jobs).count();
    match fitting.count() {
        0 => Obstacle::TooLarge(too_large(demand, nodes)),
        fitting => Obstacle::Busy { fitting, out_of_service },
    }
}

fn too_large<'a>(demand: &Demand, nodes: impl Iterator<Item = &'a Node> + Clone) -> String {
    let largest = |amount: fn(&Node) -> u64| {
        nodes.clone().max_by_key(|node| (amount(node), std::cmp::Reverse(node.id.clone())))
    };
    if let Some(node) =
        largest(|n| n.capacity.cpu_millis).filter(|n| n.capacity.cpu_millis < demand.cpu_millis)
    {
        return format!(
            "Needs {}; the largest executor, {}, has {}.",
            quantity::count_of_cpus(demand.cpu_millis),
            node.id,
            quantity::show_cpus(node.capacity.cpu_millis)
        );
    }
    if let Some(node) =
        largest(|n| n.capacity.memory_bytes).filter(|n| n.capacity.memory_bytes < demand.memory_bytes)
    {
        return format!(
            "Needs {} of memory; the largest executor, {}, has {}.",
            quantity::show_memory(demand.memory_bytes),
            node.id,
            quantity::show_memory(node.capacity.memory_bytes)
        );
    }
    let models = if demand.gpu_models.is_empty() {
        String::new()
    } else {
        format!(" of model {}", demand.gpu_models.join(" or "))
    };
    let usable = |node: &Node| demand.usable_gpus(&node.capacity, &Reserved::default()).count();
    let most = nodes.clone().map(usable).max().unwrap_or(0);
    if most < demand.gpu_count as usize {
        let needed = quantity::count_of_gpus(demand.gpu_count);
        let most = if most == 0 { "any".to_owned() } else { format!("more than {most}") };
        return format!("Needs {needed}{models}; no executor has {most}.");
    }
    "No executor has enough CPU, memory and GPUs together.".to_owned()
}

#[cfg(test)]
#[path = "best_fit_tests.rs"]
mod tests;
