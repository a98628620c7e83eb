//! A good history has nothing to be said against it; each promise broken in it is found.

mod clients;
mod leaders;
mod liveness;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_domain::constraint::Constraint;
use berth_domain::executor::{Drain, Executor, ExecutorState};
use berth_domain::ids::{ExecutorId, JobId, Namespace, SchedulerId, SessionId};
use berth_domain::job::EndReason;
use berth_domain::resources::{Capacity, Demand, GpuDevice, Reserved};
use berth_domain::spec::{Clocks, JobSpec, Network, OnLost, PullPolicy, Reuse};

use super::*;

const EPOCH: u64 = 7;

fn executor(id: &str) -> Executor {
    let gpus = vec![GpuDevice { id: "g0".into(), model: "a100".into(), emulated: true }];
    let capacity = Capacity { cpu_millis: 1_000, memory_bytes: 1 << 30, gpus };
    let (id, scheduler) = (ExecutorId::trusted(id), SchedulerId::trusted("r"));
    Executor { session: Some(SessionId::trusted("s")), ..Executor::new(id, scheduler, capacity, 0) }
}

fn pending(id: &str) -> Job {
    let spec = JobSpec {
        image: "i".into(),
        command: Vec::new(),
        env: BTreeMap::new(),
        working_dir: String::new(),
        demand: Demand { cpu_millis: 600, memory_bytes: 1 << 20, ..Demand::default() },
        priority: 50,
        clocks: Clocks::default(),
        max_retries: 0,
        labels: BTreeMap::new(),
        on_lost: OnLost::Hold,
        network: Network::Bridge,
        pull_policy: PullPolicy::Missing,
        reuse: Reuse::None,
        namespace: Namespace::trusted("default"),
    };
    Job::new(JobId::trusted(id), String::new(), &spec, 0)
}

fn assigned(job: &Job, to: &str) -> Job {
    Job {
        state: JobState::Assigned,
        attempt: job.attempt + 1,
        attempt_epoch: EPOCH,
        executor: Some(ExecutorId::trusted(to)),
        ..job.clone()
    }
}

fn running(job: &Job) -> Job {
    Job { state: JobState::Running, ..job.clone() }
}

fn ended(job: &Job, code: i32) -> Job {
    let state = if code == 0 { JobState::Succeeded } else { JobState::Failed };
    Job { state, exit_code: Some(code), end_reason: Some(EndReason::ExitCode), ..job.clone() }
}

fn run(job: &Job, started_ms: u64, ended: Option<(u64, i32)>) -> Run {
    let executor = job.executor.as_ref().expect("it is somewhere").to_string();
    Run { attempt: job.last_attempt(), executor, started_ms, ended }
}

fn logged(changes: Vec<Change>) -> Vec<Logged> {
    let entry = |(index, mut change)| {
        let revision = index as u64 + 1;
        if let Change::Job(job) = &mut change {
            Arc::make_mut(job).revision = revision;
        }
        Logged { generation: 1, revision, at_ms: 0, change, by: None }
    };
    changes.into_iter().enumerate().map(entry).collect()
}

fn job(job: &Job) -> Change {
    Change::Job(Arc::new(job.clone()))
}

fn executor_is(executor: Executor) -> Change {
    Change::Executor(Box::new(executor))
}

fn leads(epoch: u64) -> Change {
    Change::Leader { epoch, scheduler_id: "scheduler-1".into() }
}

fn submit(key: &str, spec: &str, job: Option<&str>) -> Submit {
    let answer = job.map_or(Answer::Unknown, |id| Answer::Job(id.to_owned()));
    let (key, spec) = (key.into(), spec.into());
    Submit { key, spec, answer, began_ms: 0, answered_ms: 0, end: None, code: None }
}

fn read(revision: Option<u64>, began_ms: u64) -> Read {
    Read { job: "a".into(), revision, began_ms }
}

/// A leader, an executor and a job that succeeds; what happens is changed by each test.
pub(super) fn good() -> History {
    let new = pending("a");
    let there = assigned(&new, "e");
    let runs = running(&there);
    let done = ended(&runs, 0);
    History {
        submits: vec![submit("k", "h", Some("a"))],
        aborts: Vec::new(),
        log: logged(vec![
            leads(EPOCH),
            executor_is(executor("e")),
            job(&new),
            job(&there),
            job(&runs),
            job(&done),
        ]),
        tail: Vec::new(),
        runs: vec![run(&there, 10, Some((20, 0)))],
        sets: Vec::new(),
        watches: Vec::new(),
        neighbours: Vec::new(),
        reads: Vec::new(),
        lost_after_ms: 0,
        unanswered: Vec::new(),
        is_quiet: true,
        calm_since_ms: 0,
        until_ms: 0,
        lost_ms: 0,
    }
}

/// Some of everything that a history may have, and nothing that is as it should be.
pub(super) fn everything() -> History {
    let new = pending("a");
    let there = Job { due_time_ms: None, gpu_device_ids: vec!["g0".into()], ..assigned(&new, "e") };
    let held = Reserved { cpu_millis: 5, memory_bytes: 6, gpu_ids: BTreeSet::from(["g0".to_owned()]) };
    let timed_out = Job {
        state: JobState::Failed,
        end_reason: Some(EndReason::QueueTimeout),
        end_time_ms: Some(9),
        message: "too late".into(),
        ..new.clone()
    };
    let lost = Executor { state: ExecutorState::Lost, session: None, fenced: true, ..executor("e") };
    let drained = Executor { drain: Some(Drain::default()), restarting: true, ..executor("f") };
    let changes = vec![job(&new), executor_is(drained), leads(3), job(&there), executor_is(lost)];
    let told = Told::Job { job: "a".into(), revision: 4 };
    History {
        submits: vec![Submit {
            end: Some(JobState::Succeeded),
            code: Some(0),
            ..submit("k", "h", Some("a"))
        }],
        aborts: vec![Abort { job: "a".into(), state: Some(JobState::Aborted), at_ms: 100 }],
        log: logged(changes),
        tail: logged(vec![job(&pending("b")), Change::JobDeleted(JobId::trusted("c"))]),
        runs: vec![run(&there, 10, None), run(&there, 20, Some((30, 137)))],
        sets: vec![Sets {
            revision: 5,
            sets: vec![
                (Scope::Pending, BTreeSet::from([JobId::trusted("a")])),
                (Scope::Delayed, BTreeSet::new()),
                (Scope::Finished, BTreeSet::new()),
                (Scope::Assigned(ExecutorId::trusted("e")), BTreeSet::from([JobId::trusted("x")])),
            ],
            reserved: vec![(ExecutorId::trusted("e"), held)],
        }],
        watches: vec![vec![told.clone()], vec![Told::Resync, told]],
        neighbours: vec![run(&there, 1, Some((2, 3)))],
        reads: vec![Vec::new(), vec![read(Some(4), 9), read(None, 10)]],
        lost_after_ms: 13_000,
        unanswered: vec!["the submit of job.3".into()],
        is_quiet: true,
        calm_since_ms: 1_000,
        until_ms: 200_000,
        lost_ms: 500,
    }
    .with(job(&timed_out))
}

impl History {
    fn with(mut self, mut change: Change) -> Self {
        let revision = self.log.len() as u64 + 1;
        if let Change::Job(job) = &mut change {
            Arc::make_mut(job).revision = revision;
        }
        self.log.push(Logged { generation: 2, revision, at_ms: 7, change, by: None });
        self
    }
}

fn with_log(changes: Vec<Change>) -> History {
    let mut history = good();
    let mut all: Vec<Change> = history.log.iter().take(2).map(|logged| logged.change.clone()).collect();
    all.extend(changes);
    history.log = logged(all);
    history
}

/// Expects violations of one promise alone.
fn breaks(history: &History, invariant: Invariant) {
    let found = judge(history);
    assert!(!found.is_empty(), "{invariant:?} is broken");
    let others: Vec<_> = found.iter().filter(|violation| violation.invariant != invariant).collect();
    assert!(others.is_empty(), "nothing but {invariant:?} is broken: {others:#?}");
}

#[test]
fn nothing_is_said_against_a_good_history() {
    assert_eq!(judge(&good()), []);
    assert_eq!(judge(&History::default()), []);
}

#[test]
fn an_acknowledged_job_that_is_gone_is_missed_unless_the_store_lost_it() {
    let mut history = good();
    history.submits.push(submit("", "h", Some("b")));
    breaks(&history, Invariant::DurableAck);
    history.tail = logged(vec![job(&pending("b"))]);
    assert_eq!(judge(&history), [], "it was in the tail that the store lost");
    history.submits[1].began_ms = 200;
    history.lost_ms = 100;
    breaks(&history, Invariant::DurableAck);
    history.submits[1].began_ms = 100;
    history.submits.push(submit("x", "h", None));
    assert_eq!(judge(&history), [], "what was not acknowledged promises nothing");
    let mut history = good();
    history.log.truncate(5);
    history = history.with(Change::JobDeleted(JobId::trusted("a")));
    breaks(&history, Invariant::DurableAck);
}

#[test]
fn an_end_is_for_ever() {
    let mut history = good();
    let last = history.log.last().expect("it has some").clone();
    history.log.push(Logged { revision: last.revision + 1, ..last });
    breaks(&history, Invariant::OneTerminal);
}

#[test]
fn steps_attempts_and_revisions_are_as_they_may_be() {
    let new = pending("a");
    let there = assigned(&new, "e");
    let done = ended(&running(&there), 0);
    let skipped = Job { attempt: 2, ..there.clone() };
    let mut history = with_log(vec![job(&new), job(&skipped), job(&ended(&skipped, 0))]);
    history.runs = vec![run(&skipped, 10, Some((20, 0)))];
    breaks(&history, Invariant::LegalTransitions);
    let raised = Job { attempt_epoch: EPOCH + 1, ..running(&there) };
    let mut history = with_log(vec![job(&new), job(&there), job(&raised), job(&ended(&raised, 0))]);
    history.runs = vec![run(&there, 10, Some((20, 0))), run(&raised, 30, Some((40, 0)))];
    assert!(judge(&history).iter().any(|found| found.invariant == Invariant::LegalTransitions));
    breaks(&with_log(vec![job(&there), job(&done)]), Invariant::LegalTransitions);
    let mut history = good();
    history.log[4].revision = 4;
    breaks(&history, Invariant::LegalTransitions);
    history.log[4..].iter_mut().for_each(|logged| logged.generation = 2);
    assert_eq!(judge(&history), [], "each generation counts for itself");
}

#[test]
fn an_executor_holds_no_more_than_it_has() {
    let (one, two) = (pending("a"), pending("b"));
    let (there, beside) = (assigned(&one, "e"), assigned(&two, "e"));
    let finish = |history: &mut History| {
        history.runs = vec![run(&there, 10, Some((20, 0))), run(&beside, 10, Some((20, 0)))];
    };
    let ends = [job(&ended(&there, 0)), job(&ended(&beside, 0))];
    let mut changes = vec![job(&one), job(&two), job(&there), job(&beside)];
    changes.extend(ends.clone());
    let mut history = with_log(changes);
    finish(&mut history);
    breaks(&history, Invariant::Capacity);
    // One after the other is no trouble.
    let mut history =
        with_log(vec![job(&one), job(&two), job(&there), ends[0].clone(), job(&beside), ends[1].clone()]);
    finish(&mut history);
    assert_eq!(judge(&history), []);
    let device = |job: &Job, id: &str| {
        let mut job = job.clone();
        job.demand.cpu_millis = 1;
        job.gpu_device_ids = vec![id.into()];
        job
    };
    let (there, beside) = (device(&there, "g0"), device(&beside, "g0"));
    let mut changes = vec![job(&one), job(&two), job(&there), job(&beside)];
    changes.extend(ends.clone());
    let mut history = with_log(changes);
    finish(&mut history);
    breaks(&history, Invariant::Capacity);
    let there = device(&there, "g9");
    let mut history = with_log(vec![job(&one), job(&there), ends[0].clone()]);
    history.runs.truncate(1);
    breaks(&history, Invariant::Capacity);
}

#[test]
fn an_executor_without_the_labels_that_a_job_asks_for_is_not_given_it() {
    let mut new = pending("a");
    new.demand.constraints = vec![Constraint::parse("zone=a").expect("is valid")];
    let there = assigned(&new, "e");
    let log = |zone: &str| {
        let labels = [("zone".to_owned(), zone.to_owned())].into();
        let labelled = Executor { labels, ..executor("e") };
        with_log(vec![executor_is(labelled), job(&new), job(&there), job(&ended(&there, 0))])
    };
    breaks(&log("b"), Invariant::Capacity);
    assert_eq!(judge(&log("a")), []);
}

#[test]
fn who_takes_no_jobs_is_given_none() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let drained = Executor { drain: Some(Drain::default()), ..executor("e") };
    let history = with_log(vec![executor_is(drained), job(&new), job(&there), job(&ended(&there, 0))]);
    breaks(&history, Invariant::Capacity);
}

#[test]
fn what_must_not_run_twice_does_not() {
    let new = pending("a");
    let first = assigned(&new, "e");
    let back = Job { state: JobState::Pending, ..first.clone() };
    let second = assigned(&back, "e");
    let story = |on_lost| {
        let with = |mut record: Job| {
            record.on_lost = on_lost;
            job(&record)
        };
        let records = [new.clone(), first.clone(), back.clone(), second.clone(), ended(&second, 0)];
        with_log(records.into_iter().map(with).collect())
    };
    let runs = |first_end, second_start| {
        vec![run(&first, 10, Some((first_end, 143))), run(&second, second_start, Some((90, 0)))]
    };
    let mut history = story(OnLost::Hold);
    history.runs = runs(50, 40);
    breaks(&history, Invariant::NoOverlap);
    history.runs = runs(50, 50);
    assert_eq!(judge(&history), [], "one after the other");
    let mut history = story(OnLost::Retry);
    history.runs = runs(50, 40);
    assert_eq!(judge(&history), [], "at least once may be twice");
    let mut history = story(OnLost::Fail);
    history.runs = runs(50, 60);
    breaks(&history, Invariant::NoOverlap);
    history.tail = logged(vec![job(&first)]);
    assert_eq!(judge(&history), [], "the store forgot the first start");
    history.tail = logged(vec![job(&running(&first))]);
    breaks(&history, Invariant::NoOverlap);
    let mut history = good();
    history.runs.push(run(&first, 30, Some((40, 0))));
    breaks(&history, Invariant::NoOverlap);
}

#[test]
fn an_attempt_that_the_store_has_lost_is_adopted_and_all_else_of_its_job_is_judged() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let runs = running(&there);
    let mut history = with_log(vec![job(&new), leads(EPOCH + 1), job(&runs), job(&ended(&runs, 0))]);
    breaks(&history, Invariant::LegalTransitions);
    history.tail = logged(vec![job(&there)]);
    assert_eq!(judge(&history), []);
    // A later fail-over may bring back what an earlier one lost, and lose what was assigned instead.
    let again = Job { attempt_epoch: EPOCH + 1, ..runs.clone() };
    let kept = vec![job(&new), job(&there), leads(EPOCH + 2), job(&again), job(&ended(&again, 0))];
    let mut returned = with_log(kept);
    returned.runs = vec![run(&again, 10, Some((20, 0)))];
    breaks(&returned, Invariant::LegalTransitions);
    returned.tail = logged(vec![job(&Job { state: JobState::Assigned, ..again })]);
    assert_eq!(judge(&returned), []);
    let other = Job { attempt: 2, ..runs };
    history.log = with_log(vec![job(&new), leads(EPOCH + 1), job(&other), job(&ended(&other, 0))]).log;
    history.runs = vec![run(&other, 10, Some((20, 0)))];
    breaks(&history, Invariant::LegalTransitions);
}

#[test]
fn nothing_runs_that_was_not_assigned_or_is_no_longer_wanted() {
    let mut history = good();
    let elsewhere = Run { executor: "f".into(), ..history.runs[0].clone() };
    history.runs.push(Run {
        started_ms: 30,
        attempt: AttemptRef { number: 2, ..elsewhere.attempt.clone() },
        ..elsewhere
    });
    breaks(&history, Invariant::Authority);
    let mut history = good();
    let orphan = assigned(&pending("b"), "e");
    let given_up =
        Job { state: JobState::Failed, end_reason: Some(EndReason::ExecutorLost), ..orphan.clone() };
    let more = logged(vec![job(&pending("b")), job(&orphan), job(&given_up)]);
    history.log.extend(more.into_iter().map(|logged| Logged { revision: logged.revision + 6, ..logged }));
    history.runs.push(run(&orphan, 30, None));
    breaks(&history, Invariant::Authority);
    history.is_quiet = false;
    assert_eq!(judge(&history), [], "its executor may not have heard of it yet");
}

#[test]
fn an_exit_code_was_seen() {
    let mut history = good();
    history.runs[0].ended = Some((20, 143));
    breaks(&history, Invariant::Truth);
    history.runs.clear();
    breaks(&history, Invariant::Truth);
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    history.log = with_log(vec![job(&new), job(&there), job(&ended(&there, 127))]).log;
    assert_eq!(judge(&history), [], "there was no such command to be run");
    let mut history = good();
    let strange = Job { exit_code: Some(3), ..ended(&there, 0) };
    history.log = with_log(vec![job(&new), job(&there), job(&strange)]).log;
    breaks(&history, Invariant::Truth);
}

#[test]
fn each_job_stands_in_the_set_of_its_record_with_what_it_holds() {
    let id = JobId::trusted("a");
    let there = Reserved { cpu_millis: 600, memory_bytes: 1 << 20, ..Reserved::default() };
    let at = |revision, scope, reserved| Sets {
        revision,
        sets: vec![(scope, BTreeSet::from([id.clone()]))],
        reserved: vec![(ExecutorId::trusted("e"), reserved)],
    };
    let assigned = || Scope::Assigned(ExecutorId::trusted("e"));
    let mut history = good();
    history.sets = vec![
        at(3, Scope::Pending, Reserved::default()),
        at(4, assigned(), there.clone()),
        at(6, Scope::Finished, Reserved::default()),
    ];
    assert_eq!(judge(&history), []);
    for (revision, scope, reserved) in [
        (4, Scope::Pending, there.clone()),
        (4, assigned(), Reserved::default()),
        (6, assigned(), Reserved::default()),
        (6, Scope::Finished, there),
    ] {
        history.sets = vec![at(revision, scope, reserved)];
        breaks(&history, Invariant::Partition);
    }
}

#[test]
fn a_job_ends_as_its_command_does_unless_it_was_given_up() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let failed = |reason| Job { state: JobState::Failed, end_reason: Some(reason), ..there.clone() };
    let with = |last: &Job| {
        let mut history = with_log(vec![job(&new), job(&there), job(last)]);
        history.submits[0].end = Some(JobState::Succeeded);
        history.runs.clear();
        history
    };
    breaks(&with(&failed(EndReason::ExecutorLost)), Invariant::Outcome);
    breaks(&with(&failed(EndReason::QueueTimeout)), Invariant::Outcome);
    let limited = Job { queue_timeout_ms: Some(1), ..failed(EndReason::QueueTimeout) };
    assert_eq!(judge(&with(&limited)), []);
    let too_early = Job { end_time_ms: Some(limited.create_time_ms), ..limited.clone() };
    breaks(&with(&too_early), Invariant::Outcome);
    // A clock was set back before it was put back: it was ready again earlier than it was submitted (seed 27309).
    let by_clock = Job { create_time_ms: 100, ready_time_ms: 10, end_time_ms: Some(20), ..limited };
    assert_eq!(judge(&with(&by_clock)), []);
    let at_most_once = Job { on_lost: OnLost::Fail, ..failed(EndReason::ExecutorLost) };
    assert_eq!(judge(&with(&at_most_once)), []);
    let aborted =
        Job { state: JobState::Aborted, end_reason: Some(EndReason::AbortedByUser), ..there.clone() };
    let mut history = with(&aborted);
    breaks(&history, Invariant::Outcome);
    history.aborts = vec![Abort { job: "a".into(), state: None, at_ms: 1 }];
    assert_eq!(judge(&history), [], "somebody asked for it");
}

#[test]
fn a_job_that_exits_does_so_with_the_code_of_its_command() {
    let mut history = good();
    history.submits[0].code = Some(0);
    assert_eq!(judge(&history), []);
    history.submits[0].code = Some(3);
    breaks(&history, Invariant::Outcome);
}

#[test]
fn what_is_another_s_is_left_alone() {
    let mut history = good();
    let theirs = assigned(&pending("b"), "e");
    history.neighbours = vec![run(&theirs, 1, None)];
    assert_eq!(judge(&history), []);
    history.neighbours = vec![run(&theirs, 1, Some((9, 143)))];
    breaks(&history, Invariant::Authority);
}
