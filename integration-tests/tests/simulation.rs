//! A few seeds of the simulation; `./run sim` plays as many as are wanted.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

use berth_integration_tests::simulation::run;

/// How many seeds: enough for each kind of fault to bite.
const SEEDS: u64 = 30;

#[test]
fn every_promise_holds_in_spite_of_faults() {
    let (mut put_back, mut drains, mut lost, mut fenced) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let report = run(seed);
        let violations = report.violations();
        assert!(violations.is_empty(), "seed {seed}:\n{}", violations.join("\n"));
        assert!(!report.expected.is_empty(), "seed {seed}: jobs were submitted");
        assert_eq!(report.faults, 5, "seed {seed}: every fault happened while jobs were under way");
        drains += report.drains;
        lost += report.history.tail.len();
        fenced += u64::from(report.fenced);
        put_back += report.jobs().filter(|job| job.attempt == 2 && job.state.is_terminal()).count();
    }
    // Where no executor was ever judged lost, nothing was tried.
    assert!(put_back > 0, "some jobs ran again after their executor was lost");
    assert!(drains > 0, "some executors were drained");
    assert!(lost > 0, "some writes were lost");
    assert!(fenced > 0, "some executors died for good");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 11] {
        let (one, two) = (run(seed), run(seed));
        assert_eq!(one.trace(), two.trace(), "seed {seed}");
    }
    assert_ne!(run(3).trace(), run(11).trace(), "another seed gives another trace");
}
