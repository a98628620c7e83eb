//! What was seen of a run: the store's changes as they are made, and what clients were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_domain::job::JobState;
use berth_store::Change;
use berth_store::model::Snapshot;

use crate::history::{Abort, By, Logged, Read, Sets, Submit, Told};

/// What happened so far. Clones are the same.
#[derive(Clone, Default)]
pub struct Seen(Arc<Inner>);

#[derive(Default)]
struct Inner {
    record: Mutex<Record>,
    is_over: AtomicBool,
}

/// Everything that is judged but what containers did.
#[derive(Default)]
pub struct Record {
    /// What clients asked to be run.
    pub submits: Vec<Submit>,
    /// What they asked to be ended.
    pub aborts: Vec<Abort>,
    /// What each watcher was told.
    pub watches: Vec<Vec<Told>>,
    /// What each reader read.
    pub reads: Vec<Vec<Read>>,
    /// The changes of the store.
    pub log: Vec<Logged>,
    /// Those that it has lost.
    pub tail: Vec<Logged>,
    /// Its sets, at some moments.
    pub sets: Vec<Sets>,
    /// When the store last lost some.
    pub lost_ms: u64,
    /// Jobs some of whose lost changes a later fail-over brought back.
    pub returned: BTreeSet<String>,
    /// Drains that were granted.
    pub drains: usize,
    /// The newest state of each job.
    states: BTreeMap<String, JobState>,
    /// Jobs that were acknowledged.
    acknowledged: BTreeMap<usize, String>,
}

/// What the store had at some moment.
pub struct Copy {
    log: Vec<Logged>,
    sets: Vec<Sets>,
}

impl Seen {
    /// What was seen, to be read or added to.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether everything has ended, and there was time for what comes after.
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::SeqCst)
    }

    /// Ends the run.
    pub fn set_over(&self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

impl Record {
    /// Notes changes of the store.
    pub fn note(
        &mut self,
        generation: u64,
        at_ms: u64,
        entries: Vec<(u64, Change)>,
        by: impl Fn(&Change) -> Option<By>,
    ) {
        for (revision, change) in entries {
            if let Change::Job(job) = &change {
                self.states.insert(job.id.to_string(), job.state);
            }
            let by = by(&change);
            self.log.push(Logged { generation, revision, at_ms, change, by });
        }
    }

    /// Says whether the store has changed since its sets were noted.
    pub fn has_news(&self) -> bool {
        self.log.last().map(|newest| newest.revision) > self.sets.last().map(|newest| newest.revision)
    }

    /// Notes the store's sets.
    pub fn note_sets(&mut self, snapshot: &Snapshot) {
        let revision = snapshot.position().revision;
        let reserved = snapshot.executors().into_iter().map(|known| (known.id, known.reserved)).collect();
        self.sets.push(Sets { revision, sets: snapshot.sets(), reserved });
    }

    /// Makes a copy of what the store has, as it is copied itself.
    pub fn copy(&self) -> Copy {
        Copy { log: self.log.clone(), sets: self.sets.clone() }
    }

    /// Goes back to a copy: what it does not have is lost, and what it has is there, lost before or not.
    pub fn go_back(&mut self, copy: Copy, now_ms: u64) {
        self.lost_ms = now_ms;
        let name = |logged: &Logged| (logged.generation, logged.revision);
        let kept: BTreeSet<(u64, u64)> = copy.log.iter().map(name).collect();
        let returned = self.tail.iter().filter(|logged| kept.contains(&name(logged)));
        let job = |logged: &Logged| match &logged.change {
            Change::Job(job) => Some(job.id.to_string()),
            Change::JobDeleted(_) | Change::Executor(_) | Change::Leader { .. } => None,
        };
        self.returned.extend(returned.filter_map(job));
        self.tail.append(&mut self.log);
        self.tail.retain(|logged| !kept.contains(&name(logged)));
        (self.log, self.sets) = (copy.log, copy.sets);
        self.read_states();
    }

    /// What was made after a revision is lost with the store that had it.
    pub fn lose_after(&mut self, revision: u64, now_ms: u64) {
        self.lost_ms = now_ms;
        let (kept, lost) = std::mem::take(&mut self.log).into_iter().partition(|l| l.revision <= revision);
        self.log = kept;
        self.tail.extend::<Vec<Logged>>(lost);
        self.sets.retain(|sets| sets.revision <= revision);
        self.read_states();
    }

    fn read_states(&mut self) {
        self.states.clear();
        for logged in &self.log {
            if let Change::Job(job) = &logged.change {
                self.states.insert(job.id.to_string(), job.state);
            }
        }
    }

    /// Who leads, by the newest word of it; `None` while nobody does.
    pub fn leader(&self) -> Option<&str> {
        let newest = self.log.iter().rev().find_map(|logged| match &logged.change {
            Change::Leader { scheduler_id, .. } => Some(scheduler_id.as_str()),
            Change::Job(_) | Change::JobDeleted(_) | Change::Executor(_) => None,
        });
        newest.filter(|leader| !leader.is_empty())
    }

    /// Counts the jobs whose newest state is as said.
    pub fn count(&self, is_wanted: impl Fn(JobState) -> bool) -> usize {
        self.states.values().filter(|state| is_wanted(**state)).count()
    }

    /// Notes that a job was acknowledged, by the number of its wish.
    pub fn acknowledge(&mut self, number: usize, id: &str) {
        self.acknowledged.entry(number).or_insert_with(|| id.to_owned());
    }

    /// Says whether a wish was acknowledged.
    pub fn is_acknowledged(&self, number: usize) -> bool {
        self.acknowledged.contains_key(&number)
    }

    /// The jobs that were acknowledged so far.
    pub fn acknowledged(&self) -> Vec<String> {
        self.acknowledged.values().cloned().collect()
    }

    /// Says whether every job that the store has was brought to its end.
    pub fn have_all_ended(&self) -> bool {
        self.states.values().all(|state| state.is_terminal())
    }
}
