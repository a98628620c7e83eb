//! Whoever has no say is found: leaders that were deposed, executors of void sessions.

use super::*;

#[test]
fn only_the_leader_of_the_time_assigns() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let history = with_log(vec![job(&new), leads(EPOCH + 1), job(&there), job(&ended(&there, 0))]);
    breaks(&history, Invariant::LeaderFence);
    let twice = History { log: logged(vec![leads(EPOCH), leads(EPOCH)]), ..History::default() };
    breaks(&twice, Invariant::LeaderFence);
}

#[test]
fn a_leader_s_changes_are_made_by_whoever_leads() {
    let by = |epoch| Some(By { epoch, ..By::default() });
    let lost = Executor { state: ExecutorState::Lost, session: None, ..executor("e") };
    let mut history = good().with(executor_is(lost));
    history.log.iter_mut().for_each(|logged| logged.generation = 1);
    for (place, epoch, is_right) in [
        (3, Some(EPOCH), true),
        (3, Some(EPOCH - 1), false),
        (3, None, false),
        (6, Some(EPOCH), true),
        (6, None, false),
    ] {
        history.log.iter_mut().for_each(|logged| logged.by = None);
        history.log[place].by = by(epoch);
        if is_right {
            assert_eq!(judge(&history), []);
        } else {
            breaks(&history, Invariant::LeaderFence);
        }
    }
    let released = Change::Leader { epoch: EPOCH, scheduler_id: String::new() };
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let mut history = with_log(vec![job(&new), released, job(&there), job(&ended(&there, 0))]);
    history.log[4].by = by(Some(EPOCH));
    breaks(&history, Invariant::LeaderFence);
    let mut history = good();
    history.log[3].by = by(Some(EPOCH));
    history.log[3..].iter_mut().for_each(|logged| logged.generation = 2);
    breaks(&history, Invariant::LeaderFence);
}

#[test]
fn a_report_counts_in_its_session_and_of_its_attempt_alone() {
    let told =
        |session: &str, attempt| By { session: Some(SessionId::trusted(session)), attempt, ..By::default() };
    let mut history = good();
    for (by, is_right) in [
        (told("s", Some((1, EPOCH))), true),
        (told("s", None), true),
        (told("before", Some((1, EPOCH))), false),
        (told("s", Some((1, EPOCH - 1))), false),
        (By::default(), false),
    ] {
        history.log[5].by = Some(by);
        if is_right {
            assert_eq!(judge(&history), []);
        } else {
            breaks(&history, Invariant::ExecutorFence);
        }
    }
}

#[test]
fn a_lost_executor_has_no_say() {
    let (new, there) = (pending("a"), assigned(&pending("a"), "e"));
    let lost = Executor { state: ExecutorState::Lost, session: None, ..executor("e") };
    let mut history =
        with_log(vec![job(&new), job(&there), executor_is(lost.clone()), job(&ended(&there, 0))]);
    breaks(&history, Invariant::ExecutorFence);
    history = with_log(vec![
        job(&new),
        job(&there),
        executor_is(lost),
        job(&running(&there)),
        job(&ended(&there, 0)),
    ]);
    breaks(&history, Invariant::ExecutorFence);
}

#[test]
fn an_executor_is_not_judged_before_its_time() {
    let lost = Executor { state: ExecutorState::Lost, session: None, ..executor("e") };
    let mut history = good();
    history
        .log
        .extend(logged(vec![executor_is(lost)]).into_iter().map(|logged| Logged { revision: 7, ..logged }));
    for logged in &mut history.log {
        logged.at_ms = logged.revision * 1_000;
    }
    history.lost_after_ms = 5_000;
    assert_eq!(judge(&history), [], "it registered 5 s before");
    history.lost_after_ms = 5_001;
    breaks(&history, Invariant::ExecutorFence);
}
