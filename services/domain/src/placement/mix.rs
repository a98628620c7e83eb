//! What is asked for: how often each shape has come of late, and how many of it wait. Old arrivals count less
//! and less.

/// Once so many arrivals are counted, all counts are halved.
const MOST_ARRIVALS: u64 = 8_192;
/// What has come since the mix was last looked at, as a share of all: 1 in so many makes it worth another look.
const RENEWED_BY: u64 = 8;
/// So many shapes at most, the most frequent ones, stand for all.
const MOST_SHAPES: usize = 512;

/// The mix; shapes are numbered by whoever counts.
#[derive(Debug, Clone, Default)]
pub struct Mix {
    arrived: Vec<u64>,
    waiting: Vec<u64>,
    arrivals: u64,
    waiters: u64,
    changed: u64,
    /// How often it was looked at.
    looks: u64,
}

impl Mix {
    /// Counts arrivals.
    pub fn arrive(&mut self, shape: usize, count: u64) {
        *entry(&mut self.arrived, shape) += count;
        self.arrivals += count;
        self.changed += count;
        if self.arrivals >= MOST_ARRIVALS {
            self.arrived.iter_mut().for_each(|count| *count /= 2);
            self.arrivals = self.arrived.iter().sum();
        }
    }

    /// Counts one that waits, beside its arrival.
    pub fn wait(&mut self, shape: usize) {
        *entry(&mut self.waiting, shape) += 1;
        self.waiters += 1;
        self.changed += 1;
    }

    /// Takes back one that waited.
    pub fn leave(&mut self, shape: usize) {
        let waiting = entry(&mut self.waiting, shape);
        if *waiting > 0 {
            *waiting -= 1;
            self.waiters -= 1;
            self.changed += 1;
        }
    }

    /// Becomes again what it was before something was tried. Where it was looked at meanwhile, it is worth another look.
    pub fn restore(&mut self, before: Self) {
        let was_seen = self.looks != before.looks;
        *self = Self { looks: self.looks, ..before };
        if was_seen {
            self.changed = (self.arrivals + self.waiters).max(1);
        }
    }

    /// The shapes that have arrived, and how often.
    pub fn arrived(&self) -> impl Iterator<Item = (usize, u64)> {
        self.arrived.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// Gives all shapes that count other numbers; those that wait are to be counted anew.
    pub fn renumbered(&self, mut number: impl FnMut(usize) -> usize) -> Self {
        let mut mix = Self { arrivals: self.arrivals, changed: self.arrivals, ..Self::default() };
        for (shape, count) in self.arrived() {
            *entry(&mut mix.arrived, number(shape)) += count;
        }
        mix
    }

    /// Says whether enough has changed since it was last looked at.
    pub fn is_renewed(&self) -> bool {
        self.changed > 0 && self.changed * RENEWED_BY >= self.arrivals + self.waiters
    }

    /// The most frequent shapes, each with its weight, by number.
    pub fn look(&mut self) -> Vec<(usize, u64)> {
        self.changed = 0;
        self.looks += 1;
        let waiting = |shape: usize| self.waiting.get(shape).copied().unwrap_or(0);
        let shapes = self.arrived.len().max(self.waiting.len());
        let weights =
            (0..shapes).map(|shape| (shape, self.arrived.get(shape).copied().unwrap_or(0) + waiting(shape)));
        let mut weights: Vec<(usize, u64)> = weights.filter(|(_, weight)| *weight > 0).collect();
        weights.sort_by_key(|(shape, weight)| (std::cmp::Reverse(*weight), *shape));
        weights.truncate(MOST_SHAPES);
        weights.sort_unstable();
        weights
    }
}

fn entry(counts: &mut Vec<u64>, shape: usize) -> &mut u64 {
    if counts.len() <= shape {
        counts.resize(shape + 1, 0);
    }
    &mut counts[shape]
}
