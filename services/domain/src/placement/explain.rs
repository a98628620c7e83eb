//! Why a job waits: what no executor has, or how many would have it.

use super::types::Node;
use crate::quantity;
use crate::resources::{Demand, Reserved};

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
    let too_small = |amount: fn(&Node) -> u64, asked: u64| {
        let largest = nodes.clone().max_by_key(|node| (amount(node), std::cmp::Reverse(node.id.clone())));
        largest.filter(|node| amount(node) < asked)
    };
    let told = |needs: String, node: &Node, has: String| {
        format!("Needs {needs}; the largest executor, {}, has {has}.", node.id)
    };
    if let Some(node) = too_small(|n| n.capacity.cpu_millis, demand.cpu_millis) {
        let needs = quantity::count_of_cpus(demand.cpu_millis);
        return told(needs, node, quantity::show_cpus(node.capacity.cpu_millis));
    }
    if let Some(node) = too_small(|n| n.capacity.memory_bytes, demand.memory_bytes) {
        let needs = format!("{} of memory", quantity::show_memory(demand.memory_bytes));
        return told(needs, node, quantity::show_memory(node.capacity.memory_bytes));
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
#[path = "explain_tests.rs"]
mod tests;
