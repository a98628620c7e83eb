//! Plays seeds of the simulation and judges each; of those that fail, the first are told as shortly as it
//! goes. Ends with one line of JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use berth_integration_tests::simulation::{Part, Plan, Report, play, shortened};
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

#[derive(Debug, Default)]
struct Totals {
    seeds: u64,
    commits: usize,
    faults: BTreeMap<&'static str, usize>,
    leader_losses: usize,
    executor_losses: usize,
    lost_tail: usize,
    /// Of each failing seed, what was not as promised.
    violations: BTreeMap<u64, Vec<String>>,
    /// Of a single seed.
    hash: String,
}

fn main() -> ExitCode {
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
fn play_all(wanted: &Wanted) -> Totals {
    let (next, totals) = (AtomicU64::new(wanted.seeds.0), Mutex::new(Totals::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed > wanted.seeds.1 || (wanted.is_first && totals_of(&totals).has_failed()) {
                        return;
                    }
                    let report = play(&plan(seed, wanted));
                    if let Some(file) = &wanted.trace
                        && let Err(error) = std::fs::write(file, report.trace())
                    {
                        eprintln!("sim: {file} cannot be written: {error}");
                    }
                    let mut totals = totals_of(&totals);
                    totals.add(seed, &report);
                    if totals.seeds.is_multiple_of(PROGRESS) {
                        println!("{} seeds played, {} failed", totals.seeds, totals.violations.len());
                    }
                }
            });
        }
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn totals_of(totals: &Mutex<Totals>) -> MutexGuard<'_, Totals> {
    totals.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Totals {
    fn has_failed(&self) -> bool {
        !self.violations.is_empty()
    }

    fn add(&mut self, seed: u64, report: &Report) {
        self.seeds += 1;
        self.commits += report.history.log.len() + report.history.tail.len();
        for (kind, count) in &report.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.leader_losses += report.leader_losses();
        self.executor_losses += report.executor_losses();
        self.lost_tail += report.history.tail.len();
        self.hash = report.trace_hash();
        let mut violations: Vec<String> = report.violations().iter().map(ToString::to_string).collect();
        violations
            .extend(report.panics.iter().map(|panic| format!("a part of the cluster panicked: {panic}")));
        if let Some(first) = violations.first() {
            println!("seed {seed} failed after {} s: {first}", report.took.as_secs());
            self.violations.insert(seed, violations);
        }
    }
}
