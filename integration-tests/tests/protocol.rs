//! Every order of events of the commit and session protocol, at the smallest sizes; `./run model` looks at
//! larger ones. And each rule of the protocol left out once: the check notices.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

use std::time::Duration;

use berth_domain::job::JobState;
use berth_domain::spec::OnLost;
use berth_integration_tests::protocol::state::{Container, Troubles};
use berth_integration_tests::protocol::{
    Action, Cluster, Weakness, alike, check, compare, few, shortest, single,
};
use stateright::Model;

/// How long a broken promise may take to be found.
const LIMIT: Duration = Duration::from_secs(60);
const CALM: Troubles = Troubles { verdicts: 0, breaks: 0, kills: 0, outages: 0, aborts: 0, stalls: 0 };
const LOST: Troubles = Troubles { verdicts: 1, ..CALM };

#[test]
fn every_promise_holds_in_every_order_of_events() {
    for case in few() {
        let checked = check(case, 2);
        println!("{}: {} states in {:?}", case.name, checked.states, checked.took);
        assert!(checked.broken.is_empty(), "{}: {:?}", case.name, checked.broken);
        assert!(checked.missed.is_empty(), "{} never came across {:?}", case.name, checked.missed);
        assert!(checked.states > 500, "{}: {} states", case.name, checked.states);
    }
}

#[test]
fn states_that_are_taken_for_one_have_one_future() {
    for case in alike().into_iter().take(3) {
        let (states, futures) = compare(case).unwrap();
        println!("{}: {states} states, {futures} futures", case.name);
        assert!(futures * 2 < states, "many states are taken for one");
    }
}

/// Leaves a rule out; gives the promises that are broken then.
fn without(weakness: Weakness, wish: OnLost, most: (u8, u8), troubles: Troubles) -> Vec<&'static str> {
    let case = single("weak", (wish, 0), most, troubles);
    let sound = check(case, 1);
    assert!(sound.broken.is_empty(), "with the rule all is well: {:?}", sound.broken);
    let checked = shortest(case.without(weakness), LIMIT);
    for (promise, story) in &checked.broken {
        println!("{weakness:?} breaks {promise:?} after {} events: {story:?}", story.len());
    }
    checked.broken.into_iter().map(|(promise, _)| promise).collect()
}

#[test]
fn without_the_epoch_a_deposed_leader_writes() {
    let broken = without(Weakness::NoEpochCheck, OnLost::Retry, (2, 2), CALM);
    assert!(broken.contains(&"a deposed leader changes nothing"), "{broken:?}");
}

#[test]
fn without_the_record_a_late_decision_undoes_a_newer_one() {
    let broken = without(Weakness::NoRecordCheck, OnLost::Retry, (2, 1), Troubles { stalls: 1, ..CALM });
    assert!(broken.contains(&"a job takes legal steps, and its attempts rise by one"), "{broken:?}");
}

#[test]
fn without_the_attempt_an_old_end_counts_for_a_new_attempt() {
    let broken = without(Weakness::NoAttemptCheck, OnLost::Retry, (2, 1), LOST);
    assert!(broken.contains(&"a superseded attempt's report changes nothing"), "{broken:?}");
}

#[test]
fn without_the_session_a_lost_executor_is_heard() {
    let broken = without(Weakness::NoSessionCheck, OnLost::Retry, (1, 1), LOST);
    assert!(broken.contains(&"a void session's report changes nothing"), "{broken:?}");
}

#[test]
fn a_fail_job_that_is_put_back_starts_twice() {
    let broken = without(Weakness::FailStartsAgain, OnLost::Fail, (2, 1), LOST);
    assert!(broken.contains(&"a job that may start once starts at most once"), "{broken:?}");
}

#[test]
fn a_hold_job_that_is_put_back_runs_twice_at_once() {
    let broken = without(Weakness::HoldIsPutBack, OnLost::Hold, (2, 1), LOST);
    assert!(broken.contains(&"a job on hold never runs twice at once"), "{broken:?}");
}

#[test]
fn what_is_told_before_it_is_stored_starts_unassigned() {
    let broken = without(Weakness::ToldBeforeCommit, OnLost::Retry, (1, 1), CALM);
    assert!(broken.contains(&"no container starts without its assignment in the store"), "{broken:?}");
}

#[test]
fn what_is_noted_before_it_is_stored_is_lost() {
    let broken = without(Weakness::NotedBeforeCommit, OnLost::Retry, (1, 1), Troubles { breaks: 1, ..CALM });
    assert!(broken.contains(&"an end is noted only once the store has it"), "{broken:?}");
}

#[test]
fn a_stop_that_is_taken_for_an_exit_is_no_success() {
    let broken = without(Weakness::StopIsSuccess, OnLost::Retry, (1, 1), Troubles { aborts: 1, ..CALM });
    assert!(broken.contains(&"success is an exit with 0 of the job's attempt"), "{broken:?}");
}

/// What a confirmed abort does not say: an attempt that was given up before it may still run, where its
/// executor lives and has not heard of that.
#[test]
fn an_abort_between_two_attempts_says_that_the_first_may_still_run() {
    let cluster =
        Cluster::new(single("given up", (OnLost::Retry, 0), (2, 1), Troubles { aborts: 1, ..LOST }));
    let assigned_and_started =
        [Action::Assign(0, 0, 0), Action::Arrive(0), Action::Tell(0), Action::Hear(0), Action::Step(0, 0)];
    let given_up = [Action::Judge(0, 0), Action::Arrive(0), Action::Bury(0, 0), Action::Arrive(0)];
    let mut state = cluster.init_states().remove(0);
    for event in assigned_and_started.into_iter().chain(given_up).chain([Action::Abort(0)]) {
        let mut possible = Vec::new();
        cluster.actions(&state, &mut possible);
        assert!(possible.contains(&event), "{event:?} is possible: {possible:?}");
        state = cluster.next_state(&state, event).expect("every event has a state after it");
    }
    assert_eq!((state.jobs[0].state, state.jobs[0].is_unconfirmed), (JobState::Aborted, true));
    assert_eq!(state.executors[0].attempts[0].container, Container::Running);
}
