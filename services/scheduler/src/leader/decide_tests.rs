//! Promises of the leader's decisions.

use berth_domain::executor::{Drain, Executor, ExecutorState};
use berth_domain::ids::{SchedulerId, SessionId};
use berth_domain::job::{EndReason, JobState};
use berth_domain::resources::{Capacity, Demand};
use berth_domain::spec::{Clocks, JobSpec};

use super::*;

const SECOND: u64 = 1_000;

fn job(id: &str, cpu_millis: u64, on_lost: OnLost) -> Job {
    let spec = JobSpec {
        demand: Demand { cpu_millis, memory_bytes: 1, ..Demand::default() },
        clocks: Clocks { queue_timeout_ms: Some(15 * SECOND), ..Clocks::default() },
        on_lost,
        ..crate::samples::spec()
    };
    Job { revision: 1, ..Job::new(JobId::trusted(id), String::new(), &spec, 100 * SECOND) }
}

fn executor(cpu_millis: u64, register_time_ms: u64) -> Executor {
    let capacity = Capacity { cpu_millis, memory_bytes: 1 << 30, gpus: vec![] };
    let (id, scheduler) = (ExecutorId::trusted("e"), SchedulerId::trusted("r"));
    let session = Some(SessionId::trusted("s"));
    Executor { session, revision: 1, ..Executor::new(id, scheduler, capacity, register_time_ms) }
}

fn at(now_ms: u64, pauses: &[(u64, u64)]) -> Circumstances<'_> {
    Circumstances { epoch: 7, now_ms, pauses, lost_after_ms: 30 * SECOND }
}

fn states(mutations: &[Mutation]) -> Vec<(String, JobState)> {
    let job = |mutation: &Mutation| match mutation {
        Mutation::Update { job, .. } => (job.id.to_string(), job.state),
        other => panic!("only updates are decided: {other:?}"),
    };
    mutations.iter().map(job).collect()
}

#[test]
fn what_fits_is_assigned_with_the_leaders_epoch() {
    let mut image = Image::default();
    image.put_executor(&executor(1_000, 0));
    image.put_job(job("a", 600, OnLost::Retry));
    image.put_job(job("b", 600, OnLost::Retry));
    let mutations = decide(&mut image, &at(101 * SECOND, &[]));
    assert_eq!(states(&mutations), [("a".to_owned(), JobState::Assigned)]);
    let Mutation::Update { job, .. } = &mutations[0] else { panic!("an update") };
    assert_eq!((job.attempt, job.attempt_epoch), (1, 7));
}

#[test]
fn a_job_times_out_at_its_time_and_not_while_the_clock_stood_still() {
    let mut image = Image::default();
    image.put_job(job("a", 600, OnLost::Retry));
    assert!(decide(&mut image, &at(114 * SECOND, &[])).is_empty());
    assert_eq!(next_deadline_ms(&image, &at(114 * SECOND, &[])), Some(115 * SECOND));
    let pauses = [(104 * SECOND, 110 * SECOND)];
    assert!(decide(&mut image, &at(116 * SECOND, &pauses)).is_empty(), "six seconds had no leader");
    assert_eq!(next_deadline_ms(&image, &at(116 * SECOND, &pauses)), Some(121 * SECOND));
    let mutations = decide(&mut image, &at(121 * SECOND, &pauses));
    let Mutation::Update { job, .. } = &mutations[0] else { panic!("an update") };
    assert_eq!((job.state, job.end_reason), (JobState::Failed, Some(EndReason::QueueTimeout)));
    assert_eq!(job.message, "Not allocated within 15 s: no executor is registered.");
}

#[test]
fn an_overdue_job_that_fits_now_is_placed_and_not_failed() {
    let mut image = Image::default();
    image.put_executor(&executor(1_000, 0));
    image.put_job(job("a", 600, OnLost::Retry));
    assert_eq!(states(&decide(&mut image, &at(500 * SECOND, &[]))), [("a".to_owned(), JobState::Assigned)]);
}

#[test]
fn a_full_call_times_nobody_out_before_all_have_been_offered() {
    let mut image = Image::default();
    image.put_executor(&executor(1_000_000, 0));
    for i in 0..MOST_DECIDED + 50 {
        image.put_job(job(&format!("j{i:03}"), 1, OnLost::Retry));
    }
    let mutations = decide(&mut image, &at(500 * SECOND, &[]));
    assert_eq!(mutations.len(), MOST_DECIDED);
    assert!(states(&mutations).iter().all(|(_, state)| *state == JobState::Assigned));
}

#[test]
fn an_executor_is_kept_for_a_job_that_has_waited_for_too_long() {
    let mut image = Image::default();
    image.put_executor(&executor(4_000, 0));
    let running = Job {
        state: JobState::Running,
        executor: Some(ExecutorId::trusted("e")),
        attempt: 1,
        ..job("running", 1_000, OnLost::Retry)
    };
    image.put_job(running.clone());
    image.put_job(Job { queue_timeout_ms: None, ..job("large", 4_000, OnLost::Retry) });
    let now_ms = 401 * SECOND;
    let small = Job { create_time_ms: now_ms, ready_time_ms: now_ms, ..job("small", 1_000, OnLost::Retry) };
    image.put_job(small.clone());
    let e = ExecutorId::trusted("e");
    assert_eq!(states(&decide(&mut image, &at(now_ms, &[]))), []);
    assert!(image.kept().contains_key(&e));
    image.put_job(Job { state: JobState::Succeeded, revision: 2, ..running });
    assert_eq!(states(&decide(&mut image, &at(now_ms, &[]))), [("large".to_owned(), JobState::Assigned)]);
    assert!(!image.kept().contains_key(&e));
}

#[test]
fn in_quarantine_only_jobs_that_may_run_twice_start_and_the_others_do_not_time_out() {
    let mut image = Image::default();
    // The executor registered before the store's generation began.
    image.generation_since_ms = 99 * SECOND;
    image.put_executor(&executor(1_000, 50 * SECOND));
    image.put_job(job("once", 600, OnLost::Fail));
    image.put_job(job("again", 600, OnLost::Retry));
    let held = at(120 * SECOND, &[]);
    assert_eq!(states(&decide(&mut image, &held)), [("again".to_owned(), JobState::Assigned)]);
    let after = decide(&mut image, &at(129 * SECOND, &[]));
    assert!(states(&after).contains(&("again".to_owned(), JobState::Assigned)));
    let mut alone = Image::default();
    alone.generation_since_ms = 99 * SECOND;
    alone.put_executor(&executor(100, 50 * SECOND));
    alone.put_job(job("once", 600, OnLost::Fail));
    assert_eq!(next_deadline_ms(&alone, &at(128 * SECOND, &[])), Some(129 * SECOND), "woken at its end");
    assert!(decide(&mut alone, &at(143 * SECOND, &[])).is_empty(), "its clock began at 129 s");
    assert_eq!(states(&decide(&mut alone, &at(144 * SECOND, &[]))), [("once".to_owned(), JobState::Failed)]);
}

#[test]
fn the_first_generation_has_no_quarantine() {
    let mut image = Image::default();
    image.generation_since_ms = 99 * SECOND;
    image.put_executor(&executor(1_000, 100 * SECOND));
    image.put_job(job("once", 600, OnLost::Fail));
    assert_eq!(
        states(&decide(&mut image, &at(101 * SECOND, &[]))),
        [("once".to_owned(), JobState::Assigned)]
    );
}

#[test]
fn the_jobs_of_a_lost_executor_are_put_back_ended_or_held_by_their_policy() {
    let mut image = Image::default();
    for (id, on_lost) in [("fail", OnLost::Fail), ("hold", OnLost::Hold), ("retry", OnLost::Retry)] {
        let running = Job {
            state: JobState::Running,
            executor: Some(ExecutorId::trusted("e")),
            attempt: 1,
            ..job(id, 1, on_lost)
        };
        image.put_job(running.clone());
    }
    let e = ExecutorId::trusted("e");
    image.put_executor(&executor(1_000, 100 * SECOND));
    assert_eq!(bury(&image, &e, 200 * SECOND, || 0).len(), 0, "it is in touch");
    let lost = Executor { state: ExecutorState::Lost, revision: 2, ..executor(1_000, 100 * SECOND) };
    image.put_executor(&lost);
    let moved = bury(&image, &e, 200 * SECOND, || 0);
    assert_eq!(
        states(&moved),
        [("fail".to_owned(), JobState::Failed), ("retry".to_owned(), JobState::Pending)]
    );
    image.put_executor(&Executor { fenced: true, revision: 3, ..lost });
    let moved = bury(&image, &e, 200 * SECOND, || 0);
    assert_eq!(states(&moved)[1], ("hold".to_owned(), JobState::Pending), "nothing of it runs any more");
}

#[test]
fn what_a_drained_executor_still_has_at_its_deadline_is_stopped() {
    let mut image = Image::default();
    let running = Job {
        state: JobState::Running,
        executor: Some(ExecutorId::trusted("e")),
        ..job("a", 1, OnLost::Retry)
    };
    image.put_job(running.clone());
    let drained =
        |deadline_ms| Executor { drain: Some(Drain { deadline_ms }), ..executor(1_000, 100 * SECOND) };
    assert_eq!(empty(&image, &drained(None), 200 * SECOND).len(), 0, "without a deadline they may end");
    assert_eq!(empty(&image, &drained(Some(201 * SECOND)), 200 * SECOND).len(), 0);
    let stopped = empty(&image, &drained(Some(200 * SECOND)), 200 * SECOND);
    let Some(Mutation::Update { job, .. }) = stopped.first() else { panic!("it is stopped: {stopped:?}") };
    assert!(job.requeue_requested && job.state == JobState::Running, "its executor stops it first");
    image.put_job(Job { revision: 2, ..(**job).clone() });
    assert_eq!(empty(&image, &drained(Some(200 * SECOND)), 200 * SECOND).len(), 0, "once is enough");
}
