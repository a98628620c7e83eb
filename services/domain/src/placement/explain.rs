//! Why a job waits: what no executor has, or how many would have it, and what each of them is short of.

use super::types::Node;
use crate::constraint::show;
use crate::quantity;
use crate::resources::{Demand, Reserved};

/// Why a job is not placed, with what stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// No executor is registered.
    NoExecutors,
    /// No executor is large enough even when empty, or none of those whose labels will do.
    TooLarge(String),
    /// No executor has labels that will do.
    Unsuited(String),
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
    let nodes = nodes.filter(|node| demand.suits(&node.labels));
    let fitting = nodes.clone().filter(|node| demand.fits_empty(&node.capacity));
    let out_of_service = fitting.clone().filter(|node| !node.takes_jobs).count();
    match fitting.count() {
        0 if nodes.clone().next().is_none() => {
            Obstacle::Unsuited(format!("No executor meets {}.", show(&demand.constraints)))
        }
        0 => Obstacle::TooLarge(too_large(demand, nodes)),
        fitting => Obstacle::Busy { fitting, out_of_service },
    }
}

/// How an executor suits a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// There is room now, whoever that is for.
    pub now: bool,
    /// There would be room if it ran nothing.
    pub empty: bool,
    /// What is short, of all it has or else of what is free. Empty where there is room now.
    pub short: String,
}

/// Tells how an executor suits a job.
pub fn fit(demand: &Demand, node: &Node) -> Fit {
    let (now, empty) = (node.fits(demand), node.fits_empty(demand));
    let lacks = match (now, empty) {
        (true, _) => Vec::new(),
        (false, true) => lacks(demand, node, &node.reserved),
        (false, false) => lacks(demand, node, &Reserved::default()),
    };
    Fit { now, empty, short: sentence(&lacks.join("; ")) }
}

/// What an executor has too little of beside what is reserved.
fn lacks(demand: &Demand, node: &Node, reserved: &Reserved) -> Vec<String> {
    let is_empty = *reserved == Reserved::default();
    let told = |needs: String, free: String, all: String| {
        if is_empty {
            format!("needs {needs}, has {all}")
        } else {
            format!("needs {needs}, {free} of {all} free")
        }
    };
    let unmet = demand.constraints.iter().filter(|constraint| !constraint.is_met_by(&node.labels));
    let unmet = unmet.map(|constraint| match node.labels.get(constraint.key()) {
        Some(value) => format!("needs {constraint}, has {}={value}", constraint.key()),
        None => format!("needs {constraint}, has no label {}", constraint.key()),
    });
    let mut lacks: Vec<String> = unmet.collect();
    let (all, free) =
        (node.capacity.cpu_millis, node.capacity.cpu_millis.saturating_sub(reserved.cpu_millis));
    if free < demand.cpu_millis {
        let needs = quantity::count_of_cpus(demand.cpu_millis);
        lacks.push(told(needs, quantity::show_cpus(free), quantity::show_cpus(all)));
    }
    let all = node.capacity.memory_bytes;
    let free = all.saturating_sub(reserved.memory_bytes);
    if free < demand.memory_bytes {
        let needs = format!("{} of memory", quantity::show_memory(demand.memory_bytes));
        lacks.push(told(needs, quantity::show_memory(free), quantity::show_memory(all)));
    }
    let free = demand.usable_gpus(&node.capacity, reserved).count();
    if free < demand.gpu_count as usize {
        let all = demand.usable_gpus(&node.capacity, &Reserved::default()).count();
        lacks.push(told(gpus(demand), free.to_string(), all.to_string()));
    }
    lacks
}

/// Words the GPUs that a job asks for.
fn gpus(demand: &Demand) -> String {
    let count = quantity::count_of_gpus(demand.gpu_count);
    match demand.gpu_models.as_slice() {
        [] => count,
        models => format!("{count} of model {}", models.join(" or ")),
    }
}

/// Makes a sentence of words; none of none.
pub fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => String::new(),
    }
}

fn too_large<'a>(demand: &Demand, nodes: impl Iterator<Item = &'a Node> + Clone) -> String {
    let too_small = |amount: fn(&Node) -> u64, asked: u64| {
        let largest = nodes.clone().max_by_key(|node| (amount(node), std::cmp::Reverse(node.id.clone())));
        largest.filter(|node| amount(node) < asked)
    };
    let whose = match demand.constraints.as_slice() {
        [] => String::new(),
        constraints => format!(" that meets {}", show(constraints)),
    };
    let told = |needs: String, node: &Node, has: String| {
        format!("Needs {needs}; the largest executor{whose}, {}, has {has}.", node.id)
    };
    if let Some(node) = too_small(|n| n.capacity.cpu_millis, demand.cpu_millis) {
        let needs = quantity::count_of_cpus(demand.cpu_millis);
        return told(needs, node, quantity::show_cpus(node.capacity.cpu_millis));
    }
    if let Some(node) = too_small(|n| n.capacity.memory_bytes, demand.memory_bytes) {
        let needs = format!("{} of memory", quantity::show_memory(demand.memory_bytes));
        return told(needs, node, quantity::show_memory(node.capacity.memory_bytes));
    }
    let usable = |node: &Node| demand.usable_gpus(&node.capacity, &Reserved::default()).count();
    let most = nodes.clone().map(usable).max().unwrap_or(0);
    if most < demand.gpu_count as usize {
        let most = if most == 0 { "any".to_owned() } else { format!("more than {most}") };
        return format!("Needs {}; no executor{whose} has {most}.", gpus(demand));
    }
    format!("No executor{whose} has enough CPU, memory and GPUs together.")
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
