//! What a run consists of, drawn from its seed: the cluster's shape, the jobs, and what goes wrong. Each
//! seed draws a mix of its own: some kinds of fault and some features of jobs are left out of it, so that
//! those that remain meet each other more often.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use berth_api::v1;
use berth_domain::job::JobState;
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use rand::{Rng, SeedableRng};

use super::fault::{self, Fault, Kind, Silence};

/// A run, before it is played.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where all of its randomness comes from.
    pub seed: u64,
    /// How many scheduler replicas.
    pub schedulers: usize,
    /// The executors' machines.
    pub machines: Vec<Machine>,
    /// How long the store keeps a change in its log.
    pub log_age: Duration,
    /// How long each process runs before the next one has its turn.
    pub tick: Duration,
    /// What each call of the store takes: others may come between a read and the commit that rests on it.
    pub store_latency: Duration,
    /// What clients want, in the order of their submits.
    pub jobs: Vec<Wish>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What an operator does.
    pub rounds: Vec<Round>,
}

/// An executor's machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its cores.
    pub cores: usize,
    /// How many GPUs of which model it has.
    pub gpus: (usize, &'static str),
    /// How far its clock is from the truth, in milliseconds.
    pub skew_ms: i64,
    /// Its label `zone`, of which each life of its executor has one; empty for none.
    pub zones: [&'static str; 2],
}

/// What a client wants.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Its number, which stays when others are left out.
    pub number: usize,
    /// What is run; the image `missing` does not exist, and `slow-pull` takes 5 s to come.
    pub image: &'static str,
    /// The command, in the simulated engine's words.
    pub command: String,
    /// What becomes of it with its executor.
    pub on_lost: v1::OnLost,
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// GPUs of any model.
    pub gpus: i32,
    /// What the executor's labels must meet; empty for nothing.
    pub constraint: &'static str,
    /// 0 to 100.
    pub priority: i32,
    /// Retries of its own failures.
    pub max_retries: i32,
    /// How long it may wait; `None` for ever.
    pub queue_timeout: Option<Duration>,
    /// How long it may run.
    pub run_timeout: Option<Duration>,
    /// Between the signals.
    pub stop_grace: Duration,
    /// How it ends if nothing else ends it.
    pub end: JobState,
    /// The pause before its submit.
    pub pause: Duration,
    /// It is aborted that long after it was acknowledged.
    pub abort_after: Option<Duration>,
}

impl Wish {
    /// The code that the command exits with if nothing ends it before.
    pub fn code(&self) -> i32 {
        let mut words = self.command.split(' ');
        match words.next() {
            Some("true" | "sleep" | "ignore-term") => 0,
            Some("exit") => words.next().and_then(|code| code.parse().ok()).unwrap_or_default(),
            // There is no such command.
            Some(_) | None => 127,
        }
    }
}

/// An operator's round: an executor is emptied, and put back into service.
#[derive(Debug, Clone)]
pub struct Round {
    /// Its number, which stays when others are left out.
    pub number: usize,
    /// The executor.
    pub executor: usize,
    /// When it begins.
    pub begins: Duration,
    /// What still runs then is stopped and put back.
    pub deadline_ms: Option<u64>,
    /// When it is put back.
    pub lasts: Duration,
}

/// What may be left out of a plan, or kept alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A job, by its number.
    Job(usize),
    /// A fault, by its number.
    Fault(usize),
    /// An operator's round, by its number.
    Round(usize),
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(number) => write!(formatter, "job.{number}"),
            Self::Fault(number) => write!(formatter, "fault.{number}"),
            Self::Round(number) => write!(formatter, "round.{number}"),
        }
    }
}

impl Part {
    /// Reads a part as it is shown.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, number) = text.split_once('.')?;
        let number = number.parse().ok()?;
        match kind {
            "job" => Some(Self::Job(number)),
            "fault" => Some(Self::Fault(number)),
            "round" => Some(Self::Round(number)),
            _ => None,
        }
    }
}

/// Which features the jobs of a seed have, and how much they ask for.
struct Mix {
    on_lost: Vec<v1::OnLost>,
    quick: bool,
    aborts: bool,
    gpus: bool,
    limits: bool,
    images: bool,
    stubborn: bool,
    large: bool,
}

impl Plan {
    /// Draws the plan of a seed.
    pub fn drawn(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let schedulers = *[1, 2, 2, 3].choose(&mut rng).expect("there is a choice");
        let executors = *[1, 2, 2, 3, 4].choose(&mut rng).expect("there is a choice");
        let skewed = rng.random_bool(0.3);
        let mut machines = (0..executors).map(|_| machine(&mut rng, skewed)).collect::<Vec<_>>();
        let mix = Mix {
            on_lost: on_lost(&mut rng),
            quick: rng.random_bool(0.25),
            aborts: rng.random_bool(0.6),
            gpus: rng.random_bool(0.4),
            limits: rng.random_bool(0.4),
            images: rng.random_bool(0.3),
            stubborn: rng.random_bool(0.3),
            large: rng.random_bool(0.3),
        };
        let gap_ms = *[50, 400, 1_000, 2_000].choose(&mut rng).expect("there is a choice");
        let count = rng.random_range(8..28);
        let mut jobs: Vec<Wish> = (0..count).map(|number| wish(&mut rng, number, &mix, gap_ms)).collect();
        lengthen(&mut rng, &mut jobs);
        if rng.random_bool(0.5) {
            come_late(&mut rng, &mut jobs);
        }
        zone(seed, &mut machines, &mut jobs);
        let mut faults = fault::drawn(&mut rng, schedulers, executors);
        set_back(seed, schedulers, &mut jobs, &mut faults);
        let rounds = if rng.random_bool(0.5) { rng.random_range(1..3) } else { 0 };
        let rounds = (0..rounds).map(|number| round(&mut rng, number, executors)).collect();
        let log_age = Duration::from_secs(if rng.random_bool(0.2) { 2 } else { 60 });
        let tick = Duration::from_millis(*[5, 10, 20].choose(&mut rng).expect("there is a choice"));
        let store_latency =
            Duration::from_millis(*[0, 0, 6, 40].choose(&mut rng).expect("there is a choice"));
        Self { seed, schedulers, machines, log_age, tick, store_latency, jobs, faults, rounds }
    }

    /// Everything that may be left out.
    pub fn parts(&self) -> Vec<Part> {
        let faults = self.faults.iter().map(|fault| Part::Fault(fault.number));
        let rounds = self.rounds.iter().map(|round| Part::Round(round.number));
        let jobs = self.jobs.iter().map(|wish| Part::Job(wish.number));
        faults.chain(rounds).chain(jobs).collect()
    }

    /// Gives the plan with some of its parts only.
    #[must_use]
    pub fn only(&self, parts: &BTreeSet<Part>) -> Self {
        let mut plan = self.clone();
        plan.jobs.retain(|wish| parts.contains(&Part::Job(wish.number)));
        plan.faults.retain(|fault| parts.contains(&Part::Fault(fault.number)));
        plan.rounds.retain(|round| parts.contains(&Part::Round(round.number)));
        plan
    }

    /// The executor whose machine dies for good, if one does.
    pub fn dead(&self) -> Option<usize> {
        self.faults.iter().find_map(|fault| match fault.kind {
            Kind::Death(executor) => Some(executor),
            _ => None,
        })
    }
}

/// Draws what becomes of the jobs of a seed with their executors: of each what it wants, or of all the same.
fn on_lost(rng: &mut StdRng) -> Vec<v1::OnLost> {
    let all = [v1::OnLost::Retry, v1::OnLost::Fail, v1::OnLost::Hold];
    if rng.random_bool(0.5) { all.to_vec() } else { vec![*all.choose(rng).expect("there is a choice")] }
}

fn machine(rng: &mut StdRng, skewed: bool) -> Machine {
    let gpus = *[(0, ""), (1, "t4"), (2, "a100")].choose(rng).expect("there is a choice");
    let skew_ms = if skewed { rng.random_range(-3_600_000..3_600_000) } else { 0 };
    Machine { cores: rng.random_range(1..4), gpus, skew_ms, zones: ["", ""] }
}

/// Gives some clusters zones, and lets jobs ask for them: what is drawn for all else stays as it is without.
fn zone(seed: u64, machines: &mut [Machine], jobs: &mut [Wish]) {
    let mut rng = StdRng::seed_from_u64(seed.rotate_left(32) ^ 0x7a6f_6e65);
    if !rng.random_bool(0.3) {
        return;
    }
    for machine in machines {
        let mut zone = || *["", "a", "b"].choose(&mut rng).expect("there is a choice");
        machine.zones = [zone(), zone()];
    }
    for wish in jobs {
        if !rng.random_bool(0.4) {
            continue;
        }
        let constraints = ["zone=a", "zone!=a", "!zone", "zone in (a, b)"];
        wish.constraint = constraints.choose(&mut rng).expect("there is a choice");
        // There may be none such.
        let timeout = Duration::from_secs(rng.random_range(1..30));
        wish.queue_timeout.get_or_insert(timeout);
    }
}

/// Lets some stores fail over to an empty copy whose clock is far behind while a replica does not see it, and jobs for
/// which there is no place come through all that: what is dated by the time before waits for as much longer.
fn set_back(seed: u64, schedulers: usize, jobs: &mut [Wish], faults: &mut Vec<Fault>) {
    let mut rng = StdRng::seed_from_u64(seed.rotate_left(32) ^ 0x636c_6f63);
    if !rng.random_bool(0.04) || schedulers < 2 {
        return;
    }
    for wish in jobs.iter_mut() {
        wish.pause = Duration::from_millis(rng.random_range(50..400));
        if rng.random_bool(0.7) {
            wish.cpu_millis = 4_000;
            wish.queue_timeout = Some(Duration::from_secs(rng.random_range(1..6)));
        }
    }
    let at_ms = rng.random_range(400..3_000);
    let behind_ms = rng.random_range(1_800_000..3_600_000);
    let number = faults.iter().map(|fault| fault.number + 1).max().unwrap_or_default();
    let unseen = Kind::Store(Silence::Stalled, Some(rng.random_range(0..schedulers)));
    let lag = Duration::from_millis(at_ms + 200);
    let of_it = [(0, 6_000, unseen), (200, 0, Kind::ClockStep(-behind_ms)), (200, 0, Kind::FailOver(lag))];
    faults.extend((number..).zip(of_it).map(|(number, (after_ms, lasts_ms, kind))| Fault {
        number,
        at: Duration::from_millis(at_ms + after_ms),
        lasts: Duration::from_millis(lasts_ms),
        kind,
    }));
}

fn wish(rng: &mut StdRng, number: usize, mix: &Mix, gap_ms: u64) -> Wish {
    let lasts_ms = rng.random_range(1..100) * 100;
    let seconds = format!("{}.{}", lasts_ms / 1_000, lasts_ms / 100 % 10);
    let (command, end) = match rng.random_range(0..10) {
        0 | 1 => ("true".to_owned(), JobState::Succeeded),
        2.. if mix.quick && rng.random_bool(0.7) => ("true".to_owned(), JobState::Succeeded),
        2 => (format!("exit {}", rng.random_range(1..125)), JobState::Failed),
        3 => ("nothing-of-that-name".to_owned(), JobState::Failed),
        4 if mix.stubborn => (format!("ignore-term {seconds}"), JobState::Succeeded),
        _ => (format!("sleep {seconds}"), JobState::Succeeded),
    };
    let mut wish = Wish {
        number,
        image: "job",
        command,
        on_lost: *mix.on_lost.choose(rng).expect("there is a choice"),
        cpu_millis: *[250, 500, 1_000].choose(rng).expect("there is a choice"),
        gpus: 0,
        constraint: "",
        priority: 50,
        max_retries: 0,
        queue_timeout: None,
        run_timeout: None,
        stop_grace: Duration::from_secs(10),
        end,
        pause: Duration::from_millis(rng.random_range(0..gap_ms)),
        abort_after: None,
    };
    if mix.large && rng.random_bool(0.2) {
        // Not every machine is so large: it may wait for one that has died.
        wish.cpu_millis = 2_000;
        wish.queue_timeout = Some(Duration::from_secs(rng.random_range(1..30)));
    }
    if mix.gpus && rng.random_bool(0.4) {
        wish.gpus = rng.random_range(1..3);
        wish.queue_timeout = Some(Duration::from_secs(rng.random_range(1..30)));
    }
    if mix.limits {
        limit(rng, &mut wish);
    }
    if mix.images && rng.random_bool(0.3) {
        wish.image = if rng.random_bool(0.3) { "missing" } else { "slow-pull" };
        if wish.image == "missing" {
            wish.end = JobState::Failed;
        }
    }
    if mix.aborts && rng.random_bool(0.2) {
        let after_ms = match rng.random_range(0..4) {
            0 => rng.random_range(0..300),
            // About when it ends by itself, if it could start at once.
            1 => lasts_ms + rng.random_range(0..400),
            _ => rng.random_range(0..8_000),
        };
        wish.abort_after = Some(Duration::from_millis(after_ms));
        if wish.image != "missing" && rng.random_bool(0.7) {
            (wish.command, wish.end) = ("sleep 600".to_owned(), JobState::Aborted);
            wish.run_timeout = None;
        }
    }
    wish
}

/// Makes some jobs run for longer than an executor is waited for: they still run when it is judged lost, or
/// comes back.
fn lengthen(rng: &mut StdRng, jobs: &mut [Wish]) {
    if !rng.random_bool(0.3) {
        return;
    }
    for wish in jobs.iter_mut().filter(|wish| wish.abort_after.is_none() && wish.run_timeout.is_none()) {
        if wish.command.starts_with("sleep") && rng.random_bool(0.3) {
            wish.command = format!("sleep {}", rng.random_range(40..100));
        }
    }
}

/// Lets nothing happen for a while before one of the jobs, which may fit nowhere: then nothing happens after
/// it either, until its time in the queue is over.
fn come_late(rng: &mut StdRng, jobs: &mut [Wish]) {
    let from = if rng.random_bool(0.6) { jobs.len() - 1 } else { 0 };
    let late = jobs[from..].choose_mut(rng).expect("there are some");
    late.pause = Duration::from_millis(rng.random_range(5_000..40_000));
    if rng.random_bool(0.4) {
        late.cpu_millis = 4_000;
        late.queue_timeout = Some(Duration::from_secs(rng.random_range(1..30)));
    }
}

/// Gives a job limits and a place in the queue.
fn limit(rng: &mut StdRng, wish: &mut Wish) {
    wish.priority = rng.random_range(0..101);
    wish.stop_grace = Duration::from_millis(rng.random_range(0..4_000));
    if rng.random_bool(0.2) {
        (wish.command, wish.end) = ("sleep 300".to_owned(), JobState::Failed);
        wish.run_timeout = Some(Duration::from_millis(rng.random_range(500..6_000)));
    }
    if wish.on_lost != v1::OnLost::Fail && rng.random_bool(0.3) {
        wish.max_retries = rng.random_range(1..3);
    }
}

fn round(rng: &mut StdRng, number: usize, executors: usize) -> Round {
    Round {
        number,
        executor: rng.random_range(0..executors),
        begins: Duration::from_millis(rng.random_range(500..8_000)),
        deadline_ms: rng.random_bool(0.7).then(|| rng.random_range(0..5_000)),
        lasts: Duration::from_millis(rng.random_range(1_000..30_000)),
    }
}
