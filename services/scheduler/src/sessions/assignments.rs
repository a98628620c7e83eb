//! What an executor has been told to run, what it still has to be told, and whether its own view is
//! the same. It knows nothing of the store and of the stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_domain::digest::assigned_digest;
use berth_domain::ids::{AttemptRef, JobId};
use berth_domain::job::Job;

/// Comparisons in a row that must fail before the whole set is sent again: one alone may have crossed
/// a change on its way.
const MAX_MISMATCHES: u32 = 2;

/// What an attempt is to be stopped for, and how soon: a user's abort says more than the put-back of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stopping {
    abort: bool,
    requeue: bool,
    grace_ms: Option<u64>,
}

impl Stopping {
    fn of(job: &Job) -> Self {
        Self { abort: job.abort_requested, requeue: job.requeue_requested, grace_ms: job.abort_grace_ms }
    }
}

/// A point in the store's history: generation, then revision.
pub(super) type At = (i64, i64);

/// The assignments of one executor, as far as its session is concerned.
#[derive(Debug, Default)]
pub(super) struct Assignments {
    /// What the executor is to run, and what it was told to stop.
    told: BTreeMap<JobId, (AttemptRef, Stopping)>,
    /// Of that, what still has to be sent with its spec.
    unsent: BTreeMap<JobId, Arc<Job>>,
    /// Attempts whose specs the executor had when it registered.
    in_hand: BTreeSet<AttemptRef>,
    /// Attempts whose end the executor has reported here, so that it need not be told.
    ended_here: BTreeSet<AttemptRef>,
    /// The newest assignment message.
    sent_at: At,
    /// One was made since the last comparison.
    sent_since: bool,
    mismatches: u32,
}

impl Assignments {
    pub fn new(in_hand: BTreeSet<AttemptRef>) -> Self {
        Self { in_hand, ..Self::default() }
    }

    /// Takes the whole set.
    pub fn whole(&mut self, jobs: &[Arc<Job>]) {
        let mut told = BTreeMap::new();
        for job in jobs {
            let Some(attempt) = job.current_attempt() else { continue };
            let known = self.told.get(&job.id).is_some_and(|(known, _)| *known == attempt);
            let waits = self.unsent.contains_key(&job.id);
            if waits || (!known && !self.in_hand.remove(&attempt)) {
                self.unsent.insert(job.id.clone(), Arc::clone(job));
            }
            told.insert(job.id.clone(), (attempt, Stopping::of(job)));
        }
        self.unsent.retain(|id, _| told.contains_key(id));
        self.ended_here.retain(|attempt| told.contains_key(&attempt.job));
        self.in_hand.clear();
        self.told = told;
    }

    /// Takes what is new about a job of the executor; says whether a stop has to be sent. A start waits
    /// to be sent with its spec.
    pub fn news(&mut self, job: &Arc<Job>, attempt: AttemptRef) -> bool {
        let stopping = Stopping::of(job);
        let before = self.told.insert(job.id.clone(), (attempt.clone(), stopping));
        let same = before.as_ref().is_some_and(|(known, _)| *known == attempt);
        if !same || self.unsent.contains_key(&job.id) {
            self.unsent.insert(job.id.clone(), Arc::clone(job));
            return false;
        }
        before.is_some_and(|(_, was)| was != stopping) && job.is_to_stop()
    }

    /// Forgets a job that is not the executor's any more; gives its attempt if the executor does not know
    /// that yet.
    pub fn forget(&mut self, id: &JobId) -> Forgotten {
        let Some((attempt, _)) = self.told.remove(id) else { return Forgotten::Unknown };
        let unsent = self.unsent.remove(id).is_some();
        let ended_here = self.ended_here.remove(&attempt);
        if unsent || ended_here { Forgotten::Known(attempt) } else { Forgotten::News(attempt) }
    }

    /// Takes note that the executor itself has reported the end.
    pub fn ended_here(&mut self, attempt: AttemptRef) {
        if self.told.get(&attempt.job).is_some_and(|(told, _)| *told == attempt) {
            self.ended_here.insert(attempt);
        }
    }

    /// Picks jobs whose starts are to be sent next.
    pub fn next_starts(&mut self, most: usize) -> Vec<Arc<Job>> {
        let mut jobs = Vec::new();
        while jobs.len() < most
            && let Some((_, job)) = self.unsent.pop_first()
        {
            jobs.push(job);
        }
        jobs
    }

    /// Takes note of an assignment message that was made.
    pub fn sent(&mut self, at: At) {
        self.sent_at = self.sent_at.max(at);
        self.sent_since = true;
    }

    /// Compares the executor's set with ours, at a heartbeat: once it has applied all that was sent, or
    /// has had the time of a heartbeat for it. `true` asks for the whole set to be sent again, specs and
    /// all.
    pub fn differs(&mut self, applied: At, digest: u64) -> bool {
        let on_its_way = std::mem::take(&mut self.sent_since) && applied < self.sent_at;
        if !self.unsent.is_empty() || on_its_way {
            return false;
        }
        let ours = assigned_digest(self.told.values().map(|(attempt, _)| attempt));
        self.mismatches = if digest == ours { 0 } else { self.mismatches + 1 };
        if self.mismatches < MAX_MISMATCHES {
            return false;
        }
        self.mismatches = 0;
        self.told.clear();
        true
    }
}

/// What became of a job that is not the executor's any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Forgotten {
    /// It was never told of it.
    Unknown,
    /// It knows that already, or was never sent it.
    Known(AttemptRef),
    /// It has to be told.
    News(AttemptRef),
}

#[cfg(test)]
mod tests {
    use berth_domain::ids::ExecutorId;
    use berth_domain::lifecycle::{Event, apply};

    use super::*;

    fn job(id: &str) -> Arc<Job> {
        let spec = crate::samples::spec();
        let job = Job::new(JobId::trusted(id), String::new(), &spec, 1);
        let executor = ExecutorId::trusted("e");
        let event = Event::Assign { executor, epoch: 1, gpu_device_ids: vec![] };
        Arc::new(apply(&job, event, 2).expect("it is pending"))
    }

    fn aborting(job: &Job) -> Arc<Job> {
        let event = Event::AbortRequested { grace_ms: None, reason: String::new() };
        Arc::new(apply(job, event, 3).expect("it runs"))
    }

    fn ids(jobs: &[Arc<Job>]) -> Vec<&str> {
        jobs.iter().map(|job| job.id.as_str()).collect()
    }

    fn digest(jobs: &[Arc<Job>]) -> u64 {
        let attempts: Vec<_> = jobs.iter().map(|job| job.last_attempt()).collect();
        assigned_digest(attempts.iter())
    }

    #[test]
    fn what_the_executor_has_in_hand_is_not_sent_again() {
        let (a, b) = (job("a"), job("b"));
        let mut assignments = Assignments::new(BTreeSet::from([a.last_attempt()]));
        assignments.whole(&[a.clone(), b]);
        assert_eq!(ids(&assignments.next_starts(10)), ["b"]);
        assert!(assignments.news(&aborting(&a), a.last_attempt()), "it can be stopped");
    }

    #[test]
    fn a_stop_never_overtakes_its_start() {
        let a = job("a");
        let mut assignments = Assignments::default();
        assert!(!assignments.news(&a, a.last_attempt()));
        assert!(!assignments.news(&aborting(&a), a.last_attempt()), "it goes with the start");
        let sent = assignments.next_starts(10);
        assert!(sent.first().is_some_and(|job| job.abort_requested));
        assert_eq!(assignments.forget(&a.id), Forgotten::News(a.last_attempt()));
    }

    #[test]
    fn what_was_never_sent_needs_no_farewell() {
        let a = job("a");
        let mut assignments = Assignments::default();
        assignments.news(&a, a.last_attempt());
        assert_eq!(assignments.forget(&a.id), Forgotten::Known(a.last_attempt()));
        assert_eq!(assignments.next_starts(10), []);
        assert_eq!(assignments.forget(&a.id), Forgotten::Unknown);
    }

    #[test]
    fn sets_are_compared_only_once_all_was_applied() {
        let a = job("a");
        let mut assignments = Assignments::default();
        assignments.whole(std::slice::from_ref(&a));
        assert!(!assignments.differs((1, 9), 0), "the start waits to be sent");
        assignments.next_starts(10);
        for revision in 2..6 {
            assignments.sent((1, revision));
            assert!(!assignments.differs((1, revision - 1), 0), "it is still on its way");
        }
        assert!(!assignments.differs((1, 5), 0), "once may be chance");
        assert!(!assignments.differs((1, 5), digest(std::slice::from_ref(&a))));
        assert!(!assignments.differs((1, 6), 0));
        assert!(assignments.differs((1, 6), 0), "twice is not");
        assignments.whole(std::slice::from_ref(&a));
        assert_eq!(ids(&assignments.next_starts(10)), ["a"], "the spec goes with the set");
        assignments.sent((1, 7));
        assert!(!assignments.differs((1, 6), 0), "it is still on its way");
        assert!(!assignments.differs((1, 6), 0));
        assert!(assignments.differs((1, 6), 0), "what is not applied in time never came");
    }
}
