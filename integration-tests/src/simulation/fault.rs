//! What may go wrong in a run.

use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::failpoints;

/// One process of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// A scheduler replica.
    Scheduler(usize),
    /// An executor.
    Executor(usize),
}

impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheduler(index) => write!(formatter, "scheduler-{}", index + 1),
            Self::Executor(index) => write!(formatter, "executor-{}", index + 1),
        }
    }
}

/// A fault of the way between an executor and a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing passes, in either direction; what is sent meanwhile is gone.
    Cut,
    /// What the executor sends is gone.
    Upwards,
    /// What the scheduler sends is gone.
    Downwards,
    /// Nothing passes, and everything comes at once when it is over.
    Held,
    /// Everything takes up to 2 s.
    Slow,
}

/// A fault of the store, as one scheduler or as all see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// Every call fails.
    Unavailable,
    /// Calls wait until it is over, and are carried out then.
    Stalled,
    /// Some commits are carried out, and nobody is told.
    LostReplies,
    /// Some commits are not carried out, and nobody can know.
    LostRequests,
    /// Some commits are refused.
    Refused,
    /// Every call takes half a second.
    Slow,
}

/// A fault of a container engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Every call fails.
    Stopped,
    /// No call is answered.
    Hung,
    /// Waits for an exit are broken off.
    BrokenWaits,
    /// Waits for an exit end while the process runs.
    EarlyWaits,
    /// Calls are carried out, and said to have failed.
    LostAnswers,
    /// Some containers cannot be made: their name is said to be in use.
    Conflicts,
    /// No container can be removed.
    StuckRemovals,
    /// No container can be started: the bridge has vanished.
    NoBridge,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A process is killed, and started again.
    Crash(Process),
    /// A process is killed at one of its awaits: the site, and its how manieth pass.
    CrashAt(Process, String, u32),
    /// A process stops in order, and is started again.
    Stop(Process),
    /// One of a process's awaits takes so long: the site, and its how manieth pass. All else in it goes on.
    PauseAt(Process, String, u32),
    /// A process stands still: none of its calls goes on, and what is sent to it or by it waits.
    Freeze(Process),
    /// A machine starts anew: its containers are gone, with exit codes that mean nothing.
    Reboot(usize, i32),
    /// A container engine dies and takes its containers with it, which then show this code; its machine lives on.
    EngineCrash(usize, i32),
    /// An executor's machine dies for good, and an operator says so.
    Death(usize),
    /// The way between an executor and a scheduler, or all of them.
    Way(Way, usize, Option<usize>),
    /// A scheduler and an executor are on one side of a cut, the store and all others on the other: what the
    /// scheduler says to the store arrives when it is over.
    Split(usize, usize),
    /// The store, as one scheduler or as all see it.
    Store(Silence, Option<usize>),
    /// The store has no room for new jobs.
    StoreFull,
    /// The store's server is restarted without a loss.
    StoreRestart,
    /// The store fails over to a copy that lacks what was written in that time.
    FailOver(Duration),
    /// The store's clock is set, by so many milliseconds.
    ClockStep(i64),
    /// An executor's container engine.
    Engine(Engine, usize),
    /// An executor's disk is full.
    DiskFull(usize),
}

/// One fault.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Its number, which stays when others are left out.
    pub number: usize,
    /// When it begins.
    pub at: Duration,
    /// When it is over, after that time.
    pub lasts: Duration,
    /// What.
    pub kind: Kind,
}

impl Kind {
    /// Names the kind, for counting.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crash(_) => "crash",
            Self::CrashAt(..) => "crash at an await",
            Self::Stop(_) => "stop in order",
            Self::PauseAt(..) => "pause at an await",
            Self::Freeze(_) => "frozen process",
            Self::Reboot(..) => "reboot",
            Self::EngineCrash(..) => "engine crash",
            Self::Death(_) => "dead machine",
            Self::Way(Way::Cut, ..) => "cut",
            Self::Way(Way::Upwards | Way::Downwards, ..) => "one-way cut",
            Self::Way(Way::Held, ..) => "half-open connection",
            Self::Way(Way::Slow, ..) => "slow connection",
            Self::Split(..) => "split",
            Self::Store(Silence::Unavailable, _) => "store unavailable",
            Self::Store(Silence::Stalled, _) => "store stalled",
            Self::Store(Silence::LostReplies, _) => "lost replies",
            Self::Store(Silence::LostRequests, _) => "lost requests",
            Self::Store(Silence::Refused, _) => "refused commits",
            Self::Store(Silence::Slow, _) => "store slow",
            Self::StoreFull => "store full",
            Self::StoreRestart => "store restart",
            Self::FailOver(_) => "fail-over",
            Self::ClockStep(_) => "clock step",
            Self::Engine(Engine::Stopped, _) => "engine stopped",
            Self::Engine(Engine::Hung, _) => "engine hung",
            Self::Engine(Engine::BrokenWaits | Engine::EarlyWaits, _) => "broken waits",
            Self::Engine(Engine::LostAnswers, _) => "engine's answers lost",
            Self::Engine(Engine::Conflicts, _) => "name in use",
            Self::Engine(Engine::StuckRemovals, _) => "stuck removal",
            Self::Engine(Engine::NoBridge, _) => "vanished bridge",
            Self::DiskFull(_) => "disk full",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let executor = |index: &usize| Process::Executor(*index);
        match &self.kind {
            Kind::Crash(process) => write!(formatter, "{process} is killed")?,
            Kind::CrashAt(process, site, pass) => {
                write!(formatter, "{process} is killed at pass {pass} of {site}")?;
            }
            Kind::Stop(process) => write!(formatter, "{process} stops in order")?,
            Kind::PauseAt(process, site, pass) => {
                write!(formatter, "pass {pass} of {site} by {process} takes long")?;
            }
            Kind::Freeze(process) => write!(formatter, "{process} stands still")?,
            Kind::Reboot(index, code) => {
                write!(formatter, "the machine of {} starts anew (exit codes {code})", executor(index))?;
            }
            Kind::EngineCrash(index, code) => {
                write!(formatter, "the engine of {} crashes (exit codes {code})", executor(index))?;
            }
            Kind::Death(index) => write!(formatter, "the machine of {} dies", executor(index))?,
            Kind::Way(way, from, None) => {
                write!(formatter, "between {} and every scheduler: {way:?}", executor(from))?;
            }
            Kind::Way(way, from, Some(to)) => {
                let to = Process::Scheduler(*to);
                write!(formatter, "between {} and {to}: {way:?}", executor(from))?;
            }
            Kind::Split(scheduler, index) => {
                let (one, other) = (Process::Scheduler(*scheduler), executor(index));
                write!(formatter, "{one} and {other} are cut off from the store and all others")?;
            }
            Kind::Store(silence, None) => write!(formatter, "the store is {silence:?} for all")?,
            Kind::Store(silence, Some(index)) => {
                write!(formatter, "the store is {silence:?} for {}", Process::Scheduler(*index))?;
            }
            Kind::StoreFull => write!(formatter, "the store is full")?,
            Kind::StoreRestart => write!(formatter, "the store is restarted")?,
            Kind::FailOver(lag) => {
                write!(formatter, "the store fails over to a copy of {} ms ago", lag.as_millis())?;
            }
            Kind::ClockStep(by_ms) => write!(formatter, "the store's clock is set by {by_ms} ms")?,
            Kind::Engine(engine, index) => {
                write!(formatter, "the engine of {}: {engine:?}", executor(index))?;
            }
            Kind::DiskFull(index) => write!(formatter, "the disk of {} is full", executor(index))?,
        }
        write!(formatter, " at {} ms, for {} ms", self.at.as_millis(), self.lasts.as_millis())
    }
}

/// Whom faults befall.
struct Targets {
    schedulers: usize,
    executors: usize,
    /// A scheduler and an executor that have most of the bad luck.
    unlucky: Option<(usize, usize)>,
}

impl Targets {
    fn scheduler(&self, rng: &mut StdRng) -> usize {
        self.unlucky(rng).map_or_else(|| rng.random_range(0..self.schedulers), |(scheduler, _)| scheduler)
    }

    fn executor(&self, rng: &mut StdRng) -> usize {
        self.unlucky(rng).map_or_else(|| rng.random_range(0..self.executors), |(_, executor)| executor)
    }

    fn unlucky(&self, rng: &mut StdRng) -> Option<(usize, usize)> {
        self.unlucky.filter(|_| rng.random_bool(0.8))
    }

    fn process(&self, rng: &mut StdRng) -> Process {
        if rng.random_range(0..self.schedulers + self.executors) < self.schedulers {
            Process::Scheduler(self.scheduler(rng))
        } else {
            Process::Executor(self.executor(rng))
        }
    }
}

/// Draws the faults of a run.
pub fn drawn(rng: &mut StdRng, schedulers: usize, executors: usize) -> Vec<Fault> {
    // Which kinds this seed knows at all.
    let mut kinds: Vec<usize> = (0..DRAWS.len()).collect();
    kinds.shuffle(rng);
    kinds.truncate(rng.random_range(1..DRAWS.len()));
    let (from_ms, until_ms) = *SPANS_MS.choose(rng).expect("there is a choice");
    // How many last so long that an executor is judged lost.
    let long = *[0.1, 0.3, 0.7].choose(rng).expect("there is a choice");
    let unlucky = (rng.random_range(0..schedulers), rng.random_range(0..executors));
    let targets = Targets { schedulers, executors, unlucky: rng.random_bool(0.3).then_some(unlucky) };
    let count = rng.random_range(1..9);
    let mut faults: Vec<Fault> = Vec::new();
    for number in 0..count {
        let draw = DRAWS[*kinds.choose(rng).expect("there is one")];
        let kind = draw(rng, &targets);
        // One machine may die, of several; what else befalls it then means nothing.
        let is_second = faults.iter().any(|fault| matches!(fault.kind, Kind::Death(_)));
        if matches!(kind, Kind::Death(_)) && (is_second || executors == 1) {
            continue;
        }
        let lasts_ms = if rng.random_bool(long) { 60_000 } else { rng.random_range(100..20_000) };
        let lasts_ms = match kind {
            Kind::FailOver(_) | Kind::StoreRestart | Kind::ClockStep(_) => 0,
            _ => lasts_ms,
        };
        let at = Duration::from_millis(rng.random_range(from_ms..until_ms));
        faults.push(Fault { number, at, lasts: Duration::from_millis(lasts_ms), kind });
    }
    faults
}

/// When the faults of a seed begin: early or late, spread out or all at once.
const SPANS_MS: &[(u64, u64)] =
    &[(200, 2_000), (200, 6_000), (200, 20_000), (1_500, 2_500), (4_000, 5_000), (15_000, 40_000)];

type Draw = fn(&mut StdRng, &Targets) -> Kind;

/// One for each kind of fault; what has kinds of its own, or takes much to bite, is there twice.
const DRAWS: &[Draw] = &[
    |rng, targets| Kind::Crash(targets.process(rng)),
    crash_at,
    |rng, targets| Kind::Stop(targets.process(rng)),
    pause_at,
    |rng, targets| Kind::Freeze(targets.process(rng)),
    |rng, targets| {
        let code = *[0, 137, 255].choose(rng).expect("there is a choice");
        Kind::Reboot(targets.executor(rng), code)
    },
    |rng, targets| {
        let code = *[137, 255].choose(rng).expect("there is a choice");
        Kind::EngineCrash(targets.executor(rng), code)
    },
    |rng, targets| Kind::Death(targets.executor(rng)),
    |rng, targets| {
        let way = *[Way::Cut, Way::Upwards, Way::Downwards, Way::Held, Way::Slow].choose(rng).expect("one");
        let scheduler = targets.scheduler(rng);
        Kind::Way(way, targets.executor(rng), rng.random_bool(0.6).then_some(scheduler))
    },
    split,
    split,
    store,
    store,
    |_, _| Kind::StoreFull,
    |_, _| Kind::StoreRestart,
    |rng, _| {
        let most_ms = *[1_500, 1_500, 5_000].choose(rng).expect("there is a choice");
        Kind::FailOver(Duration::from_millis(rng.random_range(20..most_ms)))
    },
    |rng, _| {
        let far = match rng.random_range(0..3) {
            0 => rng.random_range(2_000..60_000),
            1 => rng.random_range(60_000..1_800_000),
            _ => rng.random_range(1_800_000..3_600_000),
        };
        Kind::ClockStep(if rng.random_bool(0.5) { far } else { -far })
    },
    engine,
    engine,
    |rng, targets| Kind::DiskFull(targets.executor(rng)),
];

fn split(rng: &mut StdRng, targets: &Targets) -> Kind {
    Kind::Split(targets.scheduler(rng), targets.executor(rng))
}

fn store(rng: &mut StdRng, targets: &Targets) -> Kind {
    let all = [
        Silence::Unavailable,
        Silence::Stalled,
        Silence::LostReplies,
        Silence::LostRequests,
        Silence::Refused,
        Silence::Slow,
    ];
    let silence = *all.choose(rng).expect("there is a choice");
    Kind::Store(silence, rng.random_bool(0.7).then(|| targets.scheduler(rng)))
}

fn engine(rng: &mut StdRng, targets: &Targets) -> Kind {
    let all = [
        Engine::Stopped,
        Engine::Hung,
        Engine::BrokenWaits,
        Engine::EarlyWaits,
        Engine::LostAnswers,
        Engine::Conflicts,
        Engine::StuckRemovals,
        Engine::NoBridge,
    ];
    Kind::Engine(*all.choose(rng).expect("there is a choice"), targets.executor(rng))
}

fn crash_at(rng: &mut StdRng, targets: &Targets) -> Kind {
    let (process, site, pass) = site(rng, targets);
    Kind::CrashAt(process, site, pass)
}

fn pause_at(rng: &mut StdRng, targets: &Targets) -> Kind {
    let (process, site, pass) = site(rng, targets);
    Kind::PauseAt(process, site, pass)
}

fn site(rng: &mut StdRng, targets: &Targets) -> (Process, String, u32) {
    let process = targets.process(rng);
    let calls = match process {
        Process::Scheduler(_) => failpoints::STORE.to_vec(),
        Process::Executor(_) => [failpoints::ENGINE, failpoints::DISK, failpoints::CONNECTION].concat(),
    };
    let site = failpoints::sites(&calls).choose(rng).expect("there are some").clone();
    (process, site, rng.random_range(1..6))
}
