//! A cluster of real processes on hosts of their own, a real Redis and real Docker Engines, under load,
//! while everything that can break does. What happened is judged as in the simulation. Ends with one line
//! of JSON.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a run ends when its ground gives way"
)]

mod crowd;
mod faults;
mod hosts;
mod neighbours;
mod plan;
mod reader;
mod report;
mod stage;
mod witness;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use berth_domain::job::JobState;
use berth_integration_tests::clients::Caller;
use berth_integration_tests::docker::require_image;
use berth_integration_tests::history::History;
use berth_integration_tests::seen::Seen;

use crate::crowd::{Crowd, Network};
use crate::faults::{Begun, Ground};
use crate::neighbours::Neighbours;
use crate::plan::{Fault, Kind, Plan, Shape};
use crate::reader::Reader;
use crate::report::Outcome;
use crate::stage::{LOST_AFTER, Stage};
use crate::witness::Witness;

/// Replicas.
const SCHEDULERS: usize = 3;
/// Executors on the machine's engine.
const EXECUTORS: usize = 3;
/// Each fault hits at least so many jobs that run.
const RUNNING: usize = 4;
/// And so many that wait.
const PENDING: usize = 20;
/// How long that is waited for.
const BUSY_WITHIN: Duration = Duration::from_secs(60);
/// What is kept of the time for everything to end.
const SETTLE: Duration = Duration::from_secs(75);
/// By then everything must have ended: a minute after the last fault, and a job's own time.
const ENDS_WITHIN: Duration = Duration::from_secs(90);
/// After the last end: whoever was away stops what is no longer wanted, and watchers hear the last of it.
const QUIET_FOR: Duration = Duration::from_secs(12);
/// How often engines are listened to.
const LISTEN_EVERY: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    minutes: u64,
    seed: u64,
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("time has begun");
    u64::try_from(now.as_millis()).expect("it is not that late")
}

fn main() -> ExitCode {
    let Some(wanted) = wanted(std::env::args().skip(1)) else {
        eprintln!("usage: chaos [--minutes N] [--seed N]");
        return ExitCode::from(2);
    };
    if let Err(what) = hosts::enter() {
        eprintln!("chaos: {what} is missing, or may not be used here.");
        return ExitCode::from(4);
    }
    require_image();
    report::tell(wanted, &play(wanted))
}

fn wanted(mut arguments: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted { minutes: 4, seed: 1 };
    while let Some(option) = arguments.next() {
        let value = arguments.next()?.parse().ok()?;
        match option.as_str() {
            "--minutes" => wanted.minutes = value,
            "--seed" => wanted.seed = value,
            _ => return None,
        }
    }
    (wanted.minutes > 0).then_some(wanted)
}

fn play(wanted: Wanted) -> Outcome {
    // Whoever is root can have an engine to break.
    let shape = Shape { executors: EXECUTORS, has_engine: is_root() };
    let mut stage = Stage::start(SCHEDULERS, EXECUTORS, shape.has_engine);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let seen = Seen::default();
    let reader = Reader::begin(&stage.cluster, &stage.redis, &seen, runtime.handle());
    let neighbours = Neighbours::settle(&stage.cluster);
    let main = Mutex::new(Witness::begin(&stage.cluster, None));
    let other =
        stage.engine.as_ref().map(|engine| Mutex::new(Witness::begin(&stage.cluster, Some(engine.host()))));
    let caller =
        Caller { ways: Arc::new(Network(stage.addresses())), seen: seen.clone(), turn: Arc::default() };
    let mut crowd = Crowd::begin(wanted.seed, &caller, runtime.handle());
    let is_over = AtomicBool::new(false);
    let mut outcome = Outcome::new(Plan::kinds(shape));
    let began = outcome.began;
    println!("{SCHEDULERS} schedulers, {} executors, Redis with a replica", stage.executors.len());
    std::thread::scope(|scope| {
        for witness in std::iter::once(&main).chain(&other) {
            let is_over = &is_over;
            scope.spawn(move || listen(witness, is_over));
        }
        let _over = Over(&is_over);
        let mut complaints = Vec::new();
        let mut ground = Ground {
            stage: &mut stage,
            reader: &reader,
            seen: &seen,
            witness: other.as_ref(),
            complaints: &mut complaints,
        };
        let mut plan = Plan::drawn(wanted.seed, shape);
        let until = Duration::from_secs(wanted.minutes * 60).saturating_sub(SETTLE);
        while began.elapsed() < until {
            play_round(&mut ground, &plan.next(), &mut outcome);
        }
        outcome.calm_since_ms = now_ms();
        println!("{:>4} s: faults are over", began.elapsed().as_secs());
        settle(&mut crowd, &seen);
        complaints.extend(stage.missing());
        outcome.complaints = complaints;
    });
    reader.catch_up(&stage.redis);
    seen.set_over();
    outcome.ordered = crowd.ordered();
    runtime.block_on(crowd.end());
    outcome.history = gather(&seen, &mut outcome, main, other);
    outcome.history.neighbours = neighbours.account(now_ms());
    outcome
}

/// Lets those end that listen, however the run ended.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Says whether whoever is root here is that outside, too.
fn is_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn listen(witness: &Mutex<Witness>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        witness.lock().expect("nobody broke it").look();
        std::thread::sleep(LISTEN_EVERY);
    }
}

/// Waits until enough runs and waits for a fault to hit; says whether it does.
fn is_busy(seen: &Seen) -> bool {
    let end = Instant::now() + BUSY_WITHIN;
    while Instant::now() < end {
        let (running, pending) = at_work(seen);
        if running >= RUNNING && pending >= PENDING {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// How many jobs run, and how many wait.
fn at_work(seen: &Seen) -> (usize, usize) {
    let record = seen.record();
    let count = |wanted| record.count(|state| state == wanted);
    (count(JobState::Running), count(JobState::Pending))
}

fn play_round(ground: &mut Ground<'_>, round: &plan::Round, outcome: &mut Outcome) {
    let long = round.long.map(|fault| (begin(ground, fault, outcome), Instant::now() + fault.lasts));
    for fault in &round.short {
        let begun = begin(ground, *fault, outcome);
        std::thread::sleep(fault.lasts);
        ground.end(begun);
    }
    if let Some((begun, end)) = long {
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        ground.end(begun);
    }
}

fn begin(ground: &mut Ground<'_>, fault: Fault, outcome: &mut Outcome) -> Begun {
    if !is_busy(ground.seen) {
        outcome.idle.push(fault.kind);
    }
    *outcome.faults.entry(fault.kind).or_default() += 1;
    let (running, pending) = at_work(ground.seen);
    println!(
        "{:>4} s: {:?} for {} ms under {running} running and {pending} pending jobs",
        outcome.began.elapsed().as_secs(),
        fault.kind,
        fault.lasts.as_millis()
    );
    ground.begin(fault)
}

/// Nothing more is submitted, and everything ends.
fn settle(crowd: &mut Crowd, seen: &Seen) {
    crowd.finish();
    let end = Instant::now() + ENDS_WITHIN;
    while Instant::now() < end && !(crowd.is_answered() && seen.record().have_all_ended()) {
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(QUIET_FOR);
}

fn gather(
    seen: &Seen,
    outcome: &mut Outcome,
    main: Mutex<Witness>,
    other: Option<Mutex<Witness>>,
) -> History {
    let mut runs = Vec::new();
    for witness in std::iter::once(main).chain(other) {
        let account = witness.into_inner().expect("nobody broke it").account();
        runs.extend(account.runs);
        outcome.testified += account.testified;
        outcome.silent += account.silent;
    }
    let mut record = seen.record();
    let unanswered = (0..outcome.ordered).filter(|number| !record.is_acknowledged(*number));
    let unanswered = unanswered.map(|number| format!("the submit of job.{number}")).collect();
    History {
        submits: std::mem::take(&mut record.submits),
        aborts: std::mem::take(&mut record.aborts),
        log: std::mem::take(&mut record.log),
        tail: std::mem::take(&mut record.tail),
        runs,
        sets: std::mem::take(&mut record.sets),
        watches: std::mem::take(&mut record.watches),
        reads: std::mem::take(&mut record.reads),
        neighbours: Vec::new(),
        lost_after_ms: u64::try_from(LOST_AFTER.as_millis()).expect("it is short"),
        unanswered,
        is_quiet: true,
        calm_since_ms: outcome.calm_since_ms,
        until_ms: now_ms(),
        lost_ms: record.lost_ms,
    }
}

/// How often each kind happened.
type Faults = BTreeMap<Kind, usize>;
