//! How long a round takes on one thread: so many jobs drawn from a trace wait for so many nodes drawn from the list,
//! which are empty or, fragmented, full but for what a tenth of the jobs has left; and the same where no two of those
//! that wait are alike. And the next round, once one more job has ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use berth_domain::ids::JobId;
use berth_domain::placement::{Board, Choice, Holding, Moment, Placement, Request};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::whole::{capacity, executor, holding, request};
use crate::workload::Workload;

/// Jobs and nodes of each measurement.
const SIZES: [(usize, usize); 5] =
    [(1_000, 1_000), (10_000, 1_000), (10_000, 10_000), (100_000, 1_000), (100_000, 10_000)];
/// Of so many rounds the median counts; each begins with nothing reckoned.
const ROUNDS: usize = 5;
const NOW_MS: u64 = 3_600_000;
const MOMENT: Moment =
    Moment { now_ms: NOW_MS, limit: usize::MAX, window: usize::MAX, with_unrepeatable: true };

/// What the jobs find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Nodes on which nothing runs.
    Empty,
    /// Nodes that are full but for what a tenth of the jobs has left.
    Fragmented,
    /// Fragmented nodes, and each job asks for a little less memory than the one before.
    Unlike,
}

impl Scene {
    const ALL: [Self; 3] = [Self::Empty, Self::Fragmented, Self::Unlike];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Fragmented => "fragmented",
            Self::Unlike => "unlike",
        }
    }
}

/// What was measured at one size.
#[derive(Debug)]
pub struct Timed {
    /// The trace that the jobs are drawn from.
    pub trace: String,
    /// How many wait.
    pub jobs: usize,
    /// How many nodes there are.
    pub nodes: usize,
    /// What the jobs find.
    pub scene: Scene,
    /// How many got a place.
    pub placed: usize,
    /// How long the round took.
    pub round: Duration,
    /// And the next one, once one more job had ended.
    pub next: Duration,
}

impl Timed {
    /// The row as users' scripts read it.
    pub fn json(&self) -> Value {
        json!({
            "trace": self.trace,
            "jobs": self.jobs,
            "nodes": self.nodes,
            "cluster": self.scene.name(),
            "placed": self.placed,
            "roundMs": millis(self.round),
            "nextRoundMs": millis(self.next),
        })
    }
}

/// Measures all sizes, and prints them.
pub fn rounds(cluster: &Cluster, workload: &Workload, seed: u64) -> Vec<Timed> {
    println!("one round on one thread, {}, seed {seed}, median of {ROUNDS}", workload.name);
    println!(
        "  {:>8} {:>7} {:11} {:>8} {:>9} {:>14}",
        "jobs", "nodes", "cluster", "placed", "round ms", "next round ms"
    );
    let mut all = Vec::new();
    for (jobs, nodes) in SIZES {
        for scene in Scene::ALL {
            let timed = timed(cluster, workload, (jobs, nodes), scene, seed);
            println!(
                "  {jobs:>8} {nodes:>7} {:11} {:>8} {:>9.1} {:>14.2}",
                scene.name(),
                timed.placed,
                millis(timed.round),
                millis(timed.next)
            );
            all.push(timed);
        }
    }
    println!("peak memory {} MiB", peak_memory_mib());
    all
}

fn timed(
    cluster: &Cluster,
    workload: &Workload,
    (jobs, nodes): (usize, usize),
    scene: Scene,
    seed: u64,
) -> Timed {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut board = Board::new(Placement::default());
    for node in 0..nodes {
        let drawn = &cluster.nodes[rng.random_range(0..cluster.nodes.len())];
        board.put_executor(&executor(node), &capacity(drawn, node), &BTreeMap::new(), true);
    }
    let running = match scene {
        Scene::Empty => Vec::new(),
        Scene::Fragmented | Scene::Unlike => fragment(&mut board, workload, nodes, &mut rng),
    };
    for job in 0..jobs {
        let mut request = drawn(workload, &format!("job-{job:08}"), job as u64, &mut rng);
        if scene == Scene::Unlike {
            request.demand.memory_bytes = request.demand.memory_bytes.saturating_sub(job as u64).max(1);
        }
        board.count_arrivals(&request.demand, 1);
        board.push(request);
    }
    let (mut times, mut nexts, mut placed) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let mut board = board.clone();
        let began = Instant::now();
        let plan = board.plan(&MOMENT);
        times.push(began.elapsed());
        placed = plan.placed.len();
        if let Some(ended) = running.first() {
            board.release(ended);
        }
        let began = Instant::now();
        board.plan(&MOMENT);
        nexts.push(began.elapsed());
    }
    times.sort_unstable();
    nexts.sort_unstable();
    let (trace, round, next) = (workload.name.clone(), times[ROUNDS / 2], nexts[ROUNDS / 2]);
    Timed { trace, jobs, nodes, scene, placed, round, next }
}

/// Fills the nodes, and lets a tenth of the jobs go.
fn fragment(board: &mut Board, workload: &Workload, nodes: usize, rng: &mut StdRng) -> Vec<Holding> {
    let requests: Vec<Request> =
        (0..nodes * 10).map(|job| drawn(workload, &format!("old-{job:08}"), job as u64, rng)).collect();
    for request in &requests {
        board.count_arrivals(&request.demand, 1);
        board.push(request.clone());
    }
    let placed: Vec<(JobId, Choice)> = board.plan(&MOMENT).placed;
    let find = |id: &JobId| requests.binary_search_by(|request| request.job.cmp(id)).ok();
    let held = placed.into_iter().filter_map(|(job, choice)| {
        let request = requests[find(&job)?].clone();
        Some(holding(request, choice))
    });
    let mut held: Vec<Holding> = held.collect();
    requests.iter().for_each(|request| board.withdraw(request));
    held.iter().for_each(|holding| board.hold(holding));
    held.shuffle(rng);
    let staying = held.split_off(held.len() / 10);
    held.iter().for_each(|holding| board.release(holding));
    staying
}

fn drawn(workload: &Workload, name: &str, age_ms: u64, rng: &mut StdRng) -> Request {
    let shape = workload.pods[rng.random_range(0..workload.pods.len())];
    request(name, &workload.shapes[shape], NOW_MS - 200_000 + age_ms / 1_000)
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The most memory that the process has had, as the kernel counts it.
pub fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
        / 1_024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ANY_MODEL, MAX_GPUS, Node, Room, Shape, WHOLE};

    #[test]
    fn a_round_places_what_fits_and_a_fragmented_cluster_has_less_room() {
        let mut gpus = [0; MAX_GPUS];
        gpus[..4].fill(WHOLE);
        let room = Room { cpu_millis: 16_000, memory_mib: 64, gpus };
        let cluster = Cluster { nodes: vec![Node::new(room, 1)] };
        let shape = |cpu_millis, gpus: u16| Shape {
            cpu_millis,
            memory_mib: 1,
            gpus,
            gpu_millis: if gpus == 0 { 0 } else { WHOLE },
            models: ANY_MODEL,
        };
        let workload = Workload {
            name: "small".to_owned(),
            shapes: vec![shape(2_000, 1), shape(3_000, 0), shape(1_000, 4)],
            pods: vec![0, 0, 1, 2],
        };
        let empty = timed(&cluster, &workload, (200, 10), Scene::Empty, 1);
        let fragmented = timed(&cluster, &workload, (200, 10), Scene::Fragmented, 1);
        assert!(empty.placed > fragmented.placed && fragmented.placed > 0, "{}", fragmented.placed);
        assert_eq!(fragmented.json()["cluster"], "fragmented");
        assert!(peak_memory_mib() > 0);
    }
}
