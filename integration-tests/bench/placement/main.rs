//! Measures placement policies on the openb trace of a production GPU cluster: the published ones, by their
//! definitions, on the same sequences of pods. Ends with one line of JSON.

mod arrivals;
mod checks;
#[cfg(test)]
mod checks_tests;
mod cluster;
mod dynamic;
mod misfits;
mod options;
mod plot;
mod policies;
mod report;
mod rounds;
#[cfg(test)]
mod runs_tests;
mod trace;
mod waiting;
mod whole;
mod workload;

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::arrivals::{MARKS_PCT, batch, online, whole_batch};
use crate::checks::Verdict;
use crate::cluster::Cluster;
use crate::dynamic::dynamic;
use crate::options::{Failure, Mode, Wanted};
use crate::policies::Kind;
use crate::report::Row;
use crate::rounds::{Timed, peak_memory_mib, rounds};
use crate::trace::{Fleet, read_fleet, read_trace};
use crate::waiting::OneByOne;
use crate::whole::Whole;
use crate::workload::Workload;

/// Keeps the numbers that nodes are shuffled by apart from those that pods are.
const ORDER: u64 = 1 << 63;

/// One run: a policy, a trace and a seed.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    policy: Kind,
    workload: &'a Workload,
    seed: u64,
}

fn main() -> ExitCode {
    let began = Instant::now();
    match measure(began) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn measure(began: Instant) -> Result<(), Failure> {
    let wanted = options::read(std::env::args().skip(1))?;
    let fleet = read_fleet(&wanted.nodes)?;
    let read = |file: &std::path::PathBuf| Workload::of(&read_trace(file, &fleet)?, wanted.variant);
    let workloads: Vec<Workload> = wanted.pods.iter().map(read).collect::<Result<_, _>>()?;
    let (rows, verdict) = match wanted.mode {
        Mode::Rounds => {
            let (cluster, seed) = (in_order(&fleet, wanted.is_shuffled, wanted.seeds.0), wanted.seeds.0);
            let timed: Vec<Timed> =
                workloads.iter().flat_map(|workload| rounds(&cluster, workload, seed)).collect();
            (timed.iter().map(Timed::json).collect(), Verdict::of_rounds(&timed))
        }
        Mode::Online | Mode::Batch | Mode::Dynamic(_) => {
            let rows = run_all(&runs(&workloads, &wanted), &fleet, &wanted)?;
            report::print(&rows, &wanted);
            if let Some(file) = &wanted.plot {
                plot::draw(&rows, file)?;
            }
            (rows.iter().map(Row::json).collect(), Verdict::of_policies(&rows, &wanted))
        }
    };
    let verdict = wanted.is_checked.then_some(verdict);
    verdict.iter().for_each(Verdict::print);
    close(began, &wanted, rows, verdict.as_ref())
}

fn runs<'a>(workloads: &'a [Workload], wanted: &Wanted) -> Vec<Run<'a>> {
    let mut runs = Vec::new();
    for workload in workloads {
        for policy in &wanted.policies {
            let seeds = wanted.seeds.0..=wanted.seeds.1;
            runs.extend(seeds.map(|seed| Run { policy: *policy, workload, seed }));
        }
    }
    runs
}

/// Prints the last line.
///
/// # Errors
/// Fails where what is promised was asked for and is not so.
fn close(
    began: Instant,
    wanted: &Wanted,
    rows: Vec<Value>,
    verdict: Option<&Verdict>,
) -> Result<(), Failure> {
    let outcome = verdict.map_or(Ok(()), Verdict::outcome);
    let closing = json!({
        "recipe": "bench", "ok": outcome.is_ok(), "seed": wanted.seeds.0, "seconds": began.elapsed().as_secs(),
        "conditions": report::conditions(wanted), "peakMemoryMib": peak_memory_mib(), "rows": rows,
        "checks": verdict.map(Verdict::json),
    });
    println!("{closing}");
    outcome
}

/// Runs on as many threads as there are cores; the rows stand in the order of the runs.
fn run_all(runs: &[Run<'_>], fleet: &Fleet, wanted: &Wanted) -> Result<Vec<Row>, Failure> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((position, run)) = next_of(runs, &next) {
                    let rows = rows_of(run, fleet, wanted);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((position, rows));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(position, _)| *position);
    let rows: Vec<Vec<Row>> = done.into_iter().map(|(_, rows)| rows).collect::<Result<_, _>>()?;
    Ok(rows.into_iter().flatten().collect())
}

fn next_of<'a, 'b>(runs: &'a [Run<'b>], next: &AtomicUsize) -> Option<(usize, &'a Run<'b>)> {
    let position = next.fetch_add(1, Ordering::Relaxed);
    runs.get(position).map(|run| (position, run))
}

/// # Errors
/// A policy that gives out what is not there has measured nothing.
fn rows_of(run: &Run<'_>, fleet: &Fleet, wanted: &Wanted) -> Result<Vec<Row>, Failure> {
    let Run { policy: kind, workload, seed } = *run;
    let row = |arrived_pct, placed, waits| Row {
        policy: kind,
        trace: workload.name.clone(),
        seed,
        arrived_pct,
        placed,
        waits,
    };
    let empty = in_order(fleet, wanted.is_shuffled, seed);
    let pods = || workload.arrivals(empty.gpu_millis(), seed);
    let (mut cluster, mut policy) = (empty.clone(), kind.make(&empty, workload, seed));
    let mut is_sound = true;
    let rows = match wanted.mode {
        Mode::Online => {
            let marks = online(&mut cluster, workload, &pods(), policy.as_mut());
            marks.into_iter().map(|(mark, placed)| row(mark as f64, placed, None)).collect()
        }
        Mode::Batch => {
            let pods = pods();
            let mut rows = Vec::new();
            for mark in MARKS_PCT {
                (cluster, policy) = (empty.clone(), kind.make(&empty, workload, seed));
                let placed = match kind.own_queue() {
                    Some(is_told) => {
                        let whole = Whole::new(&mut cluster, workload, is_told, wanted.reach);
                        whole_batch(whole, &empty, workload, &pods, mark)
                    }
                    None => batch(&mut cluster, workload, &pods, mark, policy.as_mut()),
                };
                is_sound &= cluster.is_sound();
                rows.push(row(mark as f64, placed, None));
            }
            rows
        }
        // Measured apart: nothing is decided.
        Mode::Rounds => Vec::new(),
        Mode::Dynamic(load) => {
            let all = empty.gpu_millis();
            let (placed, waits) = match kind.own_queue() {
                Some(is_told) => dynamic(
                    &mut Whole::new(&mut cluster, workload, is_told, wanted.reach),
                    workload,
                    all,
                    load,
                    seed,
                ),
                None => {
                    let mut waiting = OneByOne::new(&mut cluster, workload, policy.as_mut());
                    dynamic(&mut waiting, workload, all, load, seed)
                }
            };
            vec![row(load * 100.0, placed, Some(waits))]
        }
    };
    if is_sound && cluster.is_sound() {
        Ok(rows)
    } else {
        Err(Failure::failed(format!("{} gave out more than there is, at seed {seed}.", kind.name())))
    }
}

/// The empty cluster, in the order of the file or in one drawn from the seed.
fn in_order(fleet: &Fleet, is_shuffled: bool, seed: u64) -> Cluster {
    let mut nodes = fleet.nodes.clone();
    if is_shuffled {
        nodes.shuffle(&mut StdRng::seed_from_u64(seed ^ ORDER));
    }
    Cluster { nodes }
}
