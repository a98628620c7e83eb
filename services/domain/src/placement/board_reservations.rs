//! Promises to jobs that have waited for too long, by example.

use super::*;

fn on(job: &str, executor: &str) -> (JobId, ExecutorId) {
    (JobId::trusted(job), ExecutorId::trusted(executor))
}

fn lasting(job: &str, cpu_millis: u64, run_timeout_ms: u64) -> Request {
    Request { run_timeout_ms: Some(run_timeout_ms), ..request(job, cpu_millis, 0) }
}

fn starting(job: &str, executor: &str, cpu_millis: u64, run_timeout_ms: u64) -> Holding {
    Holding { ends: Ends::Within(run_timeout_ms), ..holding(job, executor, cpu_millis, None) }
}

fn after(ms: u64) -> Moment {
    Moment { now_ms: NOW_MS + ms, ..MOMENT }
}

#[test]
fn an_executor_is_kept_for_a_job_that_has_waited_for_too_long() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[]), ("b", 4_000, &[])]);
    board.hold(&holding("x", "a", 1_000, None));
    board.hold(&holding("y", "b", 3_000, None));
    board.push(aged(request("large", 4_000, 0)));
    board.push(request("small", 1_000, 0));
    let plan = board.plan(&MOMENT);
    assert_eq!(plan.reserved, [(JobId::trusted("large"), ExecutorId::trusted("a"))], "it lacks least");
    assert_eq!(plan.placed[0].1.executor.as_str(), "b");
    board.push(request("other", 1_000, 0));
    assert_eq!(board.plan(&MOMENT).placed.len(), 1, "what is kept is not given away");
    board.release(&holding("x", "a", 1_000, None));
    let first = placed(&mut board).swap_remove(0);
    assert_eq!(first, ("large".to_owned(), "a".to_owned()));
}

#[test]
fn who_ends_in_time_or_fits_beside_may_use_what_is_kept() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[])]);
    board.hold(&holding("x", "a", 2_000, Some(NOW_MS + 60_000)));
    board.push(aged(request("large", 3_000, 0)));
    let lasting = |job, cpu, ms| Request { run_timeout_ms: Some(ms), ..request(job, cpu, 0) };
    board.push(lasting("too long", 2_000, 60_001));
    assert_eq!(placed(&mut board), []);
    board.push(lasting("in time", 2_000, 60_000));
    assert_eq!(placed(&mut board), pairs(&[("in time", "a")]));
    board.withdraw(&lasting("in time", 2_000, 60_000));
    board.push(request("beside", 1_000, 0));
    board.push(request("no more", 1_000, 0));
    assert_eq!(placed(&mut board), pairs(&[("beside", "a")]));
}

#[test]
fn who_can_never_have_a_place_keeps_nobody_from_being_kept_one() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[])]);
    board.hold(&holding("x", "a", 1_000, None));
    for at in 0..9 {
        board.push(aged(request(&format!("{at}"), 10_000 - at, 0)));
    }
    board.push(aged(request("large", 4_000, 0)));
    let kept = |job, name| (JobId::trusted(job), ExecutorId::trusted(name));
    assert_eq!(board.plan(&MOMENT).reserved, [kept("large", "a")]);
    // Nor from being kept a second one, where there are enough.
    for at in 0..127 {
        put(&mut board, &format!("b-{at:03}"), &capacity("b", 100, &[]), true);
    }
    put(&mut board, "c", &capacity("c", 4_000, &[]), true);
    board.hold(&holding("y", "c", 1_000, None));
    board.push(aged(request("larger", 3_999, 0)));
    assert_eq!(board.plan(&MOMENT).reserved, [kept("large", "a"), kept("larger", "c")]);
}

/// An older job of the same shape had found no place while this one's was not open to it.
#[test]
fn whoever_has_an_executor_kept_gets_it_though_an_older_job_alike_waits_on() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[]), ("b", 4_000, &[])]);
    for at in 0..128 {
        put(&mut board, &format!("c-{at:03}"), &capacity("c", 100, &[]), true);
    }
    board.hold(&holding("x", "a", 1_000, None));
    board.hold(&holding("y", "b", 1_000, None));
    let older = aged(request("older", 4_000, 0));
    let younger = Request { create_time_ms: older.create_time_ms + 1, ..aged(request("younger", 4_000, 0)) };
    board.push(older);
    board.push(younger.clone());
    let plan = board.plan(&MOMENT);
    assert_eq!(plan.reserved, [on("older", "a"), on("younger", "b")]);
    board.release(&holding("y", "b", 1_000, None));
    let trial = board.try_out(&younger, &MOMENT);
    let plan = board.plan(&MOMENT);
    assert_eq!((plan.placed.len(), &plan.reserved), (1, &vec![on("older", "a")]));
    assert_eq!((plan.placed[0].0.as_str(), plan.placed[0].1.executor.as_str()), ("younger", "b"));
    assert!(trial.choice.is_some_and(|choice| choice.executor.as_str() == "b"), "a trial says the same");
}

#[test]
fn what_is_kept_stays_kept_unless_there_is_room_sooner_elsewhere() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[]), ("b", 4_000, &[])]);
    board.hold(&holding("x", "a", 1_000, Some(NOW_MS + 60_000)));
    board.hold(&holding("y", "b", 1_000, Some(NOW_MS + 70_000)));
    board.push(aged(request("large", 4_000, 0)));
    let on = |name| vec![(JobId::trusted("large"), ExecutorId::trusted(name))];
    assert_eq!(board.plan(&MOMENT).reserved, on("a"));
    board.hold(&holding("in time", "a", 3_000, Some(NOW_MS + 50_000)));
    assert_eq!(board.plan(&MOMENT).reserved, on("a"), "where more is lacking now, but there is room first");
    board.release(&holding("y", "b", 1_000, Some(NOW_MS + 70_000)));
    board.hold(&holding("z", "b", 3_000, Some(NOW_MS + 59_000)));
    assert_eq!(board.plan(&MOMENT).reserved, on("b"));
}

#[test]
fn where_nobody_knows_when_there_is_room_nobody_takes_what_is_lacking() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &["t4", "t4"])]);
    let gpu = Holding { gpu_device_ids: vec!["a-0".into()], ..holding("x", "a", 1_000, None) };
    board.hold(&Holding { demand: demand(1_000, 1, &[]), ..gpu });
    board.push(aged(request("large", 1_000, 2)));
    board.push(request("gpu", 1_000, 1));
    board.push(request("cpu", 2_000, 0));
    board.push(request("more cpu", 1_000, 0));
    assert_eq!(placed(&mut board), pairs(&[("cpu", "a")]));
}

#[test]
fn where_nobody_knows_when_there_is_room_not_even_the_smallest_takes_what_is_lacking() {
    let mut board = board(Policy::Auto, &[("a", 64_000, &[])]);
    board.hold(&holding("x", "a", 50, None));
    board.push(aged(request("large", 64_000, 0)));
    board.push(request("small", 10, 0));
    assert_eq!(placed(&mut board), []);
}

#[test]
fn a_higher_priority_does_not_respect_what_is_kept_for_a_lower_one() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[])]);
    board.hold(&holding("x", "a", 1_000, None));
    board.push(aged(request("large", 4_000, 0)));
    board.push(Request { priority: 60, ..request("urgent", 3_000, 0) });
    assert_eq!(placed(&mut board), pairs(&[("urgent", "a")]));
}

#[test]
fn devices_of_one_that_was_lost_and_is_back_are_given_back() {
    let mut board = Board::new(Placement::default());
    let holding = Holding {
        demand: demand(1_000, 2, &[]),
        gpu_device_ids: vec!["a-0".into(), "a-1".into()],
        ..holding("x", "a", 0, None)
    };
    board.hold(&holding);
    put(&mut board, "a", &capacity("a", 4_000, &["t4", "t4"]), true);
    board.push(aged(request("large", 1_000, 2)));
    let plan = board.plan(&MOMENT);
    assert_eq!(plan.reserved, [(JobId::trusted("large"), ExecutorId::trusted("a"))]);
}

#[test]
fn a_start_that_was_foreseen_is_not_put_off_for_who_comes_later() {
    let mut board = board(Policy::Auto, &[("a", 5_000, &[])]);
    board.hold(&holding("x", "a", 2_000, Some(NOW_MS + 60_000)));
    board.push(aged(request("large", 5_000, 0)));
    board.push(lasting("slow", 2_000, 50_000));
    assert_eq!(placed(&mut board), pairs(&[("slow", "a")]));
    board.withdraw(&lasting("slow", 2_000, 50_000));
    // It still has not started after 40 s, and may be there until 90 s have passed.
    board.hold(&starting("slow", "a", 2_000, 50_000));
    board.push(lasting("late", 1_000, 21_000));
    assert_eq!(board.plan(&after(40_000)).placed, []);
    board.push(lasting("in time", 1_000, 20_000));
    let plan = board.plan(&after(40_000));
    assert_eq!((plan.placed.len(), plan.placed[0].0.as_str()), (1, "in time"));
}

#[test]
fn who_was_given_a_place_in_the_same_round_or_has_not_started_ends_in_time_all_the_same() {
    let all: [(&str, u64, &[&str]); 2] = [("a", 4_000, &[]), ("b", 4_000, &[])];
    let mut board = board(Policy::Auto, &all);
    board.hold(&holding("y", "b", 2_000, Some(NOW_MS + 60_000)));
    board.push(Request { priority: 60, ..lasting("urgent", 4_000, 30_000) });
    board.push(aged(request("large", 4_000, 0)));
    let plan = board.plan(&MOMENT);
    assert_eq!((plan.placed.len(), plan.reserved), (1, vec![on("large", "a")]));
    board.withdraw(&Request { priority: 60, ..lasting("urgent", 4_000, 30_000) });
    board.hold(&starting("urgent", "a", 4_000, 30_000));
    assert_eq!(board.plan(&MOMENT).reserved, [on("large", "a")]);
}

#[test]
fn what_is_kept_stays_kept_where_another_is_only_as_good() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[]), ("b", 4_000, &[])]);
    board.hold(&holding("x", "a", 2_000, None));
    board.hold(&holding("y", "b", 1_000, None));
    board.push(aged(request("large", 4_000, 0)));
    assert_eq!(board.plan(&MOMENT).reserved, [on("large", "b")]);
    board.release(&holding("x", "a", 2_000, None));
    board.hold(&holding("z", "a", 1_000, None));
    assert_eq!(board.plan(&MOMENT).reserved, [on("large", "b")]);
    board.release(&holding("z", "a", 1_000, None));
    board.hold(&holding("z", "a", 999, None));
    assert_eq!(board.plan(&MOMENT).reserved, [on("large", "a")], "less is lacking");
}

#[test]
fn who_is_late_is_thought_to_be_late_by_as_much_again() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[]), ("b", 4_000, &[])]);
    board.hold(&holding("x", "a", 1_000, Some(NOW_MS + 10_000)));
    board.hold(&holding("y", "b", 1_000, Some(NOW_MS + 60_000)));
    board.push(aged(request("large", 4_000, 0)));
    assert_eq!(board.plan(&after(34_000)).reserved, [on("large", "a")]);
    assert_eq!(board.plan(&after(36_000)).reserved, [on("large", "b")]);
}

#[test]
fn one_that_never_has_room_keeps_nobody_from_being_kept_another_for_ever() {
    let small: (&str, u64, &[&str]) = ("c", 100, &[]);
    let mut board =
        board(Policy::Auto, &[("a", 8_000, &[]), ("b", 4_000, &[]), small, ("d", small.1, small.2)]);
    board.hold(&holding("for ever", "a", 1_000, None));
    board.hold(&holding("y", "b", 3_000, None));
    board.push(Request { create_time_ms: 0, ..aged(request("larger", 8_000, 0)) });
    board.push(Request { create_time_ms: 1, ..aged(request("large", 4_000, 0)) });
    board.hold(&holding("z", "a", 6_000, None));
    let kept = |board: &mut Board, ms| board.plan(&after(ms)).reserved;
    assert_eq!(kept(&mut board, 0), [on("larger", "a")]);
    board.release(&holding("z", "a", 6_000, None));
    assert_eq!(kept(&mut board, 1_000), [on("larger", "a")], "less is lacking now");
    assert_eq!(kept(&mut board, AGE_LIMIT_MS), [on("larger", "a")]);
    let both = [on("larger", "a"), on("large", "b")];
    assert_eq!(kept(&mut board, AGE_LIMIT_MS + 1_000), both);
    // The one does not take what is kept for the other, and keeps its own when that comes nearer.
    let plan = board.plan(&after(AGE_LIMIT_MS + 2_000));
    assert_eq!((plan.placed, plan.reserved), (vec![], both.to_vec()));
    put(&mut board, "a", &capacity("a", 8_100, &[]), true);
    assert_eq!(kept(&mut board, AGE_LIMIT_MS + 3_000), both);
}

#[test]
fn who_fits_beside_takes_devices_that_the_other_does_not_need() {
    let asks = |job, cpu, models: &[&str]| Request { demand: demand(cpu, 1, models), ..request(job, 0, 0) };
    let mut board = board(Policy::Auto, &[("a", 4_000, &["t4", "t4", "v100"])]);
    board.hold(&holding("x", "a", 2_000, Some(NOW_MS + 60_000)));
    board.push(aged(asks("large", 3_000, &["v100"])));
    board.push(asks("v100", 1_000, &["v100"]));
    assert_eq!(placed(&mut board), []);
    // By itself it would have the model of which there are fewest.
    board.push(asks("any", 1_000, &["t4", "v100"]));
    let plan = board.plan(&MOMENT);
    let devices = plan.placed.iter().flat_map(|(_, choice)| &choice.gpu_device_ids);
    assert_eq!(devices.collect::<Vec<_>>(), ["a-0"]);
}

#[test]
fn who_was_to_be_placed_and_was_not_is_still_the_first() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[]), ("b", 4_000, &[])]);
    board.hold(&holding("x", "a", 1_000, None));
    board.hold(&holding("y", "b", 2_000, None));
    let younger = Request { namespace: Namespace::trusted("another"), ..aged(request("younger", 4_000, 0)) };
    board.push(aged(request("large", 4_000, 0)));
    assert_eq!(board.plan(&MOMENT).reserved, [on("large", "a")]);
    board.push(younger);
    board.hold(&Holding { namespace: Namespace::trusted("default"), ..holding("z", "b", 1_000, None) });
    board.release(&holding("x", "a", 1_000, None));
    // The share of the other namespace is smaller.
    for _ in 0..2 {
        let plan = board.plan(&MOMENT);
        assert_eq!((plan.placed.len(), plan.placed[0].0.as_str()), (1, "large"));
    }
}

#[test]
fn who_found_no_room_has_what_is_kept_for_another_no_more() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[]), ("b", 4_000, &[])]);
    for at in 0..128 {
        put(&mut board, &format!("d-{at:03}"), &capacity("d", 100, &[]), true);
    }
    board.hold(&holding("x", "a", 1_000, None));
    board.hold(&holding("y", "b", 500, None));
    board.hold(&holding("z", "b", 500, None));
    let older = aged(request("older", 3_500, 0));
    let older = Request { demand: Demand { constraints: constraints("!zone"), ..older.demand }, ..older };
    let younger = Request { create_time_ms: older.create_time_ms + 1, ..aged(request("younger", 4_000, 0)) };
    board.push(older.clone());
    board.push(younger);
    assert_eq!(board.plan(&MOMENT).reserved, [on("older", "a"), on("younger", "b")]);
    // The younger one starts sooner where the older one must not go.
    board.put_executor(&ExecutorId::trusted("c"), &capacity("c", 4_000, &[]), &labels("a"), true);
    board.hold(&holding("w", "c", 1_000, Some(NOW_MS + 60_000)));
    board.release(&holding("z", "b", 500, None));
    board.push(request("small", 1_000, 0));
    let trial = board.try_out(&older, &MOMENT);
    let plan = board.plan(&MOMENT);
    assert_eq!(plan.reserved, [on("younger", "c")]);
    let places: Vec<(&str, &str)> =
        plan.placed.iter().map(|(job, choice)| (job.as_str(), choice.executor.as_str())).collect();
    assert_eq!(places, [("older", "b"), ("small", "a")]);
    assert!(trial.choice.is_some_and(|choice| choice.executor.as_str() == "b"), "a trial says the same");
}
