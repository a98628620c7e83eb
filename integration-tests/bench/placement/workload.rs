//! What arrives: the pods of a trace that a variant keeps, and from a seed the sequence in which they come,
//! by the procedure of "Beware of Fragmentation" (USENIX ATC 2023, section 6.1): shuffled, and drawn or
//! deleted at random until a given share of the cluster's GPUs is asked for.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::cluster::Shape;
use crate::options::{Failure, Variant};
use crate::trace::Trace;

/// All GPUs asked for, in percent of those there are.
pub const ARRIVING_PCT: u64 = 130;

/// The pods of one trace as a variant has them.
#[derive(Debug)]
pub struct Workload {
    /// The trace's name.
    pub name: String,
    /// Every shape once.
    pub shapes: Vec<Shape>,
    /// The pods in the order of the trace, by the position of their shape.
    pub pods: Vec<usize>,
}

impl Workload {
    /// Takes from a trace what the variant keeps.
    ///
    /// # Errors
    /// Refuses a trace that asks for no GPU: no share of the GPUs would ever be reached.
    pub fn of(trace: &Trace, variant: Variant) -> Result<Self, Failure> {
        let is_kept = |shape: &&Shape| variant == Variant::Frac || !shape.is_shared();
        let mut positions: HashMap<Shape, usize> = HashMap::new();
        let mut workload = Self { name: trace.name.clone(), shapes: Vec::new(), pods: Vec::new() };
        for shape in trace.pods.iter().filter(is_kept) {
            let position = *positions.entry(*shape).or_insert_with(|| {
                workload.shapes.push(*shape);
                workload.shapes.len() - 1
            });
            workload.pods.push(position);
        }
        if workload.gpu_millis(&workload.pods) == 0 {
            return Err(Failure::failed(format!("The trace {} asks for no GPU.", trace.name)));
        }
        Ok(workload)
    }

    /// What some of its pods ask for, in thousandths of a GPU.
    pub fn gpu_millis(&self, pods: &[usize]) -> u64 {
        pods.iter().map(|pod| self.shapes[*pod].all_gpu_millis()).sum()
    }

    /// Draws the sequence of a seed; it ends with [`ARRIVING_PCT`] of so many GPUs asked for.
    pub fn arrivals(&self, capacity_gpu_millis: u64, seed: u64) -> Vec<usize> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut pods = self.pods.clone();
        pods.shuffle(&mut rng);
        let wanted = capacity_gpu_millis * ARRIVING_PCT / 100;
        let mut asked = self.gpu_millis(&pods);
        if asked > wanted {
            while asked > wanted {
                let deleted = pods.remove(rng.random_range(0..pods.len()));
                asked -= self.shapes[deleted].all_gpu_millis();
            }
        } else {
            while asked < wanted {
                let drawn = self.pods[rng.random_range(0..self.pods.len())];
                pods.push(drawn);
                asked += self.shapes[drawn].all_gpu_millis();
            }
        }
        pods
    }
}
