//! What becomes of jobs when something breaks: every fault of docs/failures.md on a real Redis, a real
//! Docker Engine and real processes, each on a cluster of its own. Ends with one line of JSON.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a row ends when its promise is broken"
)]

mod clients;
mod docker;
mod engine;
mod executors;
mod failover;
mod leaders;
mod machine;
mod points;
mod support;

use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

/// How many rows run at the same time: most of each is waiting.
const AT_ONCE: usize = 2;

/// One fault.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What is done.
    pub done: &'static str,
    /// It makes mounts, or starts an engine.
    pub needs_root: bool,
    /// Does it; gives what was seen, and panics where that is not what was promised.
    pub run: fn() -> String,
}

impl Row {
    /// A row that any user may run.
    pub const fn new(name: &'static str, done: &'static str, run: fn() -> String) -> Self {
        Self { name, done, needs_root: false, run }
    }

    /// A row that needs root.
    pub const fn rooted(name: &'static str, done: &'static str, run: fn() -> String) -> Self {
        Self { name, done, needs_root: true, run }
    }
}

struct Outcome {
    row: Row,
    seen: String,
    pass: bool,
    seconds: u64,
}

fn main() -> ExitCode {
    let all: Vec<Row> = [
        failover::ROWS,
        engine::ROWS,
        executors::ROWS,
        points::ROWS,
        leaders::ROWS,
        machine::ROWS,
        docker::ROWS,
        clients::ROWS,
    ]
    .concat();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<&str> = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => all.iter().map(|row| row.name).collect(),
        ["--only", names] => names.split(',').collect(),
        _ => Vec::new(),
    };
    let unknown = wanted.iter().find(|name| !all.iter().any(|row| row.name == **name));
    if wanted.is_empty() || unknown.is_some() {
        eprintln!("usage: losses [--only NAME,..]");
        for row in &all {
            eprintln!("  {:30} {}", row.name, row.done);
        }
        return ExitCode::from(2);
    }
    let is_root = nix::unistd::geteuid().is_root();
    let chosen = all.iter().copied().filter(|row| wanted.contains(&row.name));
    let (not_run, rows): (Vec<Row>, Vec<Row>) = chosen.partition(|row| row.needs_root && !is_root);
    let began = Instant::now();
    let outcomes = run_all(rows);
    let passed = outcomes.iter().filter(|outcome| outcome.pass).count();
    let ok = passed == outcomes.len();
    println!("{passed} of {} rows passed in {} s", outcomes.len(), began.elapsed().as_secs());
    for outcome in &outcomes {
        println!("{}  {:30} {:>4} s", verdict(outcome.pass), outcome.row.name, outcome.seconds);
    }
    for row in &not_run {
        println!("----  {:30} not run: needs root", row.name);
    }
    let rows: Vec<Value> = outcomes.iter().map(shown).collect();
    let not_run: Vec<Value> =
        not_run.iter().map(|row| json!({ "name": row.name, "why": "needs root" })).collect();
    let closing = json!({
        "recipe": "losses", "ok": ok, "seed": null, "seconds": began.elapsed().as_secs(),
        "rows": rows, "notRun": not_run,
    });
    println!("{closing}");
    // A run of nothing has shown nothing.
    ExitCode::from(if outcomes.is_empty() { 3 } else { u8::from(!ok) })
}

fn shown(outcome: &Outcome) -> Value {
    json!({ "name": outcome.row.name, "done": outcome.row.done, "seen": outcome.seen, "pass": outcome.pass })
}

fn verdict(pass: bool) -> &'static str {
    if pass { "PASS" } else { "FAIL" }
}

fn run_all(rows: Vec<Row>) -> Vec<Outcome> {
    let (queue, outcomes) = (Mutex::new(VecDeque::from(rows)), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(row) = next else { return };
                    let outcome = run(row);
                    println!(
                        "{}  {}: {} -> {} ({} s)",
                        verdict(outcome.pass),
                        row.name,
                        row.done,
                        outcome.seen,
                        outcome.seconds
                    );
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run(row: Row) -> Outcome {
    let began = Instant::now();
    let ran = catch_unwind(row.run);
    let seconds = began.elapsed().as_secs();
    match ran {
        Ok(seen) => Outcome { row, seen, pass: true, seconds },
        Err(broken) => {
            let said = broken.downcast_ref::<String>().cloned();
            let said = said.or_else(|| broken.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let seen = said.unwrap_or_else(|| "it broke".to_owned()).replace('\n', " ");
            Outcome { row, seen, pass: false, seconds }
        }
    }
}
