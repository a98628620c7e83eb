//! Plays seeds of the simulation and judges each; of those that fail, the first are told as shortly as it
//! goes. Ends with one line of JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use berth_integration_tests::simulation::{Part, Plan, Report, play, shortened};
use berth_integration_tests::tools::from_caller;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The seeds that are played unless others are asked for.
const SEEDS: (u64, u64) = (0, 499);
/// A line is printed after so many seeds.
const PROGRESS: u64 = 1_000;
/// So many failing seeds are told shortly.
const STORIES: usize = 3;

/// What is asked for.
#[derive(Debug)]
struct Wanted {
    seeds: (u64, u64),
    only: Option<BTreeSet<Part>>,
    trace: Option<String>,
    /// A failing seed is told as it is.
    is_plain: bool,
    /// The first failing seed is enough.
    is_first: bool,
}

/// Makes a process one that plays the seeds it is told, and tells what became of each.
const WORKER: &str = "--worker";

/// What became of a seed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Played {
    commits: usize,
    faults: BTreeMap<String, usize>,
    leader_losses: usize,
    executor_losses: usize,
    lost_tail: usize,
    violations: Vec<String>,
    hash: String,
}

#[derive(Debug, Default)]
struct Totals {
    seeds: u64,
    commits: usize,
    faults: BTreeMap<String, usize>,
    leader_losses: usize,
    executor_losses: usize,
    lost_tail: usize,
    /// Of each failing seed, what was not as promised.
    violations: BTreeMap<u64, Vec<String>>,
    /// Of a single seed.
    hash: String,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == WORKER) {
        return work();
    }
    let Some(wanted) = wanted(std::env::args().skip(1)) else {
        eprintln!("usage: sim [--seeds A-B | --seed N [--only PART,...] [--trace FILE]] [--plain] [--first]");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let totals = play_all(&wanted);
    let ok = !totals.has_failed();
    for (seed, violations) in totals.violations.iter().take(STORIES) {
        let story = if wanted.is_plain || wanted.is_first { None } else { shortened(&plan(*seed, &wanted)) };
        match story {
            Some(story) => println!("{story}"),
            None => println!("seed {seed}:\n  {}\n  again: ./run sim --seed {seed}", violations.join("\n  ")),
        }
    }
    let count: usize = totals.faults.values().sum();
    let kinds: Vec<String> = totals.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    println!("faults: {}", kinds.join(", "));
    println!(
        "{} seeds, {} commits, {count} faults, {} leaders and {} executors lost, {} writes lost with the store: {} seeds failed",
        totals.seeds,
        totals.commits,
        totals.leader_losses,
        totals.executor_losses,
        totals.lost_tail,
        totals.violations.len()
    );
    let stories = totals.violations.iter().take(100);
    let violations: Vec<Value> = stories
        .flat_map(|(seed, all)| all.iter().map(move |story| json!({ "seed": seed, "story": story })))
        .collect();
    let failing: Vec<&u64> = totals.violations.keys().collect();
    let mut closing = json!({
        "recipe": "sim", "ok": ok, "seed": wanted.seeds.0, "seconds": began.elapsed().as_secs(),
        "seeds": totals.seeds, "commits": totals.commits, "faults": count, "faultKinds": totals.faults,
        "leaderLosses": totals.leader_losses, "executorLosses": totals.executor_losses,
        "lostTail": totals.lost_tail, "violations": violations, "failingSeeds": failing,
    });
    if wanted.seeds.0 == wanted.seeds.1 {
        closing["traceHash"] = json!(totals.hash);
    }
    println!("{closing}");
    ExitCode::from(u8::from(!ok))
}

fn wanted(mut arguments: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted { seeds: SEEDS, only: None, trace: None, is_plain: false, is_first: false };
    let mut is_single = false;
    while let Some(option) = arguments.next() {
        match option.as_str() {
            "--plain" => wanted.is_plain = true,
            "--first" => wanted.is_first = true,
            "--seeds" => wanted.seeds = seeds(&arguments.next()?)?,
            "--seed" => {
                let seed = arguments.next()?.parse().ok()?;
                (wanted.seeds, is_single) = ((seed, seed), true);
            }
            "--only" => {
                wanted.only = Some(arguments.next()?.split(',').map(Part::parse).collect::<Option<_>>()?);
            }
            "--trace" => wanted.trace = Some(arguments.next()?),
            _ => return None,
        }
    }
    (is_single || (wanted.trace.is_none() && wanted.only.is_none())).then_some(wanted)
}

fn plan(seed: u64, wanted: &Wanted) -> Plan {
    let plan = Plan::drawn(seed);
    wanted.only.as_ref().map_or_else(|| plan.clone(), |parts| plan.only(parts))
}

/// Reads `A-B` or `N`.
fn seeds(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (first.parse().ok()?, last.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

/// Plays the seeds on as many threads as there are cores: a run keeps to its own.
/// Plays seeds in several processes, since in one no two may be played at the same time; a single one here.
fn play_all(wanted: &Wanted) -> Totals {
    let (next, totals) = (AtomicU64::new(wanted.seeds.0), Mutex::new(Totals::default()));
    if wanted.seeds.0 == wanted.seeds.1 {
        totals_of(&totals).add(wanted.seeds.0, play_here(wanted));
        return totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    }
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                let mut worker = Worker::start();
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed > wanted.seeds.1 || (wanted.is_first && totals_of(&totals).has_failed()) {
                        return;
                    }
                    let played =
                        worker.as_mut().map_err(|error| error.to_string()).and_then(|w| w.play(seed));
                    if played.is_err() {
                        worker = Worker::start();
                    }
                    totals_of(&totals).add(seed, played.unwrap_or_else(Played::broken));
                }
            });
        }
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn play_here(wanted: &Wanted) -> Played {
    let report = play(&plan(wanted.seeds.0, wanted));
    if let Some(file) = &wanted.trace
        && let Err(error) = std::fs::write(from_caller(file), report.trace())
    {
        eprintln!("sim: {file} cannot be written: {error}");
    }
    Played::of(&report)
}

/// A process that plays.
struct Worker {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start() -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg(WORKER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, answers: BufReader::new(answers) })
    }

    fn play(&mut self, seed: u64) -> Result<Played, String> {
        let mut line = String::new();
        let mut ask = || {
            writeln!(self.child.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?, "{seed}")?;
            self.answers.read_line(&mut line)
        };
        ask().map_err(|error| error.to_string())?;
        serde_json::from_str(&line).map_err(|error| error.to_string())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without anything to read it ends.
        drop(self.child.stdin.take());
        // One that was killed has ended, too.
        let _ = self.child.wait();
    }
}

/// Plays seeds as they are told, one a line, and tells what became of each in a line.
fn work() -> ExitCode {
    for line in io::stdin().lines() {
        let Some(seed) = line.ok().and_then(|line| line.parse().ok()) else { return ExitCode::from(2) };
        let played = Played::of(&play(&Plan::drawn(seed)));
        let Ok(text) = serde_json::to_string(&played) else { return ExitCode::from(1) };
        println!("{text}");
    }
    ExitCode::SUCCESS
}

fn totals_of(totals: &Mutex<Totals>) -> MutexGuard<'_, Totals> {
    totals.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Totals {
    fn has_failed(&self) -> bool {
        !self.violations.is_empty()
    }

    fn add(&mut self, seed: u64, played: Played) {
        self.seeds += 1;
        self.commits += played.commits;
        for (kind, count) in played.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.leader_losses += played.leader_losses;
        self.executor_losses += played.executor_losses;
        self.lost_tail += played.lost_tail;
        self.hash = played.hash;
        if let Some(first) = played.violations.first() {
            println!("seed {seed} failed: {first}");
            self.violations.insert(seed, played.violations);
        }
        if self.seeds.is_multiple_of(PROGRESS) {
            println!("{} seeds played, {} failed", self.seeds, self.violations.len());
        }
    }
}

impl Played {
    fn of(report: &Report) -> Self {
        let panics = report.panics.iter().map(|panic| format!("a part of the cluster panicked: {panic}"));
        let endless = (!report.is_complete).then(|| "the run came to no end".to_owned());
        Self {
            commits: report.history.log.len() + report.history.tail.len(),
            faults: report.faults.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            leader_losses: report.leader_losses(),
            executor_losses: report.executor_losses(),
            lost_tail: report.history.tail.len(),
            violations: report
                .violations()
                .iter()
                .map(ToString::to_string)
                .chain(panics)
                .chain(endless)
                .collect(),
            hash: report.trace_hash(),
        }
    }

    fn broken(why: String) -> Self {
        Self { violations: vec![format!("whoever plays it broke: {why}")], ..Self::default() }
    }
}
