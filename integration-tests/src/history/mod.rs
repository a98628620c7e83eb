//! Judges what happened to a cluster against what it promises. A harness (simulation, chaos, a row of
//! losses) gathers a [`History`]: what clients were answered, what the store's log said, and what the
//! containers themselves witnessed. [`judge`] then lists every promise that was broken, each with the
//! story of it in the domain's words. It knows nothing of how the history came about.
//!
//! A fail-over of the store that loses its newest writes excuses exactly those: the harness moves them to
//! [`History::tail`]. What was made anew is judged as new, and what an attempt did is excused where its assignment was
//! lost; everything else about the same job is judged as ever.

mod abort;
mod capacity;
pub mod file;
mod leaders;
mod liveness;
mod lives;
mod outcomes;
mod partition;
mod reads;
mod requests;
#[cfg(test)]
mod tests;
mod view;
mod watches;
mod witnesses;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use berth_domain::ids::{AttemptRef, ExecutorId, JobId, SessionId};
use berth_domain::job::{Job, JobState};
use berth_domain::resources::Reserved;
use berth_store::{Change, Scope};

use view::View;

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What clients asked to be run.
    pub submits: Vec<Submit>,
    /// What clients asked to be ended.
    pub aborts: Vec<Abort>,
    /// The store's log, oldest first, without what the store lost.
    pub log: Vec<Logged>,
    /// What the store lost when it failed over.
    pub tail: Vec<Logged>,
    /// What containers did.
    pub runs: Vec<Run>,
    /// What clients read of single jobs: those of each client in their order.
    pub reads: Vec<Vec<Read>>,
    /// What the store kept beside its records at some moments, oldest first.
    pub sets: Vec<Sets>,
    /// What each client that watches every job was told, until the end.
    pub watches: Vec<Vec<Told>>,
    /// Containers on the same engines that are none of the cluster's: nothing may end them.
    pub neighbours: Vec<Run>,
    /// How long after its registration an executor may be judged lost at the earliest; 0 where that is not known.
    pub lost_after_ms: u64,
    /// Calls that no replica answered, however often they were repeated.
    pub unanswered: Vec<String>,
    /// Faults have ceased, and there was time for everything to end.
    pub is_quiet: bool,
    /// When the last fault was over; 0 where that is not known.
    pub calm_since_ms: u64,
    /// Until when all this was seen; 0 where that is not known.
    pub until_ms: u64,
    /// When the store last lost changes; 0 where that is not known, or it never did.
    pub lost_ms: u64,
}

/// One entry of the store's log.
#[derive(Debug, Clone)]
pub struct Logged {
    /// The store's generation.
    pub generation: u64,
    /// The revision that the change made.
    pub revision: u64,
    /// When it was made, by the true time; 0 where nobody saw that.
    pub at_ms: u64,
    /// The change.
    pub change: Change,
    /// Whose word made it; `None` where that is not known.
    pub by: Option<By>,
}

/// Whose word made a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct By {
    /// The epoch of the leader; `None` where it was not a leader's.
    pub epoch: Option<u64>,
    /// The session of the executor that told it; `None` where none did.
    pub session: Option<SessionId>,
    /// The attempt, number and epoch, that it was told of; `None` where that did not matter.
    pub attempt: Option<(u32, u64)>,
}

/// A submit by a client.
#[derive(Debug, Clone)]
pub struct Submit {
    /// Its idempotency key.
    pub key: String,
    /// Names the spec by its content.
    pub spec: String,
    /// What became of the call.
    pub answer: Answer,
    /// When it was first made; 0 where that is not known.
    pub began_ms: u64,
    /// When it was answered; 0 where it was not, or that is not known.
    pub answered_ms: u64,
    /// How the job ends if nothing but its command ends it; `None` where that is not known.
    pub end: Option<JobState>,
    /// The code with which its command exits if nothing ends it before; `None` where that is not known.
    pub code: Option<i32>,
}

/// What a client was answered to a submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was acknowledged: this is the job.
    Job(String),
    /// Its key stands for another spec.
    Refused,
    /// Nothing: nobody knows whether there is a job.
    Unknown,
}

impl Submit {
    /// The job, where it was acknowledged.
    pub fn job(&self) -> Option<&str> {
        match &self.answer {
            Answer::Job(id) => Some(id),
            Answer::Refused | Answer::Unknown => None,
        }
    }
}

/// An abort by a client.
#[derive(Debug, Clone)]
pub struct Abort {
    /// The job.
    pub job: String,
    /// The state that the answer showed; `None` where there was none.
    pub state: Option<JobState>,
    /// When the answer came, or the call was made.
    pub at_ms: u64,
}

/// A read of a job by a client.
#[derive(Debug, Clone)]
pub struct Read {
    /// The job.
    pub job: String,
    /// The revision that the answer showed; `None` where there was no such job.
    pub revision: Option<u64>,
    /// When it was asked.
    pub began_ms: u64,
}

/// What the store kept beside its records.
#[derive(Debug, Clone)]
pub struct Sets {
    /// The newest revision at that moment.
    pub revision: u64,
    /// The jobs of each set.
    pub sets: Vec<(Scope, BTreeSet<JobId>)>,
    /// What is reserved on each executor.
    pub reserved: Vec<(ExecutorId, Reserved)>,
}

/// What a client that watches was told.
#[derive(Debug, Clone)]
pub enum Told {
    /// A job's record.
    Job {
        /// The job.
        job: String,
        /// The revision of the record.
        revision: u64,
    },
    /// What was told before is void; everything follows anew.
    Resync,
}

/// What a container witnessed of itself.
#[derive(Debug, Clone)]
pub struct Run {
    /// The attempt it was started for.
    pub attempt: AttemptRef,
    /// Where it ran.
    pub executor: String,
    /// When its main process started; one that never started is no run.
    pub started_ms: u64,
    /// When it ended, and with which code; `None` while it runs.
    pub ended: Option<(u64, i32)>,
}

/// What Berth promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// An acknowledged submit stays.
    DurableAck,
    /// A job ends once, for ever.
    OneTerminal,
    /// States, attempts and revisions follow each other as they may.
    LegalTransitions,
    /// Each job stands in the one set that its record names, and reservations are those of the records.
    Partition,
    /// No assignment goes beyond what an executor has, or to one that takes none; a device has one user.
    Capacity,
    /// Jobs on `hold` never run twice at once, and those on `fail` start at most once.
    NoOverlap,
    /// An assignment carries the epoch of the leader of its time; epochs rise.
    LeaderFence,
    /// What an executor reports counts only while it is not lost, which it is not before its time.
    ExecutorFence,
    /// What starts was assigned before; what is not current any more is stopped; what is another's is left alone.
    Authority,
    /// What an abort is answered with is the end, and nothing runs after it.
    Abort,
    /// Success, and every exit code, was witnessed.
    Truth,
    /// A watch leaves nothing out, and ends where the store does.
    Watch,
    /// What is read was stored, and is no older than what was stored or read before.
    Read,
    /// A job ends as its command does, unless it was aborted, timed out or given up as it may be.
    Outcome,
    /// The same key and spec is the same job; another spec under it is refused.
    Idempotency,
    /// Nothing is stuck once faults have ceased.
    Liveness,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub story: String,
    /// The job that it is about, if it is about one.
    pub job: Option<String>,
    /// Where in the log: generation and revision of the change that broke it or, of a job, of its newest.
    pub position: Option<(u64, u64)>,
}

impl Violation {
    /// A promise broken somewhere.
    fn new(invariant: Invariant, story: impl Into<String>) -> Self {
        Self { invariant, story: story.into(), job: None, position: None }
    }

    /// Says which job it is about.
    fn of(self, job: &str) -> Self {
        Self { job: Some(job.to_owned()), ..self }
    }

    /// The same, where a change is one of a job.
    fn of_change(self, change: &Change) -> Self {
        match change {
            Change::Job(job) => self.of(job.id.as_str()),
            Change::JobDeleted(id) => self.of(id.as_str()),
            Change::Executor(_) | Change::Leader { .. } => self,
        }
    }

    /// Says which revision broke it, where only that is known of the change.
    fn at_revision(self, revision: u64) -> Self {
        Self { position: Some((0, revision)), ..self }
    }

    /// Says which change broke it.
    fn at(self, logged: &Logged) -> Self {
        Self { position: Some((logged.generation, logged.revision)), ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.invariant, self.story)
    }
}

/// Lists the broken promises of a history; none is what is hoped for.
pub fn judge(history: &History) -> Vec<Violation> {
    let view = View::of(history);
    let mut found = Vec::new();
    requests::judge(&view, &mut found);
    lives::judge(&view, &mut found);
    capacity::judge(&view, &mut found);
    leaders::judge(&view, &mut found);
    witnesses::judge(&view, &mut found);
    abort::judge(&view, &mut found);
    partition::judge(&view, &mut found);
    reads::judge(&view, &mut found);
    watches::judge(&view, &mut found);
    outcomes::judge(&view, &mut found);
    liveness::judge(&view, &mut found);
    locate(history, &mut found);
    found
}

/// Where only a revision is known, the log has its generation; where only the job is, its newest change says
/// where.
fn locate(history: &History, found: &mut [Violation]) {
    if found.is_empty() {
        return;
    }
    let mut newest: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for logged in &history.log {
        let id = match &logged.change {
            Change::Job(job) => &job.id,
            Change::JobDeleted(id) => id,
            Change::Executor(_) | Change::Leader { .. } => continue,
        };
        newest.insert(id.as_str(), (logged.generation, logged.revision));
    }
    for violation in found {
        let by_job = violation.job.as_deref().and_then(|job| newest.get(job).copied());
        violation.position = match violation.position {
            Some((0, revision)) => history
                .log
                .iter()
                .rfind(|logged| logged.revision == revision)
                .map(|logged| (logged.generation, revision))
                .or(by_job),
            known => known.or(by_job),
        };
    }
}

/// Tells a job's life in a few words.
fn life(records: &[&Job]) -> String {
    let word = |job: &&Job| {
        let mut word = format!("{} at {}", job.state.name(), job.revision);
        if job.attempt > 0 {
            word.push_str(&format!(" (attempt {}", job.attempt));
            if let Some(executor) = &job.executor {
                word.push_str(&format!(", {executor}"));
            }
            word.push(')');
        }
        word
    };
    records.iter().map(word).collect::<Vec<_>>().join(", then ")
}

/// Tells what a job's containers did.
fn witnessed(runs: &[&Run]) -> String {
    let word = |run: &&Run| {
        let end = run.ended.map_or("runs on".to_owned(), |(at, code)| format!("ended at {at} with {code}"));
        format!("attempt {} on {} started at {} and {end}", run.attempt.number, run.executor, run.started_ms)
    };
    if runs.is_empty() {
        return "none of its containers ever started".to_owned();
    }
    runs.iter().map(word).collect::<Vec<_>>().join("; ")
}
