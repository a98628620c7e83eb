//! What is said of jobs that wait.

use std::collections::BTreeMap;

use super::*;
use crate::ids::ExecutorId;
use crate::resources::{Capacity, GpuDevice};

fn node(name: &str, cpu_millis: u64, memory_bytes: u64, models: &[&str]) -> Node {
    let gpus = models
        .iter()
        .enumerate()
        .map(|(i, model)| GpuDevice { id: format!("{name}-{i}"), model: (*model).into(), emulated: true })
        .collect();
    Node {
        id: ExecutorId::trusted(name),
        takes_jobs: true,
        capacity: Capacity { cpu_millis, memory_bytes, gpus },
        reserved: Reserved::default(),
    }
}

fn cluster(nodes: Vec<Node>) -> BTreeMap<ExecutorId, Node> {
    nodes.into_iter().map(|node| (node.id.clone(), node)).collect()
}

#[test]
fn what_can_never_fit_is_told_with_names() {
    let nodes = cluster(vec![node("executor-1", 8_000, 800, &[])]);
    let demand = Demand { cpu_millis: 64_000, memory_bytes: 1, ..Demand::default() };
    let Obstacle::TooLarge(message) = explain(&demand, nodes.values()) else { panic!("must be too large") };
    assert_eq!(message, "Needs 64 CPUs; the largest executor, executor-1, has 8.");
}

#[test]
fn what_is_missing_is_counted_in_words() {
    let nodes = cluster(vec![node("executor-1", 500, 800, &["t4"])]);
    let told = |demand: Demand| {
        let Obstacle::TooLarge(message) = explain(&demand, nodes.values()) else {
            panic!("must be too large")
        };
        message
    };
    let cpus = |cpu_millis| told(Demand { cpu_millis, ..Demand::default() });
    assert_eq!(cpus(1_000), "Needs 1 CPU; the largest executor, executor-1, has 0.5.");
    assert_eq!(cpus(1_500), "Needs 1.5 CPUs; the largest executor, executor-1, has 0.5.");
    let gpus = |gpu_count, models: &[&str]| {
        let gpu_models = models.iter().map(|model| (*model).to_owned()).collect();
        told(Demand { gpu_count, gpu_models, ..Demand::default() })
    };
    assert_eq!(gpus(1, &["a100"]), "Needs 1 GPU of model a100; no executor has any.");
    assert_eq!(gpus(2, &[]), "Needs 2 GPUs; no executor has more than 1.");
}
