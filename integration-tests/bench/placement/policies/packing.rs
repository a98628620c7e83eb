//! Two baselines of the paper on fragmentation gradient descent, as its simulator has them: whole scores from
//! 0 to 100.

use super::best::Score;
use crate::cluster::{Node, Shape, WHOLE};

/// The largest node of the trace, which amounts are divided by.
const MOST_CPU_MILLIS: f64 = 128_000.0;
const MOST_GPU_MILLIS: f64 = 8_000.0;
const HIGHEST: i64 = 100;

/// The smaller the product of what is free and what is asked for, the better (Tetris, SIGCOMM 2014, turned
/// round by the paper).
#[derive(Debug)]
pub struct DotProduct;

impl Score for DotProduct {
    fn score(&mut self, shape: &Shape, node: &Node) -> i64 {
        let product = |free: u64, asked: u64, most: f64| free as f64 / most * (asked as f64 / most);
        let cpu = product(node.free.cpu_millis, shape.cpu_millis, MOST_CPU_MILLIS);
        let gpus = product(node.free.gpu_millis(), shape.all_gpu_millis(), MOST_GPU_MILLIS);
        (HIGHEST as f64 * (1.0 - f64::midpoint(cpu, gpus))) as i64
    }
}

/// Shared GPUs first, then free GPUs of nodes in use, then free nodes, the smallest first.
#[derive(Debug)]
pub struct GpuPacking;

impl Score for GpuPacking {
    fn score(&mut self, shape: &Shape, node: &Node) -> i64 {
        if shape.gpus == 0 {
            return 0;
        }
        let free = i64::try_from(node.free.gpus_with(WHOLE)).unwrap_or(0);
        if node.free.gpu_millis() == node.capacity.gpu_millis() {
            return (HIGHEST / 3 - free).max(free);
        }
        if !shape.is_shared() {
            return (HIGHEST / 2 - i64::from(shape.gpus)).max(HIGHEST / 3);
        }
        let usable = node.free.gpus.iter().filter(|left| **left >= shape.gpu_millis);
        match usable.min() {
            Some(left) if *left < WHOLE => (HIGHEST - i64::from(*left) / 100).max(HIGHEST / 2),
            Some(_) | None => (HIGHEST / 2 - 1).max(HIGHEST / 3),
        }
    }
}
