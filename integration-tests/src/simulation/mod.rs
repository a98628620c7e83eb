//! The real scheduler and executor in a simulated network with simulated time: two replicas, two
//! executors, a client that does not give up, an operator who drains an executor and fences a dead one, a
//! cut, a crash or a stop in order, an engine and a store that are silent for a while, and a fail-over of
//! the store that loses its newest writes. The same seed gives the same run.

mod network;
mod world;

use std::collections::BTreeMap;

use berth_domain::executor::ExecutorState;
use berth_domain::job::{Job, JobState};
use berth_domain::spec::OnLost;
use berth_store::Change;

use crate::history::{History, Logged, judge};

pub use world::run;

/// What a run showed.
pub struct Report {
    /// What is judged.
    pub history: History,
    /// How each acknowledged job must end.
    pub expected: BTreeMap<String, JobState>,
    /// An executor died for good and was fenced.
    pub fenced: bool,
    /// Crashes, cuts, broken engines and failures of the store before every job had ended.
    pub faults: usize,
    /// Drains that an operator asked for and was granted.
    pub drains: usize,
    /// Why the run did not come to its end.
    pub stuck: Option<String>,
}

impl Report {
    /// Lists what was not as promised.
    pub fn violations(&self) -> Vec<String> {
        let mut found: Vec<String> = judge(&self.history).iter().map(ToString::to_string).collect();
        found.extend(self.stuck.iter().map(|why| format!("the run never ended: {why}")));
        let newest: BTreeMap<&str, &Job> = self.jobs().map(|job| (job.id.as_str(), job)).collect();
        for (id, expected) in &self.expected {
            // What the store lost of it is excused; that nothing else is missing is judged already.
            let Some(job) = newest.get(id.as_str()) else { continue };
            // One that may start only once may be given up.
            let given_up = job.on_lost == OnLost::Fail && job.state == JobState::Failed;
            if job.state != *expected && !given_up {
                found.push(format!("job {id} must end as {}: {job:?}", expected.name()));
            }
        }
        found
    }

    /// The whole run as text.
    pub fn trace(&self) -> String {
        let lost = self.history.tail.iter().map(|logged| format!("lost: {logged:?}\n"));
        self.history.log.iter().map(|logged| format!("{logged:?}\n")).chain(lost).collect()
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
