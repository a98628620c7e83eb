//! Plays seeds of the simulation and judges each. Ends with one line of JSON.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use berth_integration_tests::simulation::{Report, run};
use serde_json::{Value, json};

/// The seeds that are played unless others are asked for.
const SEEDS: (u64, u64) = (0, 499);
/// A line is printed after so many seeds.
const PROGRESS: u64 = 50;

#[derive(Debug, Default)]
struct Totals {
    seeds: u64,
    commits: usize,
    faults: usize,
    leader_losses: usize,
    executor_losses: usize,
    lost_tail: usize,
    /// Of each failing seed, what was not as promised.
    violations: BTreeMap<u64, Vec<String>>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (range, trace) = match words.as_slice() {
        [] => (Some(SEEDS), None),
        ["--seeds", range] => (seeds(range), None),
        ["--seed", seed] => (seeds(seed), None),
        ["--seed", seed, "--trace", file] => (seeds(seed), Some(*file)),
        _ => (None, None),
    };
    let Some((first, last)) = range else {
        eprintln!("usage: sim [--seeds A-B | --seed N [--trace FILE]]");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let totals = play(first, last, trace);
    let ok = totals.violations.is_empty();
    for (seed, violations) in &totals.violations {
        println!("seed {seed}:\n  {}\n  again: ./run sim --seed {seed}", violations.join("\n  "));
    }
    println!(
        "{} seeds, {} commits, {} faults, {} leaders and {} executors lost, {} writes lost with the store: {} seeds failed",
        totals.seeds,
        totals.commits,
        totals.faults,
        totals.leader_losses,
        totals.executor_losses,
        totals.lost_tail,
        totals.violations.len()
    );
    let violations: Vec<Value> = totals
        .violations
        .iter()
        .flat_map(|(seed, all)| all.iter().map(move |story| json!({ "seed": seed, "story": story })))
        .collect();
    let failing: Vec<&u64> = totals.violations.keys().collect();
    let closing = json!({
        "recipe": "sim", "ok": ok, "seed": first, "seconds": began.elapsed().as_secs(),
        "seeds": totals.seeds, "commits": totals.commits, "faults": totals.faults,
        "leaderLosses": totals.leader_losses, "executorLosses": totals.executor_losses,
        "lostTail": totals.lost_tail, "violations": violations, "failingSeeds": failing,
    });
    println!("{closing}");
    ExitCode::from(u8::from(!ok))
}

/// Reads `A-B` or `N`.
fn seeds(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (first.parse().ok()?, last.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

/// Plays the seeds on as many threads as there are cores: a run keeps to its own.
fn play(first: u64, last: u64, trace: Option<&str>) -> Totals {
    let (next, totals) = (AtomicU64::new(first), Mutex::new(Totals::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed > last {
                        return;
                    }
                    let report = catch_unwind(AssertUnwindSafe(|| run(seed)));
                    if let (Some(file), Ok(report)) = (trace, &report)
                        && let Err(error) = std::fs::write(file, report.trace())
                    {
                        eprintln!("sim: {file} cannot be written: {error}");
                    }
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    totals.add(seed, report.ok().as_ref());
                    if totals.seeds.is_multiple_of(PROGRESS) {
                        println!("{} seeds played, {} failed", totals.seeds, totals.violations.len());
                    }
                }
            });
        }
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Totals {
    fn add(&mut self, seed: u64, report: Option<&Report>) {
        self.seeds += 1;
        let Some(report) = report else {
            self.violations.insert(seed, vec!["a part of the cluster panicked (see above)".to_owned()]);
            return;
        };
        self.commits += report.history.log.len() + report.history.tail.len();
        self.faults += report.faults;
        self.leader_losses += report.leader_losses();
        self.executor_losses += report.executor_losses();
        self.lost_tail += report.history.tail.len();
        let violations = report.violations();
        if !violations.is_empty() {
            self.violations.insert(seed, violations);
        }
    }
}
