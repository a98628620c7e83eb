//! Randomness and the ids made of it, as an argument, so that a simulation can repeat itself.

use std::sync::{Mutex, PoisonError};

use berth_domain::ids::JobId;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use uuid::{Builder, Uuid};

/// A source of random numbers.
pub trait Entropy: Send + Sync + 'static {
    /// Gives the next number of the full range.
    fn next_u64(&self) -> u64;
}

/// Random numbers from a seed.
pub struct SeededEntropy(Mutex<StdRng>);

impl SeededEntropy {
    /// Starts from a seed; the same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// Starts from the operating system's randomness.
    pub fn from_os() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }
}

impl Entropy for SeededEntropy {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}

/// Draws a number of the 32-bit range.
pub fn jitter(entropy: &dyn Entropy) -> u32 {
    u32::try_from(entropy.next_u64() >> 32).unwrap_or(u32::MAX)
}

/// Draws a random name (UUID version 4).
pub fn random_name(entropy: &dyn Entropy) -> String {
    let number = (u128::from(entropy.next_u64()) << 64) | u128::from(entropy.next_u64());
    Builder::from_random_bytes(number.to_be_bytes()).into_uuid().to_string()
}

/// Makes job ids that sort in the order they were made in (UUID version 7, RFC 9562, with a counter
/// in `rand_a`: section 6.2, method 1).
#[derive(Debug, Default)]
pub struct JobIds {
    last: Mutex<(u64, u16)>,
}

impl JobIds {
    /// Makes the next id at the given time.
    pub fn next(&self, now_ms: u64, entropy: &dyn Entropy) -> JobId {
        let (ms, counter) = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = if now_ms > last.0 {
                (now_ms, 0)
            } else if last.1 < 0xfff {
                (last.0, last.1 + 1)
            } else {
                (last.0 + 1, 0)
            };
            *last
        };
        let mut bytes = [0_u8; 10];
        bytes[..2].copy_from_slice(&counter.to_be_bytes());
        bytes[2..].copy_from_slice(&entropy.next_u64().to_be_bytes());
        let uuid: Uuid = Builder::from_unix_timestamp_millis(ms, &bytes).into_uuid();
        JobId::trusted(uuid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_sort_in_the_order_they_were_made_in() {
        let (ids, entropy) = (JobIds::default(), SeededEntropy::new(1));
        let made: Vec<JobId> = (0..10_000).map(|i| ids.next(1_000 + i / 5_000, &entropy)).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
