//! Random histories: records, indexes, counters and reservations agree after any of them, and two
//! stores given the same one answer the same.

use std::sync::Arc;
use std::time::Duration;

use berth_domain::executor::{Drain, Executor, ExecutorState};
use berth_domain::ids::ExecutorId;
use berth_domain::job::{Job, JobState};

use super::Subject;
use super::support::*;
use crate::{Call, Change, Changes, Mutation, Position, Scope, Store, Verdict};

const JOBS: u64 = 12;
const EXECUTORS: u64 = 3;
const DEVICES: [&str; 3] = ["g0", "g1", "g2"];

/// A small generator of numbers (SplitMix64, Steele, Lea and Flood, OOPSLA 2014): the same seed,
/// the same history, whatever libraries do.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Makes mutations that are mostly right, from what a store holds.
struct History {
    random: Random,
    clock_ms: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        Self { random: Random(seed), clock_ms: NOW_MS }
    }

    /// Makes a call; the first registers every executor.
    async fn call(&mut self, store: &Arc<dyn Store>) -> Vec<Mutation> {
        if store.head().await.expect("a read").revision == 0 {
            return (0..EXECUTORS).map(|at| put(executor(&format!("e{at}"), &DEVICES))).collect();
        }
        let mut mutations = Vec::new();
        for _ in 0..=self.random.below(5) {
            self.clock_ms += self.random.below(3);
            mutations.push(self.mutation(store).await);
        }
        mutations
    }

    async fn mutation(&mut self, store: &Arc<dyn Store>) -> Mutation {
        if self.random.one_in(12) {
            return self.executor(store).await;
        }
        let id = format!("j{}", self.random.below(JOBS));
        let Some(mut stored) = read(store, &id).await else { return self.submit(&id) };
        if self.random.one_in(15) {
            return self.submit(&id);
        }
        if self.random.one_in(15) {
            stored.revision = self.random.below(stored.revision + 2);
        }
        match stored.state {
            JobState::Pending => self.pending(stored),
            JobState::Assigned | JobState::Running => self.assigned(stored),
            JobState::Succeeded | JobState::Failed | JobState::Aborted => delete(&stored),
        }
    }

    fn submit(&mut self, id: &str) -> Mutation {
        let mut new = job(id);
        new.priority = 25 * u8::try_from(self.random.below(5)).unwrap();
        new.demand.cpu_millis = 1 + self.random.below(2_500);
        new.demand.memory_bytes = 1 + self.random.below(3 * GIB);
        new.create_time_ms = self.clock_ms;
        if self.random.one_in(4) {
            new.due_time_ms = Some(self.clock_ms + self.random.below(3));
        }
        if self.random.one_in(3) {
            let key = format!("key {}", self.random.below(30));
            return submit_with_key(new, &key, ["hash", "other"][usize::from(self.random.one_in(5))]);
        }
        submit(new)
    }

    fn pending(&mut self, stored: Job) -> Mutation {
        match self.random.below(8) {
            0 => update(delayed(&stored, self.clock_ms + self.random.below(5))),
            1 => update(Job { due_time_ms: None, ..stored }),
            2 => update(Job { state: JobState::Aborted, ..ended(&stored, self.clock_ms) }),
            _ => {
                let executor = format!("e{}", self.random.below(EXECUTORS + 1));
                let mut next = assigned(&stored, &executor, 100 + self.random.below(3));
                for device in DEVICES {
                    if self.random.one_in(5) {
                        next.gpu_device_ids.push(device.to_owned());
                    }
                }
                update(next)
            }
        }
    }

    fn assigned(&mut self, stored: Job) -> Mutation {
        let mut attempt = (stored.attempt, stored.attempt_epoch);
        if self.random.one_in(10) {
            attempt.1 += 1;
        }
        let session = session_id(&format!("session-{}", 1 + self.random.below(2)));
        let executor = stored.executor.clone().unwrap_or_else(|| executor_id("e0"));
        let next = match self.random.below(5) {
            0 => put_back(&stored),
            1 => delayed(&stored, self.clock_ms + self.random.below(5)),
            2 => running(&stored),
            3 => assigned(&stored, &format!("e{}", self.random.below(EXECUTORS)), attempt.1),
            _ => ended(&stored, self.clock_ms),
        };
        let is_report = self.random.one_in(2);
        Mutation::Update {
            job: Arc::new(next),
            session: (is_report && self.random.one_in(2)).then_some((executor, session)),
            attempt: is_report.then_some(attempt),
        }
    }

    async fn executor(&mut self, store: &Arc<dyn Store>) -> Mutation {
        let id = format!("e{}", self.random.below(EXECUTORS));
        let known = store.executors().await.expect("a read");
        let stored = known.into_iter().find(|executor| executor.id.as_str() == id);
        let devices = usize::try_from(self.random.below(DEVICES.len() as u64 + 1)).unwrap();
        let fresh = executor(&id, &DEVICES[..devices]);
        let revision = stored.map_or(0, |stored| stored.revision);
        let (state, drain) = match self.random.below(6) {
            0 => (ExecutorState::Active, Some(Drain::default())),
            1 => (ExecutorState::Lost, None),
            _ => (ExecutorState::Active, None),
        };
        let session = match state {
            ExecutorState::Lost => None,
            ExecutorState::Active => Some(session_id(&format!("session-{}", 1 + self.random.below(2)))),
        };
        put(Executor { state, drain, session, revision, ..fresh })
    }
}

pub async fn records_and_indexes_agree_after_a_random_history(subject: &dyn Subject, seed: u64) {
    let store = subject.open().await;
    let mut history = History::new(seed);
    let mut applied = 0;
    for _ in 0..60 {
        let mutations = history.call(&store).await;
        let committed = commit(&store, mutations).await;
        applied += committed.verdicts.iter().filter(|v| matches!(v, Verdict::Applied(_))).count();
    }
    assert!(applied > 40, "a history of {applied} changes proves little (seed {seed})");
    check_agreement(&store).await;
}

/// Gives both stores the same random history and compares every answer. Both must be empty.
pub async fn two_stores_answer_alike(one: &Arc<dyn Store>, two: &Arc<dyn Store>, seed: u64, calls: u32) {
    let starts = (one.head().await.expect("a read"), two.head().await.expect("a read"));
    let mut history = History::new(seed);
    for at in 0..calls {
        let mutations = history.call(one).await;
        let call = |mutations| Call { mutations, ..Call::default() };
        let first = one.commit(call(mutations.clone())).await.expect("a commit");
        let second = two.commit(call(mutations.clone())).await.expect("a commit");
        assert_eq!(first.verdicts, second.verdicts, "call {at} of seed {seed}: {mutations:#?}");
        assert_eq!(first.position.revision, second.position.revision, "call {at} of seed {seed}");
    }
    let mut scopes = vec![Scope::All, Scope::Pending, Scope::Delayed, Scope::Finished];
    scopes.extend((0..EXECUTORS).map(|at| Scope::Assigned(ExecutorId::trusted(format!("e{at}")))));
    for scope in &scopes {
        assert_eq!(walk(one, scope, 3).await, walk(two, scope, 4).await, "{scope:?} (seed {seed})");
    }
    assert_eq!(without_leases(one).await, without_leases(two).await, "executors (seed {seed})");
    let counts = (one.meta().await.expect("meta").counts, two.meta().await.expect("meta").counts);
    assert_eq!(counts.0, counts.1, "counts (seed {seed})");
    let logs = (whole_log(one, starts.0).await, whole_log(two, starts.1).await);
    assert_eq!(logs.0, logs.1, "logs (seed {seed})");
    check_agreement(one).await;
    check_agreement(two).await;
}

async fn without_leases(store: &Arc<dyn Store>) -> Vec<Executor> {
    let executors = store.executors().await.expect("a read").into_iter();
    executors.map(|executor| Executor { lease_expiry_ms: 0, ..executor }).collect()
}

async fn whole_log(store: &Arc<dyn Store>, start: Position) -> Vec<(u64, Change)> {
    let mut log = Vec::new();
    let mut after = start;
    loop {
        match store.changes(after, Duration::ZERO).await.expect("the log") {
            Changes::Entries { entries, .. } if entries.is_empty() => return log,
            Changes::Entries { entries, position } => {
                log.extend(entries);
                after = position;
            }
            Changes::Resync => panic!("resync after {after:?}"),
        }
    }
}
