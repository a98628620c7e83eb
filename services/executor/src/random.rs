//! Randomness, as an argument: the same seed gives the same choices.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::clock::millis;

/// A source of random numbers.
pub trait Random: Send + Sync {
    /// Draws a number of the full range.
    fn next_u32(&self) -> u32;
}

/// Draws from a seeded generator.
#[derive(Debug)]
pub struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// Starts from the operating system's randomness.
    pub fn from_system() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }
}

impl Random for SeededRandom {
    fn next_u32(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u32()
    }
}

/// Draws a duration between zero and the given one.
pub(crate) fn up_to(random: &dyn Random, most: Duration) -> Duration {
    let share = u128::from(millis(most)) * u128::from(random.next_u32()) / u128::from(u32::MAX);
    Duration::from_millis(u64::try_from(share).unwrap_or(u64::MAX))
}

/// Draws a duration within 10 % of the given one.
pub(crate) fn about(random: &dyn Random, middle: Duration) -> Duration {
    middle.mul_f64(0.9) + up_to(random, middle.mul_f64(0.2))
}

/// Puts the items in a random order (Fisher and Yates).
pub(crate) fn shuffle<T>(random: &dyn Random, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let other = random.next_u32() as usize % (last + 1);
        items.swap(last, other);
    }
}
