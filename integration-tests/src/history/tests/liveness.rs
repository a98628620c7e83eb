//! Whatever is stuck, or takes longer than it must, is found.

use super::*;

/// A history by the clock: each change so many seconds after the one before; faults were over at once.
fn timed(changes: Vec<Change>, seconds: &[u64]) -> History {
    let mut history = with_log(changes);
    let mut at_ms = 1_000_000;
    for (logged, seconds) in history.log.iter_mut().zip([0, 0].iter().chain(seconds)) {
        at_ms += seconds * 1_000;
        logged.at_ms = at_ms;
    }
    History { calm_since_ms: 1_000_000, until_ms: at_ms, ..history }
}

#[test]
fn nothing_is_stuck_once_it_is_quiet() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let mut history = with_log(vec![job(&new), job(&there)]);
    history.runs.clear();
    breaks(&history, Invariant::Liveness);
    history.is_quiet = false;
    assert_eq!(judge(&history), []);
}

#[test]
fn each_step_is_made_in_its_time_once_faults_have_ceased() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let (runs, done) = (running(&there), ended(&running(&there), 0));
    let life = |seconds: &[u64], ends_after: u64| {
        let mut history = timed(vec![job(&new), job(&there), job(&runs), job(&done)], seconds);
        let started_ms = history.log[4].at_ms;
        history.runs = vec![run(&there, started_ms, Some((started_ms + ends_after * 1_000, 0)))];
        history
    };
    assert_eq!(judge(&life(&[0, 79, 0, 0], 0)), [], "a minute for all to be back, and a step");
    breaks(&life(&[0, 81, 0, 0], 0), Invariant::Liveness);
    breaks(&life(&[70, 21, 0, 0], 0), Invariant::Liveness);
    breaks(&life(&[70, 1, 21, 0], 0), Invariant::Liveness);
    assert_eq!(judge(&life(&[70, 1, 1, 900], 899)), [], "its command takes that long");
    breaks(&life(&[70, 1, 1, 900], 878), Invariant::Liveness);
    let mut history = life(&[0, 81, 0, 0], 0);
    history.calm_since_ms = 0;
    assert_eq!(judge(&history), [], "nobody knows when faults ceased");
}

#[test]
fn who_waits_without_need_is_told() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let done = ended(&there, 0);
    let wait = |other: &Job, more: Vec<Change>| {
        let mut changes = vec![job(other)];
        changes.extend(more);
        changes.extend([job(&new), job(&there), job(&done)]);
        let mut seconds = vec![0; changes.len()];
        let place = changes.len() - 3;
        (seconds[place], seconds[place + 1]) = (70, 30);
        let mut history = timed(changes, &seconds);
        let end_ms = history.until_ms;
        history.runs.push(run(&assigned(&pending("b"), "e"), 1, Some((end_ms, 0))));
        history
    };
    let beside = assigned(&pending("b"), "e");
    let of_beside =
        |record: Job| Job { demand: Demand { cpu_millis: 900, ..record.demand.clone() }, ..record };
    let (large, holds) = (of_beside(pending("b")), of_beside(running(&beside)));
    let mut full = wait(&large, vec![job(&of_beside(beside.clone())), job(&holds)]);
    full.log.truncate(full.log.len() - 2);
    full.until_ms += 30_000;
    let is_late =
        |history: &History| judge(history).iter().any(|found| found.story.contains("there is room for it"));
    assert!(!is_late(&full), "all room is taken");
    let mut free = full.clone();
    let at_ms = free.log.last().expect("it has some").at_ms;
    free.log.extend(logged(vec![job(&ended(&holds, 0))]).into_iter().map(|entry| Logged {
        revision: 99,
        at_ms,
        ..entry
    }));
    assert!(is_late(&free), "its room is free again: {:?}", judge(&free));
    let drained = Executor { drain: Some(Drain::default()), ..executor("e") };
    free.log.extend(logged(vec![executor_is(drained)]).into_iter().map(|entry| Logged {
        revision: 100,
        at_ms,
        ..entry
    }));
    assert!(!is_late(&free), "nobody takes jobs");
}

#[test]
fn limits_and_executors_are_looked_at_by_the_clock() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let limited = |record: &Job| Job { run_timeout_ms: Some(5_000), ..record.clone() };
    let runs = limited(&running(&there));
    let late = |record: &Job, seconds| {
        let mut history =
            timed(vec![job(&new), job(&there), job(record), job(&ended(record, 0))], &[70, 1, 1, seconds]);
        let started_ms = history.log[4].at_ms;
        history.runs = vec![run(&there, started_ms, Some((history.until_ms, 0)))];
        history
    };
    assert_eq!(judge(&late(&runs, 34)), [], "its timeout, the grace and a step");
    breaks(&late(&runs, 36), Invariant::Liveness);
    let unwanted = Job { abort_requested: true, ..running(&there) };
    assert_eq!(judge(&late(&unwanted, 29)), []);
    breaks(&late(&unwanted, 31), Invariant::Liveness);
    let lost = Executor { state: ExecutorState::Lost, session: None, ..executor("e") };
    let mut history = timed(vec![job(&new), job(&there), job(&ended(&there, 0)), executor_is(lost)], &[0; 4]);
    history.until_ms += 81_000;
    breaks(&history, Invariant::Liveness);
    history.until_ms -= 2_000;
    assert_eq!(judge(&history), [], "it may still come back in time");
    let released = Change::Leader { epoch: EPOCH, scheduler_id: String::new() };
    let mut history = timed(vec![job(&new), job(&there), job(&ended(&there, 0)), released], &[0; 4]);
    history.until_ms += 79_000;
    assert_eq!(judge(&history), []);
    history.until_ms += 2_000;
    breaks(&history, Invariant::Liveness);
    let mut history = good();
    (history.calm_since_ms, history.until_ms) = (1_000_000, 2_000_000);
    history.log.iter_mut().for_each(|logged| logged.at_ms = 1_000_000);
    (history.submits[0].began_ms, history.submits[0].answered_ms) = (1_070_000, 1_085_000);
    assert_eq!(judge(&history), []);
    history.submits[0].answered_ms = 1_095_000;
    breaks(&history, Invariant::Liveness);
}

#[test]
fn a_container_that_is_no_longer_wanted_is_stopped_in_time() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let back = Job { state: JobState::Pending, on_lost: OnLost::Retry, ..there.clone() };
    let again = assigned(&back, "e");
    let records = vec![job(&new), job(&there), job(&back), job(&again), job(&ended(&again, 0))];
    let mut history = timed(records, &[70, 1, 1, 1, 1]);
    let given_up_ms = history.log[4].at_ms;
    history.until_ms = given_up_ms + 100_000;
    let ends =
        |after_ms| vec![run(&there, 1, Some((given_up_ms + after_ms, 143))), run(&again, 2, Some((3, 0)))];
    history.runs = ends(29_000);
    assert_eq!(judge(&history), []);
    history.runs = ends(31_000);
    breaks(&history, Invariant::Liveness);
}

#[test]
fn a_call_that_nobody_answers_is_told() {
    let mut history = good();
    history.unanswered = vec!["the submit of job.1".into()];
    breaks(&history, Invariant::Liveness);
}
