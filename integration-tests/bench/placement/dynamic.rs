//! Runs in which pods come and go: Poisson arrivals drawn from the trace, durations from a mix of two
//! exponential distributions. What does not fit waits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::arrivals::{Classes, Placed};
use crate::waiting::Waiting;
use crate::workload::Workload;

const HOUR_MS: u64 = 3_600_000;
/// Most pods are short, and most of the time is taken by long ones.
const LONG_SHARE: f64 = 0.2;
const SHORT_MEAN_MS: f64 = 30.0 * 60_000.0;
const LONG_MEAN_MS: f64 = 4.0 * HOUR_MS as f64;
/// From then the cluster is as full as it gets, and what comes is counted.
const COUNTED_FROM_MS: u64 = 12 * HOUR_MS;
const COUNTED_UNTIL_MS: u64 = 36 * HOUR_MS;
/// By then a pod that still waits is counted with the time it has waited.
const ENDS_AT_MS: u64 = 48 * HOUR_MS;

/// How long pods waited, of those that came while it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Waits {
    /// On average, in seconds.
    pub mean_s: f64,
    /// So long or shorter waited 99 %, in seconds.
    pub p99_s: f64,
    /// On average, those with 8 GPUs; none where none came.
    pub eight_gpu_s: Option<f64>,
}

/// A pod that has come. How long it lasts is drawn with it, so that all policies have the same pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pod {
    shape: usize,
    came_ms: u64,
    lasts_ms: u64,
}

/// A run under way.
struct Run<'a> {
    workload: &'a Workload,
    waiting: &'a mut dyn Waiting,
    rng: StdRng,
    now_ms: u64,
    pods: Vec<Pod>,
    started: HashSet<usize>,
    /// When each ends.
    running: BinaryHeap<Reverse<(u64, usize)>>,
    /// Shape and wait in milliseconds of those that count.
    waits: Vec<(usize, u64)>,
    classes: Classes,
    /// Thousandths of a GPU in use, and their sum over the milliseconds that count.
    used_gpu_millis: u64,
    used_over_time: f64,
}

/// Plays a run with so large a share of all these GPUs asked for on average.
pub fn dynamic(
    waiting: &mut dyn Waiting,
    workload: &Workload,
    all_gpu_millis: u64,
    load: f64,
    seed: u64,
) -> (Placed, Waits) {
    let pod_gpu_millis = workload.gpu_millis(&workload.pods) as f64 / workload.pods.len() as f64;
    let mean_ms = LONG_SHARE * LONG_MEAN_MS + (1.0 - LONG_SHARE) * SHORT_MEAN_MS;
    let gap_ms = pod_gpu_millis * mean_ms / (load * all_gpu_millis as f64);
    let mut run = Run {
        workload,
        waiting,
        rng: StdRng::seed_from_u64(seed),
        now_ms: 0,
        pods: Vec::new(),
        started: HashSet::new(),
        running: BinaryHeap::new(),
        waits: Vec::new(),
        classes: Classes::default(),
        used_gpu_millis: 0,
        used_over_time: 0.0,
    };
    let mut next = 0.0;
    loop {
        next += exponential(&mut run.rng, gap_ms);
        let at = (next as u64).min(ENDS_AT_MS);
        run.depart_until(at);
        run.pass_to(at);
        if at == ENDS_AT_MS {
            break;
        }
        run.arrive();
    }
    run.give_up_waiting();
    let used = run.used_over_time / (COUNTED_UNTIL_MS - COUNTED_FROM_MS) as f64;
    (run.classes.with(used, all_gpu_millis), run.summed_up())
}

impl Run<'_> {
    fn pass_to(&mut self, at_ms: u64) {
        let counts = |ms: u64| ms.clamp(COUNTED_FROM_MS, COUNTED_UNTIL_MS);
        let passed = counts(at_ms) - counts(self.now_ms);
        self.used_over_time += self.used_gpu_millis as f64 * passed as f64;
        self.now_ms = at_ms;
    }

    fn arrive(&mut self) {
        let shape = self.workload.pods[self.rng.random_range(0..self.workload.pods.len())];
        let mean = if self.rng.random_bool(LONG_SHARE) { LONG_MEAN_MS } else { SHORT_MEAN_MS };
        let lasts_ms = exponential(&mut self.rng, mean) as u64;
        self.pods.push(Pod { shape, came_ms: self.now_ms, lasts_ms });
        let started = self.waiting.arrive(self.pods.len() - 1, shape, self.now_ms);
        self.start(started);
    }

    fn depart_until(&mut self, at_ms: u64) {
        while let Some(Reverse((ends_at, pod))) = self.running.peek().copied()
            && ends_at <= at_ms
        {
            self.running.pop();
            self.pass_to(ends_at);
            self.used_gpu_millis -= self.workload.shapes[self.pods[pod].shape].all_gpu_millis();
            let started = self.waiting.depart(pod, self.now_ms);
            self.start(started);
        }
    }

    fn start(&mut self, pods: Vec<usize>) {
        for number in pods {
            let pod = self.pods[number];
            self.used_gpu_millis += self.workload.shapes[pod.shape].all_gpu_millis();
            self.running.push(Reverse((self.now_ms + pod.lasts_ms, number)));
            self.started.insert(number);
            self.count(pod, true);
        }
    }

    fn give_up_waiting(&mut self) {
        for number in 0..self.pods.len() {
            if !self.started.contains(&number) {
                self.count(self.pods[number], false);
            }
        }
    }

    fn count(&mut self, pod: Pod, is_placed: bool) {
        if (COUNTED_FROM_MS..COUNTED_UNTIL_MS).contains(&pod.came_ms) {
            self.waits.push((pod.shape, self.now_ms - pod.came_ms));
            self.classes.count(&self.workload.shapes[pod.shape], is_placed);
        }
    }

    fn summed_up(&self) -> Waits {
        let mut all: Vec<u64> = self.waits.iter().map(|(_, wait)| *wait).collect();
        all.sort_unstable();
        let is_large = |id: usize| self.workload.shapes[id].gpus == 8;
        let large = self.waits.iter().filter(|(id, _)| is_large(*id)).map(|(_, wait)| *wait);
        let last = (all.len() * 99).div_ceil(100).saturating_sub(1);
        Waits {
            mean_s: mean_s(all.iter().copied()).unwrap_or(0.0),
            p99_s: all.get(last).map_or(0.0, |wait| *wait as f64 / 1_000.0),
            eight_gpu_s: mean_s(large),
        }
    }
}

fn mean_s(waits_ms: impl Iterator<Item = u64>) -> Option<f64> {
    let (count, sum) = waits_ms.fold((0_u64, 0_u64), |(count, sum), wait| (count + 1, sum + wait));
    (count > 0).then(|| sum as f64 / count as f64 / 1_000.0)
}

fn exponential(rng: &mut StdRng, mean: f64) -> f64 {
    -mean * (1.0 - rng.random::<f64>()).ln()
}
