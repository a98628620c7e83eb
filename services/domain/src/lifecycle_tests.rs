//! Promises of the lifecycle, as properties over random histories.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ids::{JobId, Namespace};
use crate::resources::Demand;
use crate::spec::{Clocks, JobSpec, Network, PullPolicy, Reuse};

fn job(on_lost: OnLost, max_retries: u32) -> Job {
    let spec = JobSpec {
        image: "image".into(),
        command: vec!["true".into()],
        env: BTreeMap::new(),
        working_dir: String::new(),
        demand: Demand { cpu_millis: 1, memory_bytes: 1, ..Demand::default() },
        priority: 50,
        clocks: Clocks::default(),
        max_retries,
        labels: BTreeMap::new(),
        on_lost,
        network: Network::Bridge,
        pull_policy: PullPolicy::Missing,
        reuse: Reuse::None,
        namespace: Namespace::trusted("default"),
    };
    Job::new(JobId::trusted("j"), String::new(), &spec, 1_000)
}

/// Whether an event speaks of the current attempt or of another one.
fn attempt(job: &Job, offset: i8) -> AttemptRef {
    let mut attempt = job.last_attempt();
    attempt.number = attempt.number.saturating_add_signed(i32::from(offset));
    attempt
}

fn cause() -> impl Strategy<Value = EndCause> {
    prop_oneof![
        (-2_i32..140, any::<bool>()).prop_map(|(code, oom)| EndCause::Exited { code, oom }),
        any::<Option<i32>>().prop_map(|code| EndCause::Aborted { code }),
        any::<Option<i32>>().prop_map(|code| EndCause::RunTimeout { code }),
        Just(EndCause::ImageNotFound),
        Just(EndCause::ImagePullFailed),
        Just(EndCause::ExecutorFault),
        Just(EndCause::Refused),
    ]
}

#[derive(Debug, Clone)]
enum Act {
    Assign,
    Started(i8),
    Ended(i8, EndCause, bool),
    Abort,
    Timeout,
    Due,
    Lost(bool),
    Requeue,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Assign),
        3 => (-1_i8..=1).prop_map(Act::Started),
        3 => (-1_i8..=1, cause(), any::<bool>()).prop_map(|(offset, cause, ran)| Act::Ended(offset, cause, ran)),
        1 => Just(Act::Abort),
        1 => Just(Act::Timeout),
        4 => Just(Act::Due),
        1 => any::<bool>().prop_map(Act::Lost),
        1 => Just(Act::Requeue),
    ]
}

fn event(job: &Job, act: Act, now: u64) -> (Event, bool) {
    match act {
        Act::Assign => {
            let executor = ExecutorId::trusted("e");
            (Event::Assign { executor, epoch: 7, gpu_device_ids: vec![] }, true)
        }
        Act::Started(offset) => (Event::Started { attempt: attempt(job, offset), at_ms: now }, offset == 0),
        Act::Ended(offset, cause, ran) => {
            let end = AttemptEnd {
                attempt: attempt(job, offset),
                cause,
                message: String::new(),
                start_time_ms: ran.then_some(now),
                end_time_ms: now,
                jitter: 9,
            };
            (Event::Ended(end), offset == 0)
        }
        Act::Abort => (Event::AbortRequested { grace_ms: None, reason: String::new() }, true),
        Act::Timeout => (Event::QueueTimedOut { detail: "busy".into() }, true),
        Act::Due => (Event::BecameDue, true),
        Act::Lost(fenced) => (Event::ExecutorLost { fenced, jitter: 3 }, true),
        Act::Requeue => (Event::RequeueRequested, true),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_history_is_legal(
        acts in prop::collection::vec(act(), 1..60),
        on_lost in prop_oneof![Just(OnLost::Retry), Just(OnLost::Fail), Just(OnLost::Hold)],
        max_retries in 0_u32..3,
    ) {
        let mut current = job(on_lost, if on_lost == OnLost::Fail { 0 } else { max_retries });
        let mut now = 1_000;
        let mut starts = 0;
        for act in acts {
            now += 100_000;
            let (event, speaks_of_current) = event(&current, act.clone(), now);
            let result = apply(&current, event, now);
            if current.state.is_terminal() {
                prop_assert_eq!(result, Err(Refused::Ended(current.state)), "terminal states absorb");
                continue;
            }
            let Ok(next) = result else { continue };
            prop_assert!(speaks_of_current, "an attempt that is not current changes nothing");
            prop_assert!(current.state.may_become(next.state), "{:?} -> {:?}", current.state, next.state);
            let raise = u32::from(matches!(act, Act::Assign));
            prop_assert_eq!(next.attempt, current.attempt + raise, "only an assign raises the attempt, by one");
            if next.state == JobState::Succeeded {
                let exit_zero = matches!(act, Act::Ended(0, EndCause::Exited { code: 0, .. }, _));
                prop_assert!(exit_zero, "success is only an observed exit 0");
            }
            prop_assert_eq!(next.state.is_terminal(), next.end_reason.is_some());
            prop_assert_eq!(next.state.is_terminal(), next.end_time_ms.is_some());
            prop_assert_eq!(next.current_attempt().is_some(), matches!(next.index(), crate::job::JobIndex::Assigned(_)));
            if next.state == JobState::Running && current.state != JobState::Running {
                starts += 1;
            }
            prop_assert!(next.infrastructure_retries <= MAX_INFRASTRUCTURE_RETRIES);
            prop_assert!(next.own_retries <= next.max_retries);
            current = next;
        }
        if on_lost == OnLost::Fail {
            prop_assert!(starts <= 1, "an at-most-once job starts at most once");
        }
    }
}

fn assigned(on_lost: OnLost) -> Job {
    let event = Event::Assign { executor: ExecutorId::trusted("e"), epoch: 7, gpu_device_ids: vec![] };
    apply(&job(on_lost, 0), event, 2_000).expect("a pending job can be assigned")
}

fn end(job: &Job, cause: EndCause) -> Event {
    Event::Ended(AttemptEnd {
        attempt: job.last_attempt(),
        cause,
        message: String::new(),
        start_time_ms: Some(2_500),
        end_time_ms: 3_000,
        jitter: 0,
    })
}

#[test]
fn a_failed_job_keeps_its_exit_code() {
    let next = apply(
        &assigned(OnLost::Retry),
        end(&assigned(OnLost::Retry), EndCause::Exited { code: 3, oom: false }),
        3_000,
    );
    let next = next.expect("an attempt can end");
    assert_eq!(
        (next.state, next.exit_code, next.end_reason),
        (JobState::Failed, Some(3), Some(EndReason::ExitCode))
    );
}

#[test]
fn an_oom_in_a_child_does_not_fail_a_job_that_exits_with_0() {
    let job = assigned(OnLost::Retry);
    let next =
        apply(&job, end(&job, EndCause::Exited { code: 0, oom: true }), 3_000).expect("an attempt can end");
    assert_eq!(next.state, JobState::Succeeded);
}

#[test]
fn a_job_that_ends_by_itself_with_0_before_the_stop_has_succeeded() {
    let job = assigned(OnLost::Retry);
    let abort = Event::AbortRequested { grace_ms: None, reason: String::new() };
    let job = apply(&job, abort, 2_100).expect("an assigned job can be aborted");
    assert_eq!(job.state, JobState::Assigned, "the executor has to stop it first");
    let next = apply(&job, end(&job, EndCause::Exited { code: 0, oom: false }), 3_000).expect("it can end");
    assert_eq!(next.state, JobState::Succeeded, "the first terminal commit wins");
}

#[test]
fn faults_that_are_not_the_jobs_do_not_eat_its_retries() {
    let mut job = assigned(OnLost::Retry);
    for retry in 1..=MAX_INFRASTRUCTURE_RETRIES {
        let next = apply(&job, end(&job, EndCause::ExecutorFault), 3_000).expect("it is put back");
        assert_eq!(
            (next.state, next.own_retries, next.infrastructure_retries),
            (JobState::Pending, 0, retry)
        );
        let next = apply(&next, Event::BecameDue, 100_000).expect("its time comes");
        let assign = Event::Assign { executor: ExecutorId::trusted("e"), epoch: 7, gpu_device_ids: vec![] };
        job = apply(&next, assign, 100_000).expect("it is assigned again");
    }
    let last = apply(&job, end(&job, EndCause::ExecutorFault), 3_000).expect("the budget is used up");
    assert_eq!((last.state, last.end_reason), (JobState::Failed, Some(EndReason::ExecutorFault)));
}

#[test]
fn what_a_drain_stops_is_put_back_and_no_retry_is_counted() {
    let job = assigned(OnLost::Hold);
    let stopping = apply(&job, Event::RequeueRequested, 2_500).expect("an assigned job can be put back");
    assert_eq!(stopping.state, JobState::Assigned, "its executor has to stop it first");
    assert_eq!(apply(&stopping, Event::RequeueRequested, 2_600), Err(Refused::Already));
    let stopped = end(&stopping, EndCause::Aborted { code: Some(143) });
    let next = apply(&stopping, stopped.clone(), 3_000).expect("it ends");
    assert_eq!((next.state, next.own_retries, next.infrastructure_retries), (JobState::Pending, 0, 0));
    assert!(!next.requeue_requested && next.avoid_executor.is_some());
    let abort = Event::AbortRequested { grace_ms: None, reason: String::new() };
    let aborted = apply(&stopping, abort, 2_700).expect("a user may still abort it");
    assert_eq!(apply(&aborted, stopped, 3_000).map(|next| next.state), Ok(JobState::Aborted));
    let once = apply(&assigned(OnLost::Fail), Event::RequeueRequested, 2_500).expect("it is assigned");
    let next = apply(&once, end(&once, EndCause::Aborted { code: Some(143) }), 3_000).expect("it ends");
    assert_eq!(next.state, JobState::Failed, "it has started once already");
}

#[test]
fn a_job_on_hold_waits_for_its_lost_executor_until_that_is_fenced() {
    let job = assigned(OnLost::Hold);
    let lost = Event::ExecutorLost { fenced: false, jitter: 0 };
    assert_eq!(apply(&job, lost, 3_000), Err(Refused::State(JobState::Assigned)));
    let fenced = Event::ExecutorLost { fenced: true, jitter: 0 };
    let next = apply(&job, fenced.clone(), 3_000).expect("it may run elsewhere");
    assert_eq!((next.state, next.message.as_str()), (JobState::Pending, "Executor e was fenced."));
    let once = apply(&assigned(OnLost::Fail), fenced, 3_000).expect("it is given up");
    assert_eq!(once.state, JobState::Failed);
}

#[test]
fn an_abort_after_a_loss_does_not_promise_that_the_attempt_has_stopped() {
    let lost = |fenced| Event::ExecutorLost { fenced, jitter: 0 };
    let abort = || Event::AbortRequested { grace_ms: None, reason: String::new() };
    let waits = apply(&assigned(OnLost::Retry), lost(false), 3_000).expect("it is put back");
    let aborted = apply(&waits, abort(), 3_500).expect("it waits");
    assert_eq!((aborted.state, aborted.stop_unconfirmed), (JobState::Aborted, true));
    assert!(aborted.message.ends_with("is unconfirmed."), "{}", aborted.message);
    let due = apply(&waits, Event::BecameDue, 1_000_000).expect("its time has come");
    let event = Event::Assign { executor: ExecutorId::trusted("f"), epoch: 7, gpu_device_ids: vec![] };
    let again = apply(&due, event, 1_000_000).expect("it is due");
    assert!(!again.stop_unconfirmed, "its new attempt can be seen to stop");
    let dead = apply(&assigned(OnLost::Retry), lost(true), 3_000).expect("it is put back");
    let aborted = apply(&dead, abort(), 3_500).expect("it waits");
    assert!(!aborted.stop_unconfirmed, "nothing runs where an operator says that nothing does");
}

#[test]
fn a_newer_attempt_than_the_store_knows_is_taken_over_and_an_older_one_is_not() {
    let lost = job(OnLost::Hold, 0);
    let recovered = |number, epoch, started_ms| Event::Recovered {
        executor: ExecutorId::trusted("e"),
        attempt: AttemptRef { job: lost.id.clone(), number, epoch },
        gpu_device_ids: vec!["g".into()],
        started_ms,
    };
    let next = apply(&lost, recovered(1, 7, Some(2_000)), 3_000).expect("the store has lost its assignment");
    assert_eq!((next.state, next.attempt, next.start_time_ms), (JobState::Running, 1, Some(2_000)));
    let ended = apply(&next, end(&next, EndCause::Exited { code: 0, oom: false }), 4_000).expect("it ends");
    assert_eq!(ended.state, JobState::Succeeded);
    let known = assigned(OnLost::Retry);
    assert_eq!(apply(&known, recovered(1, 7, None), 3_000), Err(Refused::NotCurrent), "it is known");
    assert_eq!(apply(&known, recovered(1, 6, None), 3_000), Err(Refused::NotCurrent), "it is older");
    assert_eq!(apply(&ended, recovered(2, 9, None), 5_000), Err(Refused::Ended(JobState::Succeeded)));
}

#[test]
fn a_long_message_is_cut_at_a_characters_end() {
    let short = shorten_message(&"é".repeat(5_000));
    assert!(short.len() <= MAX_MESSAGE_BYTES && short.ends_with("é..."), "{} bytes", short.len());
    assert_eq!(shorten_message("short"), "short");
}

#[test]
fn a_running_job_that_promised_one_start_is_never_put_back() {
    let job = assigned(OnLost::Fail);
    let running =
        apply(&job, Event::Started { attempt: job.last_attempt(), at_ms: 2_200 }, 2_200).expect("it starts");
    for cause in [EndCause::ImagePullFailed, EndCause::ExecutorFault] {
        let next = apply(&running, end(&running, cause), 3_000).expect("it ends");
        assert_eq!(next.state, JobState::Failed);
    }
}
