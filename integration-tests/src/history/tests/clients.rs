//! Whatever clients were told and does not hold is found.

use super::*;

#[test]
fn a_key_names_one_job_of_one_spec() {
    let other = pending("b");
    let aborted =
        Job { state: JobState::Aborted, end_reason: Some(EndReason::AbortedByUser), ..other.clone() };
    for spec in ["h", "other"] {
        let mut history = good();
        let next = logged(vec![job(&other), job(&aborted)]);
        history.log.extend(next.into_iter().map(|logged| Logged { revision: logged.revision + 6, ..logged }));
        history.submits.push(submit("k", spec, Some("b")));
        breaks(&history, Invariant::Idempotency);
    }
}

#[test]
fn a_submit_is_refused_for_another_spec_under_its_key_alone() {
    let refused = |key: &str, spec: &str| Submit { answer: Answer::Refused, ..submit(key, spec, None) };
    let mut history = good();
    history.submits.push(refused("k", "other"));
    assert_eq!(judge(&history), []);
    history.submits[1] = refused("k", "h");
    breaks(&history, Invariant::Idempotency);
    history.submits[1] = refused("x", "h");
    breaks(&history, Invariant::Idempotency);
}

#[test]
fn an_abort_is_what_it_was_answered() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let aborted =
        Job { state: JobState::Aborted, end_reason: Some(EndReason::AbortedByUser), ..there.clone() };
    let answer = |state| vec![Abort { job: "a".into(), state: Some(state), at_ms: 100 }];
    let mut history = with_log(vec![job(&new), job(&there), job(&aborted)]);
    history.aborts = answer(JobState::Aborted);
    assert_eq!(judge(&history), []);
    history.runs = vec![run(&there, 10, Some((101, 143)))];
    breaks(&history, Invariant::Abort);
    let unconfirmed = Job { stop_unconfirmed: true, ..aborted };
    history.log = with_log(vec![job(&new), job(&there), job(&unconfirmed)]).log;
    assert_eq!(judge(&history), [], "it says itself that it may still run");
    let mut history = good();
    history.aborts = answer(JobState::Aborted);
    breaks(&history, Invariant::Abort);
    history.aborts = answer(JobState::Running);
    assert_eq!(judge(&history), [], "it was still to be stopped");
}

#[test]
fn a_wish_to_abort_is_not_forgotten() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let asked = Job { abort_requested: true, ..there.clone() };
    let aborted =
        Job { state: JobState::Aborted, end_reason: Some(EndReason::AbortedByUser), ..asked.clone() };
    let history = with_log(vec![job(&new), job(&there), job(&asked), job(&aborted)]);
    assert_eq!(judge(&history), []);
    let put_back = Job { state: JobState::Pending, abort_requested: false, ..asked.clone() };
    let mut history = with_log(vec![job(&new), job(&there), job(&asked), job(&put_back)]);
    history.is_quiet = false;
    breaks(&history, Invariant::Abort);
}

#[test]
fn a_watch_leaves_nothing_out_and_ends_where_the_store_does() {
    let told = |revisions: &[u64]| {
        let one = |revision: &u64| Told::Job { job: "a".into(), revision: *revision };
        revisions.iter().map(one).collect::<Vec<_>>()
    };
    let mut history = good();
    for whole in [&[3, 4, 5, 6][..], &[5, 6], &[6]] {
        history.watches = vec![told(whole)];
        assert_eq!(judge(&history), [], "{whole:?}");
    }
    for broken in [&[3, 5, 6][..], &[3, 4, 5], &[4, 4, 5, 6], &[3, 4, 3, 4, 5, 6]] {
        history.watches = vec![told(broken)];
        breaks(&history, Invariant::Watch);
    }
    let mut again = told(&[3]);
    again.push(Told::Resync);
    again.extend(told(&[5, 6]));
    history.watches = vec![again];
    assert_eq!(judge(&history), [], "after a resync everything follows anew");
}

#[test]
fn what_is_read_is_there_and_not_older_than_what_was_before() {
    let mut history = good();
    history.log.iter_mut().for_each(|logged| logged.at_ms = logged.revision * 1_000);
    history.submits[0].answered_ms = 3_500;
    let mut reading = |reads: &[(Option<u64>, u64)], lost: bool| {
        history.reads = vec![reads.iter().map(|(revision, at_ms)| read(*revision, *at_ms)).collect()];
        history.tail =
            if lost { logged(vec![job(&pending("b")), job(&running(&pending("a")))]) } else { Vec::new() };
        history.clone()
    };
    for right in [&[(Some(3), 3_500), (Some(4), 3_600), (Some(6), 9_000)][..], &[(None, 3_000)]] {
        assert_eq!(judge(&reading(right, false)), [], "{right:?}");
    }
    breaks(&reading(&[(None, 4_000)], false), Invariant::DurableAck);
    for wrong in [&[(Some(2), 3_500)][..], &[(Some(4), 3_600), (Some(3), 3_700)], &[(Some(3), 4_001)]] {
        breaks(&reading(wrong, false), Invariant::Read);
    }
    assert_eq!(
        judge(&reading(&[(Some(2), 3_500), (Some(3), 3_700)], true)),
        [],
        "the store has lost what was read"
    );
}
