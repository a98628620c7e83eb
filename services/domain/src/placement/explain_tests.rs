//! What is said of jobs that wait.

use std::collections::BTreeMap;

use super::*;
use crate::constraint::Constraint;
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
        labels: BTreeMap::new(),
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

#[test]
fn an_executor_is_told_what_it_is_short_of() {
    let mut node = node("e", 8_000, 4 << 30, &["t4", "t4", "a100"]);
    let demand = |cpu_millis, memory_bytes, gpu_count, models: &[&str]| {
        let gpu_models = models.iter().map(|model| (*model).to_owned()).collect();
        Demand { cpu_millis, memory_bytes, gpu_count, gpu_models, ..Demand::default() }
    };
    let short = |demand: Demand, node: &Node| {
        let fit = fit(&demand, node);
        (fit.now, fit.empty, fit.short)
    };
    let told = |now, empty, short: &str| (now, empty, short.to_owned());
    assert_eq!(short(demand(8_000, 1, 3, &[]), &node), told(true, true, ""));
    let never =
        "Needs 16 CPUs, has 8; needs 5Gi of memory, has 4Gi; needs 2 GPUs of model a100 or h100, has 1.";
    assert_eq!(short(demand(16_000, 5 << 30, 2, &["a100", "h100"]), &node), told(false, false, never));
    node.reserved = Reserved { cpu_millis: 7_500, memory_bytes: 1 << 30, gpu_ids: ["e-0".to_owned()].into() };
    let busy = "Needs 1 CPU, 0.5 of 8 free; needs 2 GPUs of model t4, 1 of 2 free.";
    assert_eq!(short(demand(1_000, 3 << 30, 2, &["t4"]), &node), told(false, true, busy));
    let never = "Needs 9 CPUs, has 8.";
    assert_eq!(
        short(demand(9_000, 4 << 30, 1, &[]), &node),
        told(false, false, never),
        "what is busy is beside it"
    );
}

#[test]
fn labels_are_told_with_what_is_there_instead() {
    let mut a = node("a", 8_000, 1, &[]);
    a.labels.insert("zone".into(), "a".into());
    let b = node("b", 64_000, 1, &[]);
    let nodes = cluster(vec![a.clone(), b.clone()]);
    let demand = |cpu_millis, constraints: &[&str]| Demand {
        cpu_millis,
        constraints: constraints.iter().map(|text| Constraint::parse(text).expect("is valid")).collect(),
        ..Demand::default()
    };
    let unsuited = Obstacle::Unsuited("No executor meets rack in (1, 2) and zone=a.".into());
    assert_eq!(explain(&demand(1, &["rack in (1, 2)", "zone=a"]), nodes.values()), unsuited);
    let large = "Needs 16 CPUs; the largest executor that meets zone=a, a, has 8.";
    assert_eq!(explain(&demand(16_000, &["zone=a"]), nodes.values()), Obstacle::TooLarge(large.into()));
    let busy = Obstacle::Busy { fitting: 1, out_of_service: 0 };
    assert_eq!(explain(&demand(16_000, &["zone!=a"]), nodes.values()), busy);
    let told = |node: &Node| fit(&demand(16_000, &["zone=b"]), node).short;
    assert_eq!(told(&a), "Needs zone=b, has zone=a; needs 16 CPUs, has 8.");
    assert_eq!(told(&b), "Needs zone=b, has no label zone.");
    assert!(!fit(&demand(1, &["zone=b"]), &b).empty);
}
