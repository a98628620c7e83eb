//! What each policy chooses on clusters small enough to be reckoned by hand, and what holds for all.

use std::collections::BTreeSet;

use berth_domain::ids::{ExecutorId, JobId, Namespace};
use berth_domain::placement::{Board, Ends, Holding, Moment, Placement, Policy as DomainPolicy, Request};
use berth_domain::resources::{Capacity, Demand, GpuDevice};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::choice::{Ask, Kind, Policy};
use super::fgd::Fragmentation;
use super::nomad::bin_pack;
use crate::cluster::{ANY_MODEL, Cluster, MAX_GPUS, Node, Room, Shape, WHOLE};
use crate::workload::Workload;

fn room(cpu_millis: u64, gpus: &[u16]) -> Room {
    let mut all = [0; MAX_GPUS];
    all[..gpus.len()].copy_from_slice(gpus);
    Room { cpu_millis, memory_mib: cpu_millis, gpus: all }
}

fn node(cpu_millis: u64, gpus: usize) -> Node {
    Node::new(room(cpu_millis, &vec![WHOLE; gpus]), 1)
}

/// A node of which so much is still free.
fn used(cpu_millis: u64, free_cpu_millis: u64, free_gpus: &[u16]) -> Node {
    let mut node = node(cpu_millis, free_gpus.len());
    node.free = room(free_cpu_millis, free_gpus);
    node
}

fn pod(cpu_millis: u64, gpus: u16) -> Shape {
    let gpu_millis = if gpus == 0 { 0 } else { WHOLE };
    Shape { cpu_millis, memory_mib: cpu_millis, gpus, gpu_millis, models: ANY_MODEL }
}

fn part(cpu_millis: u64, gpu_millis: u16) -> Shape {
    Shape { gpu_millis, ..pod(cpu_millis, 1) }
}

fn workload(pods: &[(Shape, usize)]) -> Workload {
    let of = |(id, (_, count)): (usize, &(Shape, usize))| vec![id; *count];
    Workload {
        name: "small".to_owned(),
        shapes: pods.iter().map(|(shape, _)| *shape).collect(),
        pods: pods.iter().enumerate().flat_map(of).collect(),
    }
}

fn made(kind: Kind, nodes: &[Node], pods: &[(Shape, usize)]) -> (Cluster, Box<dyn Policy>) {
    let cluster = Cluster { nodes: nodes.to_vec() };
    let policy = kind.make(&cluster, &workload(pods), 7);
    (cluster, policy)
}

fn choice(kind: Kind, nodes: &[Node], shape: Shape) -> Option<usize> {
    let (cluster, mut policy) = made(kind, nodes, &[(pod(1_000, 8), 1), (pod(1_000, 1), 1)]);
    policy.choose(Ask { id: 0, shape }, &cluster)
}

#[test]
fn fragments_are_what_typical_pods_could_not_use() {
    let mut all = Fragmentation::of(&workload(&[(pod(4_000, 1), 3), (part(1_000, 500), 1)]));
    // The whole GPU is of use to both; the 300 thousandths are to none.
    assert_eq!(all.fragments(1, &room(8_000, &[1_000, 300])), 3 * 300 + 300);
    // Without CPU for the larger pod everything is a fragment for it.
    assert_eq!(all.fragments(1, &room(2_000, &[1_000, 300])), 3 * 1_300 + 300);
    // In whatever order.
    assert_eq!(all.fragments(1, &room(8_000, &[300, 1_000])), 3 * 300 + 300);
    assert_eq!(all.fragments(1, &room(8_000, &[600, 600])), 3 * 1_200);
    assert_eq!(all.fragments(1, &room(8_000, &[])), 0);
}

#[test]
fn everything_is_a_fragment_for_pods_of_other_models_and_without_gpus() {
    let other = Shape { models: 2, ..pod(1_000, 1) };
    let mut all = Fragmentation::of(&workload(&[(other, 2), (pod(1_000, 0), 5), (pod(1_000, 2), 1)]));
    assert_eq!(all.fragments(1, &room(8_000, &[1_000, 1_000])), 2 * 2_000 + 5 * 2_000);
    assert_eq!(all.fragments(2, &room(8_000, &[1_000, 1_000])), 5 * 2_000);
    assert_eq!(all.fragments(2, &room(8_000, &[1_000, 0])), 5 * 1_000 + 1_000);
}

#[test]
fn typical_are_the_most_frequent_that_make_up_95_percent() {
    let mut all = Fragmentation::of(&workload(&[(pod(1_000, 2), 4), (pod(1_000, 1), 96)]));
    assert_eq!(all.fragments(1, &room(8_000, &[1_000])), 0, "the pod with two GPUs does not count");
    let mut all = Fragmentation::of(&workload(&[(pod(1_000, 2), 6), (pod(1_000, 1), 94)]));
    assert_eq!(all.fragments(1, &room(8_000, &[1_000])), 6 * 1_000);
}

#[test]
fn fgd_keeps_a_whole_node_for_large_pods() {
    let nodes = [node(64_000, 8), node(64_000, 2)];
    assert_eq!(choice(Kind::Fgd, &nodes, pod(1_000, 1)), Some(1));
    assert_eq!(choice(Kind::FirstFit, &nodes, pod(1_000, 1)), Some(0));
}

#[test]
fn fgd_fills_a_gpu_in_use_and_breaks_ties_by_index() {
    let pods = [(part(1_000, 500), 1), (pod(1_000, 1), 1)];
    let in_use = used(8_000, 8_000, &[1_000, 500]);
    let (cluster, mut policy) = made(Kind::Fgd, &[node(8_000, 2), in_use.clone(), in_use.clone()], &pods);
    let shape = part(1_000, 500);
    assert_eq!(policy.choose(Ask { id: 0, shape }, &cluster), Some(1));
    assert_eq!(policy.devices(&shape, &in_use), 0b10);
}

#[test]
fn first_fit_takes_the_first_with_room() {
    let nodes = [node(8_000, 1), used(8_000, 8_000, &[500]), node(8_000, 2), node(8_000, 2)];
    assert_eq!(choice(Kind::FirstFit, &nodes, pod(1_000, 2)), Some(2));
    assert_eq!(choice(Kind::FirstFit, &nodes[1..], pod(1_000, 1)), Some(1));
    assert_eq!(choice(Kind::FirstFit, &nodes, pod(9_000, 0)), None);
}

#[test]
fn best_fit_leaves_the_least_over() {
    let nodes = [node(64_000, 8), node(32_000, 2), node(16_000, 2)];
    assert_eq!(choice(Kind::BestFit, &nodes, pod(8_000, 1)), Some(2));
    assert_eq!(choice(Kind::BestFit, &nodes, pod(20_000, 1)), Some(1));
}

#[test]
fn nomad_prefers_the_fuller_of_two() {
    assert!((bin_pack(&pod(8_000, 0), &node(8_000, 0)) - 18.0).abs() < 1e-9);
    assert!(bin_pack(&pod(1, 0), &node(1_000_000, 0)) < 0.01);
    let nodes = [node(8_000, 1), used(8_000, 4_000, &[1_000])];
    assert_eq!(choice(Kind::Nomad2, &nodes, pod(1_000, 1)), Some(1));
    assert_eq!(choice(Kind::Nomad2, &nodes[..1], pod(1_000, 1)), Some(0));
}

#[test]
fn most_allocated_counts_gpus_only_for_pods_with_gpus() {
    let busy_gpus = used(8_000, 8_000, &[1_000, 0, 0, 0]);
    let busy_cpu = used(8_000, 4_000, &[1_000, 1_000, 1_000, 1_000]);
    let nodes = [node(8_000, 4), busy_gpus, busy_cpu];
    assert_eq!(choice(Kind::MostAllocated, &nodes, pod(1_000, 0)), Some(2));
    assert_eq!(choice(Kind::MostAllocated, &nodes, pod(1_000, 1)), Some(2), "62 + 62 + 25 of 300");
    let (_, gpus) = nodes.split_at(1);
    assert_eq!(choice(Kind::MostAllocated, &gpus[..1], pod(1_000, 1)), Some(0));
}

#[test]
fn dot_product_takes_what_is_least_like_the_pod() {
    let much_cpu = used(128_000, 120_000, &[1_000]);
    let many_gpus = used(128_000, 20_000, &[1_000; 8]);
    // 0.94 x 0.31 + 0.125 x 0.125 against 0.16 x 0.31 + 1 x 0.125.
    assert_eq!(choice(Kind::DotProduct, &[much_cpu.clone(), many_gpus.clone()], pod(40_000, 1)), Some(0));
    let nodes = [much_cpu, many_gpus];
    assert_eq!(choice(Kind::DotProduct, &nodes, pod(10_000, 1)), Some(0));
    assert_eq!(choice(Kind::DotProduct, &nodes, pod(10_000, 0)), Some(1));
}

#[test]
fn gpu_packing_goes_from_shared_gpus_to_nodes_in_use_to_free_nodes() {
    let nodes =
        [node(8_000, 8), node(8_000, 2), used(8_000, 8_000, &[1_000, 0]), used(8_000, 8_000, &[600, 500])];
    assert_eq!(choice(Kind::GpuPacking, &nodes, part(1_000, 400)), Some(3));
    assert_eq!(choice(Kind::GpuPacking, &nodes, part(1_000, 700)), Some(2));
    assert_eq!(choice(Kind::GpuPacking, &nodes, pod(1_000, 1)), Some(2));
    assert_eq!(choice(Kind::GpuPacking, &nodes, pod(1_000, 2)), Some(1));
    assert_eq!(nodes[3].free.tightest(&part(1_000, 400)), 0b10);
}

#[test]
fn random_takes_every_node_with_room_and_no_other() {
    let nodes = [node(8_000, 1), used(8_000, 0, &[1_000]), node(8_000, 1)];
    let (cluster, mut policy) = made(Kind::Random, &nodes, &[(pod(1_000, 1), 1)]);
    let ask = Ask { id: 0, shape: pod(1_000, 1) };
    let chosen: BTreeSet<usize> = (0..100).filter_map(|_| policy.choose(ask, &cluster)).collect();
    assert_eq!(chosen, BTreeSet::from([0, 2]));
}

fn drawn_node(rng: &mut StdRng) -> Node {
    let gpus = rng.random_range(0..=8);
    let mut node = node(rng.random_range(1..=64) * 1_000, gpus);
    node.model = if gpus == 0 { 0 } else { 1 << rng.random_range(0..3) };
    node
}

fn drawn_shape(rng: &mut StdRng, with_parts: bool) -> Shape {
    let gpus = *[0, 1, 1, 2, 4, 8].choose(rng).expect("there are some");
    let cpu_millis = rng.random_range(1..=20) * 500;
    let shape = if gpus == 1 && with_parts && rng.random_bool(0.5) {
        part(cpu_millis, rng.random_range(1..10) * 100)
    } else {
        pod(cpu_millis, gpus)
    };
    let models = if gpus > 0 && rng.random_bool(0.3) { rng.random_range(1..8) } else { ANY_MODEL };
    Shape { models, ..shape }
}

#[test]
fn no_policy_gives_out_too_much_or_drops_what_fits() {
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes: Vec<Node> = (0..rng.random_range(1..8)).map(|_| drawn_node(&mut rng)).collect();
        let pods: Vec<(Shape, usize)> = (0..12).map(|_| (drawn_shape(&mut rng, true), 1)).collect();
        for kind in Kind::ALL {
            let (mut cluster, mut policy) = made(kind, &nodes, &pods);
            let mut placed = Vec::new();
            for _ in 0..200 {
                let id = rng.random_range(0..pods.len());
                let shape = pods[id].0;
                let fits = cluster.nodes.iter().any(|node| node.fits(&shape));
                let chosen = policy.choose(Ask { id, shape }, &cluster);
                assert_eq!(chosen.is_some(), fits, "{kind:?}, seed {seed}");
                if let Some(index) = chosen {
                    assert!(cluster.nodes[index].fits(&shape), "{kind:?}, seed {seed}");
                    let devices = policy.devices(&shape, &cluster.nodes[index]);
                    assert_eq!(devices.count_ones(), u32::from(shape.gpus), "{kind:?}, seed {seed}");
                    cluster.place(index, &shape, devices);
                    placed.push((index, shape, devices));
                }
                assert!(cluster.is_sound(), "{kind:?}, seed {seed}");
                if rng.random_bool(0.3) && !placed.is_empty() {
                    let (index, shape, devices) = placed.swap_remove(rng.random_range(0..placed.len()));
                    cluster.remove(index, &shape, devices);
                }
            }
            for (index, shape, devices) in placed {
                cluster.remove(index, &shape, devices);
            }
            assert!(cluster.nodes.iter().all(|node| node.free == node.capacity), "{kind:?}, seed {seed}");
        }
    }
}

/// The same cluster as Berth sees it.
fn board(cluster: &Cluster) -> Board {
    let mut board = Board::new(Placement { policy: DomainPolicy::BestFit, ..Placement::default() });
    for (index, node) in cluster.nodes.iter().enumerate() {
        let gpus = node.capacity.gpus.iter().filter(|gpu| **gpu > 0).count();
        let device = |gpu| GpuDevice {
            id: format!("gpu-{gpu:02}"),
            model: format!("model-{}", node.model),
            emulated: false,
        };
        let capacity = Capacity {
            cpu_millis: node.capacity.cpu_millis,
            memory_bytes: node.capacity.memory_mib << 20,
            gpus: (0..gpus).map(device).collect(),
        };
        board.put_executor(&executor(index), &capacity, &std::collections::BTreeMap::new(), true);
    }
    board
}

fn executor(index: usize) -> ExecutorId {
    ExecutorId::trusted(format!("node-{index:03}"))
}

fn as_request(shape: &Shape) -> Request {
    let models = (0..3).filter(|bit| shape.models != ANY_MODEL && shape.models >> bit & 1 == 1);
    Request {
        job: JobId::trusted("job"),
        demand: Demand {
            cpu_millis: shape.cpu_millis,
            memory_bytes: shape.memory_mib << 20,
            gpu_count: u32::from(shape.gpus),
            gpu_models: models.map(|bit| format!("model-{}", 1 << bit)).collect(),
            constraints: Vec::new(),
        },
        avoid: None,
        priority: 50,
        namespace: Namespace::trusted("default"),
        create_time_ms: 1_000_000,
        ready_time_ms: 1_000_000,
        run_timeout_ms: None,
        may_repeat: true,
        image_hash: 0,
    }
}

#[test]
fn best_fit_is_what_berth_does() {
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes: Vec<Node> = (0..6).map(|_| drawn_node(&mut rng)).collect();
        let pods: Vec<(Shape, usize)> = (0..10).map(|_| (drawn_shape(&mut rng, false), 1)).collect();
        let (mut cluster, mut policy) = made(Kind::BestFit, &nodes, &pods);
        let mut board = board(&cluster);
        for step in 0..60 {
            let id = rng.random_range(0..pods.len());
            let shape = pods[id].0;
            let here = policy.choose(Ask { id, shape }, &cluster);
            let request = as_request(&shape);
            board.push(request.clone());
            let moment =
                Moment { now_ms: 1_000_000, limit: usize::MAX, window: usize::MAX, with_unrepeatable: true };
            let placed = board.plan(&moment).placed.pop();
            board.withdraw(&request);
            let there = placed.as_ref().map(|(_, choice)| choice.executor.clone());
            assert_eq!(here.map(executor), there, "seed {seed}");
            if let (Some(index), Some((_, choice))) = (here, placed) {
                let devices = policy.devices(&shape, &cluster.nodes[index]);
                cluster.place(index, &shape, devices);
                board.hold(&Holding {
                    job: JobId::trusted(format!("job-{step}")),
                    executor: choice.executor,
                    demand: request.demand,
                    gpu_device_ids: choice.gpu_device_ids,
                    namespace: request.namespace,
                    ends: Ends::Unknown,
                });
            }
        }
    }
}
