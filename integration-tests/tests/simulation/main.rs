//! The real scheduler and executor in a simulated network with simulated time: two replicas, two
//! executors, a client that does not give up, an operator who drains an executor and fences a dead one, a
//! cut, a crash or a stop in order, an engine and a store that are silent for a while, and a fail-over of
//! the store that loses its newest writes. The same seed gives the same trace, and every acknowledged job
//! that was not in the lost tail ends exactly once.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

mod network;
mod world;

use std::collections::BTreeMap;

use berth_domain::job::{Job, JobState};
use berth_domain::spec::OnLost;
use berth_integration_tests::history::{Logged, judge};
use berth_store::Change;
use world::{Report, run};

/// How many seeds; BERTH_SIM_SEEDS asks for more.
fn seeds() -> u64 {
    std::env::var("BERTH_SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(50)
}

/// Checks a run against what was promised.
fn check(seed: u64, report: &Report) {
    let violations = judge(&report.history);
    let stories: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(stories.is_empty(), "seed {seed}:\n{}", stories.join("\n"));
    assert!(!report.expected.is_empty(), "seed {seed}: jobs were submitted");
    let newest: BTreeMap<&str, &Job> = jobs(&report.history.log).map(|job| (job.id.as_str(), job)).collect();
    for (id, expected) in &report.expected {
        // What the store lost of it is excused; that nothing else is missing was judged.
        let Some(job) = newest.get(id.as_str()) else { continue };
        let given_up = job.on_lost == OnLost::Fail && job.state == JobState::Failed;
        // A job that is aborted may have been given up before.
        assert!(job.state == *expected || given_up, "seed {seed}: job {id} must be {expected:?}: {job:?}");
    }
    assert_eq!(report.faults, 5, "seed {seed}: every fault happened while jobs were under way");
}

/// The records of jobs in a part of the log.
fn jobs(log: &[Logged]) -> impl Iterator<Item = &Job> {
    log.iter().filter_map(|logged| match &logged.change {
        Change::Job(job) => Some(job.as_ref()),
        Change::JobDeleted(_) | Change::Executor(_) | Change::Leader { .. } => None,
    })
}

#[test]
fn every_acknowledged_job_ends_once_in_spite_of_a_cut_and_a_crash() {
    let first = std::env::var("BERTH_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (mut put_back, mut drains, mut lost, mut fenced) = (0, 0, 0, 0);
    for seed in first..first + seeds() {
        let report = run(seed);
        check(seed, &report);
        drains += report.drains;
        lost += report.history.tail.len();
        fenced += u64::from(report.fenced);
        put_back +=
            jobs(&report.history.log).filter(|job| job.attempt == 2 && job.state.is_terminal()).count();
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
