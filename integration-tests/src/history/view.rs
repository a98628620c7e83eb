//! A history, sorted by job, and what of it is excused.

use std::collections::{BTreeMap, BTreeSet};

use berth_domain::ids::AttemptRef;
use berth_domain::job::{Job, JobState};
use berth_store::Change;

use super::{History, Run, Submit, lives};

/// A history, sorted by job.
pub(super) struct View<'a> {
    pub history: &'a History,
    /// Each job's records, oldest first.
    pub lives: BTreeMap<&'a str, Vec<&'a Job>>,
    /// Jobs whose submit the store lost.
    lost_submits: BTreeSet<&'a str>,
    /// Attempts whose assignment the store lost.
    lost_assignments: BTreeSet<AttemptRef>,
    /// Ends of jobs that the store lost.
    pub lost_ends: BTreeSet<(&'a str, JobState)>,
    /// Jobs that were removed after their time.
    pub removed: BTreeSet<&'a str>,
    runs: BTreeMap<&'a str, Vec<&'a Run>>,
}

impl<'a> View<'a> {
    pub fn of(history: &'a History) -> Self {
        let mut lives: BTreeMap<&str, Vec<&Job>> = BTreeMap::new();
        let mut removed = BTreeSet::new();
        for logged in &history.log {
            match &logged.change {
                Change::Job(job) => lives.entry(job.id.as_str()).or_default().push(job),
                Change::JobDeleted(id) => {
                    removed.insert(id.as_str());
                }
                Change::Executor(_) | Change::Leader { .. } => {}
            }
        }
        let (mut lost_submits, mut lost_assignments) = (BTreeSet::new(), BTreeSet::new());
        let mut lost_ends = BTreeSet::new();
        for logged in &history.tail {
            let Change::Job(job) = &logged.change else { continue };
            let id = job.id.as_str();
            if lives::is_new(job) {
                lost_submits.insert(id);
            }
            if job.state == JobState::Assigned {
                lost_assignments.insert(job.last_attempt());
            }
            if job.state.is_terminal() {
                lost_ends.insert((id, job.state));
            }
        }
        let mut runs: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
        for run in &history.runs {
            runs.entry(run.attempt.job.as_str()).or_default().push(run);
        }
        runs.values_mut().for_each(|runs| runs.sort_by_key(|run| run.started_ms));
        Self { history, lives, lost_submits, lost_assignments, lost_ends, removed, runs }
    }

    /// The runs of a job, oldest first.
    pub fn runs_of(&self, job: &str) -> &[&'a Run] {
        self.runs.get(job).map_or(&[], Vec::as_slice)
    }

    /// The newest record of a job.
    pub fn newest(&self, job: &str) -> Option<&'a Job> {
        self.lives.get(job).and_then(|life| life.last().copied())
    }

    /// The store lost the submit of the job: under its key, another one may have been made.
    pub fn has_lost_submit(&self, job: &str) -> bool {
        self.lost_submits.contains(job)
    }

    /// What was answered to a submit may rest on what the store lost: it was asked before.
    pub fn is_void(&self, submit: &Submit) -> bool {
        let lost_ms = self.history.lost_ms;
        let was_before = lost_ms == 0 || submit.began_ms <= lost_ms;
        was_before && submit.job().is_some_and(|job| self.has_lost_submit(job))
    }

    /// The store lost that an attempt was assigned: another may have been instead, and what this one did may come as a
    /// surprise.
    pub fn has_lost_assignment(&self, attempt: &AttemptRef) -> bool {
        self.lost_assignments.contains(attempt)
    }
}
