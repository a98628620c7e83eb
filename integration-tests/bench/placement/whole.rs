//! Berth's own placement with its queue (`berth_domain::placement::Board`), as the leader uses it: all that wait are
//! offered to all nodes, whenever something has changed.

use std::collections::{BTreeMap, HashMap};

use berth_domain::ids::{ExecutorId, JobId, Namespace};
use berth_domain::placement::{Board, Choice, Ends, Holding, Moment, Placement, Request};
use berth_domain::resources::{Capacity, Demand, GpuDevice};

use crate::cluster::{ANY_MODEL, Cluster, Devices, MIB, Node, Shape};
use crate::waiting::Waiting;
use crate::workload::Workload;

/// The run begins then, so that nobody has waited for too long at its begin.
const BEGINS_MS: u64 = 3_600_000;

/// How far a round goes; where that is not to the end, others follow until nothing more is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// As far as a leader's (`leader::decide` and `image` of `berth-scheduler`): what it commits is bounded, and so is
    /// what it puts in order.
    Leader,
    /// To the end, all that wait put in order at once.
    Whole,
}

impl Reach {
    /// Places a round, and jobs put in order at once.
    fn limits(self) -> (usize, usize) {
        match self {
            Self::Leader => (400, 4_096),
            Self::Whole => (usize::MAX, usize::MAX),
        }
    }
}

/// The board, with the cluster in step.
pub struct Whole<'a> {
    cluster: &'a mut Cluster,
    workload: &'a Workload,
    board: Board,
    reach: Reach,
    waiting: HashMap<JobId, (usize, usize, Request)>,
    running: HashMap<usize, Running>,
}

/// A pod that runs.
struct Running {
    shape: usize,
    node: usize,
    devices: Devices,
    holding: Holding,
}

impl<'a> Whole<'a> {
    /// Tells a board of the nodes, and of what will come where it `is_told`.
    pub fn new(cluster: &'a mut Cluster, workload: &'a Workload, is_told: bool, reach: Reach) -> Self {
        let mut board = Board::new(Placement::default());
        for (index, node) in cluster.nodes.iter().enumerate() {
            board.put_executor(&executor(index), &capacity(node, index), &BTreeMap::new(), true);
        }
        for pod in workload.pods.iter().filter(|_| is_told) {
            board.count_arrivals(&demand(&workload.shapes[*pod]), 1);
        }
        Self { cluster, workload, board, reach, waiting: HashMap::new(), running: HashMap::new() }
    }

    /// Adds a pod that waits.
    pub fn wait(&mut self, pod: usize, shape: usize, now_ms: u64) {
        let request = request(&format!("{pod:08}"), &self.workload.shapes[shape], BEGINS_MS + now_ms);
        self.board.count_arrivals(&request.demand, 1);
        self.board.push(request.clone());
        self.waiting.insert(request.job.clone(), (pod, shape, request));
    }

    /// Places what can be placed.
    pub fn round(&mut self, now_ms: u64) -> Vec<usize> {
        let (limit, window) = self.reach.limits();
        let moment = Moment { now_ms: BEGINS_MS + now_ms, limit, window, with_unrepeatable: true };
        let mut started = Vec::new();
        loop {
            let placed = self.board.plan(&moment).placed;
            let is_last = placed.is_empty() || self.reach == Reach::Whole;
            started.extend(placed.into_iter().filter_map(|(job, choice)| self.place(&job, choice)));
            if is_last {
                return started;
            }
        }
    }

    fn place(&mut self, job: &JobId, choice: Choice) -> Option<usize> {
        let (pod, shape, request) = self.waiting.remove(job)?;
        self.board.withdraw(&request);
        let node: usize = choice.executor.as_str().parse().ok()?;
        let bits = choice.gpu_device_ids.iter().filter_map(|id| id.rsplit('-').next()?.parse::<u32>().ok());
        let devices = bits.fold(0, |devices, bit| devices | 1 << bit);
        let holding = holding(request, choice);
        self.board.hold(&holding);
        self.cluster.place(node, &self.workload.shapes[shape], devices);
        self.running.insert(pod, Running { shape, node, devices, holding });
        Some(pod)
    }
}

impl Waiting for Whole<'_> {
    fn arrive(&mut self, pod: usize, shape: usize, now_ms: u64) -> Vec<usize> {
        self.wait(pod, shape, now_ms);
        self.round(now_ms)
    }

    fn depart(&mut self, pod: usize, now_ms: u64) -> Vec<usize> {
        let Some(ended) = self.running.remove(&pod) else { return Vec::new() };
        self.board.release(&ended.holding);
        self.cluster.remove(ended.node, &self.workload.shapes[ended.shape], ended.devices);
        self.round(now_ms)
    }
}

/// A job of a shape that was submitted then.
pub fn request(name: &str, shape: &Shape, at_ms: u64) -> Request {
    Request {
        job: JobId::trusted(name),
        demand: demand(shape),
        avoid: None,
        priority: 50,
        namespace: Namespace::trusted("default"),
        create_time_ms: at_ms,
        ready_time_ms: at_ms,
        run_timeout_ms: None,
        may_repeat: true,
        image_hash: 0,
    }
}

/// The same job once it has a place.
pub fn holding(request: Request, choice: Choice) -> Holding {
    Holding {
        job: request.job,
        executor: choice.executor,
        demand: request.demand,
        gpu_device_ids: choice.gpu_device_ids,
        namespace: request.namespace,
        ends: Ends::Unknown,
    }
}

/// The name of a node.
pub fn executor(index: usize) -> ExecutorId {
    ExecutorId::trusted(format!("{index:06}"))
}

/// What a node has; its devices are named after `prefix`.
pub fn capacity(node: &Node, prefix: usize) -> Capacity {
    let gpus = (0..node.capacity.gpus_with(1)).map(|gpu| GpuDevice {
        id: format!("{prefix:06}-{gpu:02}"),
        model: model(node.model.trailing_zeros()),
        emulated: false,
    });
    Capacity {
        cpu_millis: node.capacity.cpu_millis,
        memory_bytes: node.capacity.memory_mib * MIB,
        gpus: gpus.collect(),
    }
}

fn demand(shape: &Shape) -> Demand {
    let named = (0..32).filter(|bit| shape.models != ANY_MODEL && shape.models >> bit & 1 == 1);
    Demand {
        cpu_millis: shape.cpu_millis,
        memory_bytes: shape.memory_mib * MIB,
        gpu_count: u32::from(shape.gpus),
        gpu_models: named.map(model).collect(),
        constraints: Vec::new(),
    }
}

fn model(bit: u32) -> String {
    format!("model-{bit:02}")
}
