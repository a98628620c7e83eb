//! What became of a run, in words and as JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::process::ExitCode;
use std::time::Instant;

use berth_domain::executor::ExecutorState;
use berth_domain::job::{Job, JobState};
use berth_integration_tests::history::{History, Invariant, Submit, Violation, file, judge};
use berth_integration_tests::tools::root;
use berth_store::Change;
use serde_json::{Value, json};

use crate::plan::Kind;
use crate::{Faults, Wanted};

/// With fewer verdicts a run has not shown what becomes of lost executors.
const VERDICTS: usize = 3;
/// So many of a hundred jobs succeed, or there was too little to go wrong.
const SUCCEED_PCT: usize = 90;
/// So many of a hundred successes took their time.
const LONG_PCT: usize = 30;
/// Their time.
const LONG_MS: u64 = 10_000;
/// Of so many of a hundred successes no container's own word may be missing.
const SILENT_PCT: usize = 2;

/// What became of a run.
pub struct Outcome {
    /// What is judged.
    pub history: History,
    /// The kinds that must happen.
    pub kinds: Vec<Kind>,
    /// How often each happened.
    pub faults: Faults,
    /// Faults that had too little to hit.
    pub idle: Vec<Kind>,
    /// Processes that did not end as they should.
    pub complaints: Vec<String>,
    /// Jobs that were wanted.
    pub ordered: usize,
    /// Successes that the containers themselves testified to.
    pub testified: usize,
    /// Successes of which no container could be asked.
    pub silent: usize,
    /// When everything was there.
    pub began: Instant,
    /// When the last fault was over.
    pub calm_since_ms: u64,
}

impl Outcome {
    /// Nothing yet.
    pub fn new(kinds: Vec<Kind>) -> Self {
        Self {
            history: History::default(),
            kinds,
            faults: Faults::new(),
            idle: Vec::new(),
            complaints: Vec::new(),
            ordered: 0,
            testified: 0,
            silent: 0,
            began: Instant::now(),
            calm_since_ms: 0,
        }
    }

    fn newest(&self) -> BTreeMap<&str, &Job> {
        let jobs = self.history.log.iter().filter_map(|logged| match &logged.change {
            Change::Job(job) => Some((job.id.as_str(), &**job)),
            Change::JobDeleted(_) | Change::Executor(_) | Change::Leader { .. } => None,
        });
        jobs.collect()
    }

    fn verdicts(&self) -> usize {
        let is_verdict = |change: &Change| match change {
            Change::Executor(executor) => executor.state == ExecutorState::Lost,
            Change::Job(_) | Change::JobDeleted(_) | Change::Leader { .. } => false,
        };
        self.history.log.iter().filter(|logged| is_verdict(&logged.change)).count()
    }

    /// Why the run does not show what it claims.
    fn void(&self, jobs: usize, succeeded: usize) -> Vec<String> {
        let mut why = Vec::new();
        let verdicts = self.verdicts();
        if verdicts < VERDICTS {
            why.push(format!("{verdicts} executors were judged lost, and {VERDICTS} should have been"));
        }
        let unused: Vec<&Kind> = self.kinds.iter().filter(|kind| !self.faults.contains_key(kind)).collect();
        if !unused.is_empty() {
            why.push(format!("there was no time for {unused:?}"));
        }
        if !self.idle.is_empty() {
            why.push(format!("there was too little to be hit by {:?}", self.idle));
        }
        if succeeded * 100 < jobs * SUCCEED_PCT {
            why.push(format!("{succeeded} of {jobs} jobs succeeded, fewer than {SUCCEED_PCT} in a hundred"));
        }
        let long = self.history.runs.iter().filter(|run| {
            run.ended.is_some_and(|(end_ms, code)| code == 0 && end_ms >= run.started_ms + LONG_MS)
        });
        let long = long.count();
        if long * 100 < succeeded * LONG_PCT {
            why.push(format!(
                "{long} runs beside {succeeded} successes took 10 s, fewer than {LONG_PCT} in a hundred"
            ));
        }
        if self.silent * 100 > succeeded * SILENT_PCT {
            why.push(format!("{} containers that succeeded could not be asked", self.silent));
        }
        why
    }
}

/// Tells it; gives the exit code.
pub fn tell(wanted: Wanted, outcome: &Outcome) -> ExitCode {
    let violations = judge(&outcome.history);
    let history = save(&outcome.history);
    let jobs = outcome.newest();
    let succeeded = jobs.values().filter(|job| job.state == JobState::Succeeded).count();
    let acked = outcome.history.submits.iter().filter_map(Submit::job);
    let acked: std::collections::BTreeSet<&str> = acked.collect();
    let lost = violations.iter().filter(|violation| violation.invariant == Invariant::DurableAck).count();
    let void = outcome.void(jobs.len(), succeeded);
    let is_clean = violations.is_empty() && outcome.complaints.is_empty();
    for violation in &violations {
        println!("{violation}");
    }
    outcome.complaints.iter().for_each(|complaint| println!("{complaint}"));
    void.iter().for_each(|why| println!("void: {why}"));
    let count: usize = outcome.faults.values().sum();
    println!(
        "{count} faults, {} verdicts; {} jobs acknowledged, {succeeded} of {} succeeded, {} by their containers' own \
         word; {} writes lost with the store; {} violations",
        outcome.verdicts(),
        acked.len(),
        jobs.len(),
        outcome.testified,
        outcome.history.tail.len(),
        violations.len()
    );
    println!("again: ./run history-check {history}");
    let faults: BTreeMap<String, usize> =
        outcome.faults.iter().map(|(kind, count)| (format!("{kind:?}"), *count)).collect();
    let closing = json!({
        "recipe": "chaos", "ok": is_clean && void.is_empty(), "seed": wanted.seed,
        "seconds": outcome.began.elapsed().as_secs(), "jobs": jobs.len(), "acked": acked.len(), "lost": lost,
        "lostTail": outcome.history.tail.len(), "succeeded": succeeded, "testified": outcome.testified,
        "faults": faults, "verdictsLost": outcome.verdicts(), "history": history, "void": void,
        "complaints": outcome.complaints, "violations": violations.iter().map(shown).collect::<Vec<_>>(),
    });
    println!("{closing}");
    match (is_clean, void.is_empty()) {
        (false, _) => ExitCode::from(1),
        (true, false) => ExitCode::from(3),
        (true, true) => ExitCode::SUCCESS,
    }
}

fn shown(violation: &Violation) -> Value {
    let revision = violation.position.map(|(_, revision)| revision);
    json!({
        "invariant": format!("{:?}", violation.invariant), "jobId": violation.job, "position": revision,
        "story": violation.story,
    })
}

/// Keeps the history; gives the file.
fn save(history: &History) -> String {
    let path = root().join("target/reports/chaos.jsonl");
    let kept = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| File::create(&path));
    let mut file = BufWriter::new(kept.expect("the report can be kept"));
    file::write(history, &mut file).expect("the report can be kept");
    std::io::Write::flush(&mut file).expect("the report can be kept");
    path.display().to_string()
}
