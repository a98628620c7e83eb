//! The real schedulers and executors in a simulated network, with simulated time, engines, disks and
//! store, and with what goes wrong in all of them. A seed draws the cluster, its jobs and its faults
//! ([`Plan`]); the same seed gives the same run. What it showed is judged by [`crate::history`].

mod clients;
mod engine;
pub mod fault;
mod network;
mod panics;
mod plan;
mod play;
mod run;
mod shorten;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use berth_domain::executor::ExecutorState;
use berth_domain::job::Job;
use berth_store::Change;
use sha2::{Digest, Sha256};

use crate::history::{History, Logged, Violation, judge};

pub use plan::{Machine, Part, Plan, Round, Wish};
pub use run::play;
pub use shorten::{Story, shortened};

/// What a run showed.
pub struct Report {
    /// What is judged.
    pub history: History,
    /// The kinds of fault that happened, and how often.
    pub faults: BTreeMap<&'static str, usize>,
    /// Drains that an operator asked for and was granted.
    pub drains: usize,
    /// What panicked, which nothing may.
    pub panics: Vec<String>,
    /// It came to its end by itself.
    pub is_complete: bool,
    /// How long it took, in simulated time.
    pub took: Duration,
    /// How far the store's clock was from the truth at the end.
    pub store_skew_ms: i64,
}

impl Report {
    /// Lists what was not as promised.
    pub fn violations(&self) -> Vec<Violation> {
        judge(&self.history)
    }

    /// The whole run as text.
    pub fn trace(&self) -> String {
        let lines = |logged: &[Logged], word| {
            logged.iter().map(|logged| format!("{word}{logged:?}\n")).collect::<String>()
        };
        let history = &self.history;
        let told = format!("{:?}\n{:?}\n{:?}\n", history.runs, history.submits, history.watches);
        let rest = format!("{:?}\n{:?}\n{:?}\n", history.aborts, history.reads, history.sets);
        [lines(&history.log, ""), lines(&history.tail, "lost: "), told, rest].concat()
    }

    /// Names the run: runs of the same hash were the same.
    pub fn trace_hash(&self) -> String {
        Sha256::digest(self.trace()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The records of jobs, oldest first.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.history.log.iter().filter_map(|logged| match &logged.change {
            Change::Job(job) => Some(job.as_ref()),
            Change::JobDeleted(_) | Change::Executor(_) | Change::Leader { .. } => None,
        })
    }

    /// Counts the verdicts on executors.
    pub fn executor_losses(&self) -> usize {
        let is_lost = |logged: &&Logged| match &logged.change {
            Change::Executor(executor) => executor.state == ExecutorState::Lost,
            Change::Job(_) | Change::JobDeleted(_) | Change::Leader { .. } => false,
        };
        self.history.log.iter().filter(is_lost).count()
    }

    /// Counts the leaders after the first.
    pub fn leader_losses(&self) -> usize {
        let leads = |logged: &&Logged| match &logged.change {
            Change::Leader { scheduler_id, .. } => !scheduler_id.is_empty(),
            Change::Job(_) | Change::JobDeleted(_) | Change::Executor(_) => false,
        };
        self.history.log.iter().filter(leads).count().saturating_sub(1)
    }
}
