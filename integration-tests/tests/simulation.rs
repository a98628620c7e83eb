//! A few seeds of the simulation; `./run sim` plays as many as are wanted.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

use std::collections::{BTreeMap, BTreeSet};

use berth_integration_tests::simulation::{Part, Plan, play};

/// How many seeds: enough for most kinds of fault to bite.
const SEEDS: u64 = 30;

#[test]
fn every_promise_holds_in_spite_of_faults() {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut put_back, mut drains, mut lost, mut watched) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let report = play(&Plan::drawn(seed));
        let violations: Vec<String> = report.violations().iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "seed {seed}:\n{}", violations.join("\n"));
        assert!(report.panics.is_empty(), "seed {seed}: {:?}", report.panics);
        assert!(report.is_complete, "seed {seed} came to its end");
        assert!(!report.history.submits.is_empty(), "seed {seed}: jobs were submitted");
        for (kind, count) in &report.faults {
            *kinds.entry(kind).or_default() += count;
        }
        drains += report.drains;
        lost += report.history.tail.len();
        watched += report.history.watches.iter().map(Vec::len).sum::<usize>();
        put_back += report.jobs().filter(|job| job.attempt == 2 && job.state.is_terminal()).count();
    }
    // Where nothing of this happened, nothing was tried.
    assert!(put_back > 0, "some jobs ran again after their executor was lost");
    assert!(drains > 0, "some executors were drained");
    assert!(lost > 0, "some writes were lost");
    assert!(watched > 0, "watchers were told something");
    assert!(kinds.len() >= 20, "most kinds of fault happened: {kinds:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 11] {
        let hashes: BTreeSet<String> = (0..3).map(|_| play(&Plan::drawn(seed)).trace_hash()).collect();
        assert_eq!(hashes.len(), 1, "seed {seed}");
    }
    assert_ne!(
        play(&Plan::drawn(3)).trace_hash(),
        play(&Plan::drawn(11)).trace_hash(),
        "another seed gives another trace"
    );
}

#[test]
fn a_part_that_is_left_out_does_not_happen() {
    let plan = (3..).map(Plan::drawn).find(|plan| plan.faults.len() > 1).expect("most seeds have faults");
    let parts = plan.parts();
    let rest: BTreeSet<Part> = parts.iter().copied().filter(|part| !matches!(part, Part::Fault(_))).collect();
    let report = play(&plan.only(&rest));
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert!(report.violations().is_empty());
    let read: Vec<Option<Part>> = parts.iter().map(|part| Part::parse(&part.to_string())).collect();
    assert_eq!(read, parts.iter().copied().map(Some).collect::<Vec<_>>(), "parts are read as they are shown");
}
