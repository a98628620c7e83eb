//! What happens in a run, and when: drawn from a seed. Some faults need an executor to be away for as long
//! as a verdict takes; meanwhile others happen elsewhere, which leave the leader alone.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The leader is killed, and started again.
    LeaderKilled,
    /// Another replica is.
    FollowerKilled,
    /// The leader is stopped in order, and started again.
    LeaderStopped,
    /// The leader is paused for longer than its lock lasts.
    LeaderPaused,
    /// Nobody hears of the leader, and it hears of nobody.
    LeaderCutOff,
    /// An executor is killed, and started again.
    ExecutorKilled,
    /// An executor is stopped in order, and started again.
    ExecutorStopped,
    /// An executor is paused for a while.
    ExecutorPaused,
    /// What an executor sends gets lost for a while.
    ExecutorMute,
    /// What an executor sends crawls.
    ExecutorSlow,
    /// An executor is killed, and stays away until it is lost.
    ExecutorLost,
    /// An executor is cut off until it is lost.
    ExecutorCutOff,
    /// An executor is sent nothing until it is lost.
    ExecutorDeaf,
    /// Redis is killed, and started again.
    RedisKilled,
    /// Redis is paused.
    RedisPaused,
    /// Redis hears, but its answers stay away for a while.
    RedisUnheard,
    /// Some of its answers are lost with the connections they came on.
    RedisAnswersLost,
    /// A replica that lacks the newest writes takes the place of Redis.
    RedisPromoted,
    /// A Docker Engine is killed with what runs on it, and started again.
    EngineKilled,
    /// A Docker Engine is paused.
    EnginePaused,
}

/// Until these are over, an executor is lost.
pub const LONG: [Kind; 3] = [Kind::ExecutorLost, Kind::ExecutorCutOff, Kind::ExecutorDeaf];
/// These leave the leader and its store alone.
const BESIDE: [Kind; 8] = [
    Kind::FollowerKilled,
    Kind::ExecutorKilled,
    Kind::ExecutorStopped,
    Kind::ExecutorPaused,
    Kind::ExecutorMute,
    Kind::ExecutorSlow,
    Kind::EngineKilled,
    Kind::EnginePaused,
];
/// These do not.
const ALONE: [Kind; 9] = [
    Kind::LeaderKilled,
    Kind::LeaderStopped,
    Kind::LeaderPaused,
    Kind::LeaderCutOff,
    Kind::RedisKilled,
    Kind::RedisPaused,
    Kind::RedisUnheard,
    Kind::RedisAnswersLost,
    Kind::RedisPromoted,
];

/// A fault.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// Whom it happens to, where there is a choice.
    pub victim: usize,
    /// How long it lasts.
    pub lasts: Duration,
}

/// Faults that happen one after the other, the first of which may last until all of the others are over.
#[derive(Debug, Clone)]
pub struct Round {
    /// An executor is lost.
    pub long: Option<Fault>,
    /// What happens meanwhile.
    pub short: Vec<Fault>,
}

/// Whom there is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Executors on the machine's engine.
    pub executors: usize,
    /// There is one more, on an engine of its own.
    pub has_engine: bool,
}

/// Rounds without an end: each cycle has every kind once.
pub struct Plan {
    rng: StdRng,
    shape: Shape,
    ahead: Vec<Round>,
}

impl Plan {
    /// Draws a plan.
    pub fn drawn(seed: u64, shape: Shape) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), shape, ahead: Vec::new() }
    }

    /// The kinds that must happen.
    pub fn kinds(shape: Shape) -> Vec<Kind> {
        let is_there =
            |kind: &Kind| shape.has_engine || !matches!(kind, Kind::EngineKilled | Kind::EnginePaused);
        LONG.into_iter().chain(BESIDE).chain(ALONE).filter(is_there).collect()
    }

    /// What comes next.
    pub fn next(&mut self) -> Round {
        if self.ahead.is_empty() {
            self.ahead = self.cycle();
        }
        self.ahead.pop().unwrap_or_else(|| Round { long: None, short: Vec::new() })
    }

    fn cycle(&mut self) -> Vec<Round> {
        let rng = &mut self.rng;
        let (mut long, mut alone) = (LONG, ALONE);
        let mut beside: Vec<Kind> =
            Self::kinds(self.shape).into_iter().filter(|kind| BESIDE.contains(kind)).collect();
        long.shuffle(rng);
        alone.shuffle(rng);
        beside.shuffle(rng);
        let executors = self.shape.executors;
        let each = beside.len().div_ceil(long.len());
        let mut rounds: Vec<Round> = Vec::new();
        for (kind, others) in long.into_iter().zip(beside.chunks(each)) {
            let victim = rng.random_range(0..executors);
            // Whoever is away is left alone.
            let other = |rng: &mut StdRng| (victim + rng.random_range(1..executors)) % executors;
            let short =
                others.iter().map(|kind| Fault { kind: *kind, victim: other(rng), lasts: lasts(*kind, rng) });
            let short = short.collect();
            rounds.push(Round { long: Some(Fault { kind, victim, lasts: lasts(kind, rng) }), short });
        }
        for kinds in alone.chunks(3) {
            let short = kinds.iter().map(|kind| Fault { kind: *kind, victim: 0, lasts: lasts(*kind, rng) });
            rounds.push(Round { long: None, short: short.collect() });
        }
        rounds.shuffle(rng);
        rounds
    }
}

fn lasts(kind: Kind, rng: &mut StdRng) -> Duration {
    let ms = match kind {
        Kind::LeaderKilled | Kind::FollowerKilled | Kind::ExecutorKilled => rng.random_range(200..2_500),
        Kind::LeaderStopped | Kind::ExecutorStopped => rng.random_range(0..1_000),
        Kind::LeaderPaused | Kind::LeaderCutOff => rng.random_range(2_500..5_000),
        Kind::ExecutorPaused | Kind::ExecutorMute | Kind::ExecutorSlow => rng.random_range(2_000..7_000),
        // By then it is lost: after 13 s without a word, and whatever has held the verdict up before.
        Kind::ExecutorLost | Kind::ExecutorCutOff | Kind::ExecutorDeaf => rng.random_range(17_000..19_000),
        Kind::RedisKilled => rng.random_range(0..1_500),
        Kind::RedisPaused | Kind::RedisUnheard => rng.random_range(1_000..3_500),
        Kind::RedisAnswersLost => rng.random_range(3_000..5_000),
        Kind::RedisPromoted => rng.random_range(1_500..3_500),
        Kind::EngineKilled => rng.random_range(0..1_000),
        Kind::EnginePaused => rng.random_range(3_000..7_000),
    };
    Duration::from_millis(ms)
}
