//! Promises of placement, as properties over random clusters and queues.

use proptest::prelude::*;

use super::*;
use crate::resources::GpuDevice;

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

fn request(job: &str, cpu_millis: u64, memory_bytes: u64, gpu_count: u32) -> Request {
    let demand = Demand { cpu_millis, memory_bytes, gpu_count, gpu_models: vec![] };
    Request { job: JobId::trusted(job), demand, avoid: None }
}

#[test]
fn the_tighter_executor_is_chosen() {
    let mut nodes = cluster(vec![node("a-large", 8_000, 800, &[]), node("b-small", 2_000, 200, &[])]);
    let placed = plan(&[request("j", 1_000, 100, 0)], &mut nodes);
    assert_eq!(placed[0].1.executor.as_str(), "b-small");
}

#[test]
fn ties_go_to_the_lowest_id() {
    let mut nodes = cluster(vec![node("b", 2_000, 200, &[]), node("a", 2_000, 200, &[])]);
    assert_eq!(plan(&[request("j", 1_000, 100, 0)], &mut nodes)[0].1.executor.as_str(), "a");
}

#[test]
fn a_job_without_gpus_leaves_gpu_executors_free() {
    let mut nodes = cluster(vec![node("a-gpu", 2_000, 200, &["a100", "a100"]), node("b", 2_000, 200, &[])]);
    assert_eq!(plan(&[request("j", 1_000, 100, 0)], &mut nodes)[0].1.executor.as_str(), "b");
}

#[test]
fn an_avoided_executor_is_used_only_if_no_other_will_do() {
    let avoiding = Request { avoid: Some(ExecutorId::trusted("b")), ..request("j", 1_000, 100, 0) };
    let mut nodes = cluster(vec![node("a", 8_000, 800, &[]), node("b", 2_000, 200, &[])]);
    assert_eq!(plan(std::slice::from_ref(&avoiding), &mut nodes)[0].1.executor.as_str(), "a");
    let mut alone = cluster(vec![node("b", 2_000, 200, &[])]);
    assert_eq!(plan(&[avoiding], &mut alone)[0].1.executor.as_str(), "b");
}

#[test]
fn gpus_come_from_one_model_where_one_has_enough() {
    let mut nodes = cluster(vec![node("a", 8_000, 800, &["t4", "a100", "a100"])]);
    let placed = plan(&[request("two", 1, 1, 2), request("one", 1, 1, 1)], &mut nodes);
    assert_eq!(placed[0].1.gpu_device_ids, ["a-1", "a-2"]);
    assert_eq!(placed[1].1.gpu_device_ids, ["a-0"]);
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

fn nodes_strategy() -> impl Strategy<Value = Vec<Node>> {
    let models = prop::collection::vec(prop::sample::select(vec!["a100", "t4", "h100"]), 0..5);
    prop::collection::vec((1_u64..17, 1_u64..65, models, any::<bool>()), 1..12).prop_map(|shapes| {
        let made = shapes.into_iter().enumerate().map(|(i, (cpus, memory, models, takes_jobs))| Node {
            takes_jobs,
            ..node(&format!("e{i:02}"), cpus * 1_000, memory << 30, &models)
        });
        made.collect()
    })
}

fn requests_strategy() -> impl Strategy<Value = Vec<Request>> {
    let models = prop::collection::btree_set(prop::sample::select(vec!["a100", "t4", "h100"]), 0..3);
    prop::collection::vec((100_u64..9_000, 1_u64..40, 0_u32..4, models), 1..80).prop_map(|shapes| {
        let made = shapes.into_iter().enumerate().map(|(i, (cpu_millis, memory, gpu_count, models))| {
            let gpu_models = models.into_iter().map(str::to_owned).collect();
            let demand = Demand { cpu_millis, memory_bytes: memory << 30, gpu_count, gpu_models };
            Request { job: JobId::trusted(format!("j{i:03}")), demand, avoid: None }
        });
        made.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_plan_never_oversubscribes_and_places_what_fits(
        nodes in nodes_strategy(),
        requests in requests_strategy(),
    ) {
        let before = cluster(nodes);
        let mut after = before.clone();
        let placed = plan(&requests, &mut after);
        let demands: BTreeMap<_, _> = requests.iter().map(|r| (r.job.clone(), &r.demand)).collect();

        let mut devices = BTreeSet::new();
        let mut reserved: BTreeMap<ExecutorId, Reserved> = BTreeMap::new();
        for (job, choice) in &placed {
            let node = &before[&choice.executor];
            prop_assert!(node.takes_jobs, "an executor that takes no jobs gets none");
            prop_assert_eq!(choice.gpu_device_ids.len(), demands[job].gpu_count as usize);
            for id in &choice.gpu_device_ids {
                prop_assert!(devices.insert(id.clone()), "a device is given once");
                let gpu = node.capacity.gpus.iter().find(|gpu| gpu.id == *id);
                prop_assert!(gpu.is_some_and(|gpu| demands[job].accepts_model(&gpu.model)));
            }
            reserved.entry(choice.executor.clone()).or_default().add(demands[job], &choice.gpu_device_ids);
        }
        for (id, reserved) in reserved {
            let capacity = &before[&id].capacity;
            prop_assert!(reserved.cpu_millis <= capacity.cpu_millis);
            prop_assert!(reserved.memory_bytes <= capacity.memory_bytes);
        }
        let placed_jobs: BTreeSet<_> = placed.iter().map(|(job, _)| job).collect();
        for request in requests.iter().filter(|r| !placed_jobs.contains(&r.job)) {
            let fits = after.values().any(|n| n.takes_jobs && request.demand.fits(&n.capacity, &n.reserved));
            prop_assert!(!fits, "a job that fits somewhere is placed");
        }
        prop_assert_eq!(placed, plan(&requests, &mut before.clone()), "the same input gives the same plan");
    }
}
