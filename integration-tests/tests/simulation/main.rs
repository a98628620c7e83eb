//! The real scheduler and executor in a simulated network with simulated time: two replicas, two
//! executors, a client that does not give up, an operator who drains an executor and fences a dead one, a
//! cut, a crash or a stop in order, an engine and a store that are silent for a while, and a fail-over of
//! the store that loses its newest writes. The same seed gives the same trace, and every acknowledged job
//! that was not in the lost tail ends exactly once.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

mod network;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use berth_domain::job::JobState;
use berth_domain::spec::OnLost;
use world::{Report, run};

/// How many seeds; BERTH_SIM_SEEDS asks for more.
fn seeds() -> u64 {
    std::env::var("BERTH_SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(50)
}

/// Checks a history against what was promised.
fn check(seed: u64, report: &Report) {
    // A lost tail excuses what it held, and nothing else.
    let in_tail: BTreeSet<&str> = report.lost.iter().map(|(_, job)| job.id.as_str()).collect();
    let mut ends: BTreeMap<&str, Vec<JobState>> = BTreeMap::new();
    let mut attempts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut on_lost: BTreeMap<&str, OnLost> = BTreeMap::new();
    let mut last_revision = 0;
    for (revision, job) in &report.history {
        on_lost.insert(job.id.as_str(), job.on_lost);
        assert!(*revision > last_revision, "seed {seed}: revisions rise");
        last_revision = *revision;
        if job.state.is_terminal() {
            ends.entry(job.id.as_str()).or_default().push(job.state);
        }
        let attempt = attempts.entry(job.id.as_str()).or_default();
        let steps = job.attempt.checked_sub(*attempt);
        assert!(
            steps.is_some_and(|steps| steps <= 1) || in_tail.contains(job.id.as_str()),
            "seed {seed}: attempts rise by one"
        );
        *attempt = job.attempt;
    }
    assert!(!report.acknowledged.is_empty(), "seed {seed}: jobs were submitted");
    for id in &report.acknowledged {
        if !attempts.contains_key(id.as_str()) {
            assert!(in_tail.contains(id.as_str()), "seed {seed}: job {id} was acknowledged and is gone");
            continue;
        }
        let ended = ends.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(ended.len(), 1, "seed {seed}: job {id} ended {} times: {ended:?}", ended.len());
        let once = on_lost.get(id.as_str()) == Some(&OnLost::Fail);
        let given_up = once && ended.first() == Some(&JobState::Failed);
        let as_told = report.expected.get(id) == ended.first();
        assert!(as_told || given_up, "seed {seed}: job {id} ended as its command says: {ended:?}");
        let starts: u32 = report
            .starts
            .iter()
            .filter(|(container, _)| container.contains(id.as_str()))
            .map(|(_, starts)| starts)
            .sum();
        let once = once && !in_tail.contains(id.as_str());
        assert!(!once || starts <= 1, "seed {seed}: job {id}, which may start once, started {starts} times");
    }
    for (container, starts) in &report.starts {
        assert_eq!(*starts, 1, "seed {seed}: container {container} was started {starts} times");
    }
    let attempts: BTreeSet<String> = report
        .history
        .iter()
        .chain(&report.lost)
        .filter(|(_, job)| job.current_attempt().is_some())
        .map(|(_, job)| format!("{}-{}", job.id, job.attempt))
        .collect();
    for container in report.starts.keys() {
        let known = attempts.iter().any(|attempt| container.contains(attempt.as_str()));
        assert!(known, "seed {seed}: container {container} ran without an assignment");
    }
    assert_eq!(report.faults, 5, "seed {seed}: every fault happened while jobs were under way");
}

#[test]
fn every_acknowledged_job_ends_once_in_spite_of_a_cut_and_a_crash() {
    let first = std::env::var("BERTH_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (mut put_back, mut drains, mut lost, mut fenced) = (0, 0, 0, 0);
    for seed in first..first + seeds() {
        let report = run(seed);
        check(seed, &report);
        drains += report.drains;
        lost += report.lost.len();
        fenced += u64::from(report.fenced);
        put_back +=
            report.history.iter().filter(|(_, job)| job.attempt == 2 && job.state.is_terminal()).count();
    }
    // Where no executor was ever judged lost, nothing was tried.
    assert!(seeds() < 20 || put_back > 0, "some jobs ran again after their executor was lost");
    assert!(seeds() < 20 || drains > 0, "some executors were drained");
    assert!(seeds() < 20 || lost > 0, "some writes were lost");
    assert!(seeds() < 20 || fenced > 0, "some executors died for good");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 11] {
        let (one, two) = (run(seed), run(seed));
        assert_eq!(one.trace(), two.trace(), "seed {seed}");
    }
    assert_ne!(run(3).trace(), run(11).trace(), "another seed gives another trace");
}
