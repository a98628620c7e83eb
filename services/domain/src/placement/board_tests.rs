//! Promises of placement, by example.

use super::*;
use crate::placement::{Ends, Node, Obstacle, Policy, explain, fit};
use crate::resources::GpuDevice;

const NOW_MS: u64 = 10_000_000;
const AGE_LIMIT_MS: u64 = 300_000;

fn capacity(name: &str, cpu_millis: u64, models: &[&str]) -> Capacity {
    let device = |(at, model): (usize, &&str)| GpuDevice {
        id: format!("{name}-{at}"),
        model: (*model).into(),
        emulated: true,
    };
    Capacity { cpu_millis, memory_bytes: 1 << 40, gpus: models.iter().enumerate().map(device).collect() }
}

fn board(policy: Policy, executors: &[(&str, u64, &[&str])]) -> Board {
    let mut board = Board::new(Placement { policy, age_limit_ms: AGE_LIMIT_MS });
    for (name, cpu_millis, models) in executors {
        put(&mut board, name, &capacity(name, *cpu_millis, models), true);
    }
    board
}

fn put(board: &mut Board, name: &str, capacity: &Capacity, takes_jobs: bool) {
    board.put_executor(&ExecutorId::trusted(name), capacity, &Labels::new(), takes_jobs);
}

fn constraints(text: &str) -> Vec<Constraint> {
    let texts = [text].into_iter().filter(|text| !text.is_empty());
    texts.map(|text| Constraint::parse(text).expect("is valid")).collect()
}

fn labels(zone: &str) -> Labels {
    if zone.is_empty() { Labels::new() } else { [("zone".to_owned(), zone.to_owned())].into() }
}

fn demand(cpu_millis: u64, gpu_count: u32, models: &[&str]) -> Demand {
    let gpu_models = models.iter().map(|model| (*model).to_owned()).collect();
    Demand { cpu_millis, memory_bytes: 1, gpu_count, gpu_models, constraints: Vec::new() }
}

/// A job that has just been submitted; its name decides which is the older.
fn request(job: &str, cpu_millis: u64, gpu_count: u32) -> Request {
    Request {
        job: JobId::trusted(job),
        demand: demand(cpu_millis, gpu_count, &[]),
        avoid: None,
        priority: 50,
        namespace: Namespace::trusted("default"),
        create_time_ms: NOW_MS,
        ready_time_ms: NOW_MS,
        run_timeout_ms: None,
        may_repeat: true,
        image_hash: 0,
    }
}

fn aged(request: Request) -> Request {
    let since_ms = NOW_MS - AGE_LIMIT_MS - 1;
    Request { create_time_ms: since_ms, ready_time_ms: since_ms, ..request }
}

fn holding(job: &str, executor: &str, cpu_millis: u64, ends_ms: Option<u64>) -> Holding {
    Holding {
        job: JobId::trusted(job),
        executor: ExecutorId::trusted(executor),
        demand: demand(cpu_millis, 0, &[]),
        gpu_device_ids: Vec::new(),
        namespace: Namespace::trusted("default"),
        ends: ends_ms.map_or(Ends::Unknown, Ends::By),
    }
}

const MOMENT: Moment =
    Moment { now_ms: NOW_MS, limit: usize::MAX, window: usize::MAX, with_unrepeatable: true };

fn placed(board: &mut Board) -> Vec<(String, String)> {
    let plan = board.plan(&MOMENT);
    assert!(plan.is_complete);
    let names = |(job, choice): &(JobId, Choice)| (job.to_string(), choice.executor.to_string());
    plan.placed.iter().map(names).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(job, executor)| ((*job).into(), (*executor).into())).collect()
}

#[test]
fn best_fit_is_what_the_seed_had() {
    for policy in [Policy::Auto, Policy::BestFit] {
        let mut board = board(policy, &[("a", 8_000, &[]), ("b", 4_000, &[]), ("c", 4_000, &[])]);
        board.push(request("1", 3_000, 0));
        board.push(request("2", 1_000, 0));
        board.push(request("3", 4_000, 0));
        assert_eq!(placed(&mut board), pairs(&[("3", "b"), ("1", "c"), ("2", "c")]), "{policy:?}");
    }
}

#[test]
fn what_is_planned_is_not_noted_until_it_is_held() {
    let mut board = board(Policy::Auto, &[("a", 2_000, &[])]);
    board.push(request("1", 2_000, 0));
    assert_eq!(placed(&mut board), pairs(&[("1", "a")]));
    assert_eq!(placed(&mut board), pairs(&[("1", "a")]));
    board.withdraw(&request("1", 2_000, 0));
    board.hold(&holding("1", "a", 2_000, None));
    board.push(request("2", 1_000, 0));
    assert_eq!(placed(&mut board), []);
    board.release(&holding("1", "a", 2_000, None));
    assert_eq!(placed(&mut board), pairs(&[("2", "a")]));
    assert_eq!(board.reserved(&ExecutorId::trusted("a")), Some(&Reserved::default()));
}

#[test]
fn priority_is_strict() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[])]);
    board.push(request("1", 4_000, 0));
    board.push(Request { priority: 90, ..request("2", 1_000, 0) });
    board.push(Request { priority: 10, ..request("3", 3_000, 0) });
    assert_eq!(placed(&mut board), pairs(&[("2", "a"), ("3", "a")]));
}

#[test]
fn within_a_level_the_hardest_of_what_fits_comes_first() {
    let mut board = board(Policy::Auto, &[("a", 64_000, &["t4"; 8]), ("b", 64_000, &["t4"; 2])]);
    board.push(request("1", 1_000, 1));
    board.push(request("2", 1_000, 8));
    board.push(request("3", 1_000, 1));
    assert_eq!(placed(&mut board), pairs(&[("2", "a"), ("1", "b"), ("3", "b")]));
}

#[test]
fn what_exceeds_the_room_in_sum_waits_for_its_turn() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[])]);
    board.push(request("1", 1_000, 0));
    board.push(request("2", 2_000, 0));
    board.push(request("3", 4_000, 0));
    board.push(request("4", 1_000, 0));
    assert_eq!(placed(&mut board), pairs(&[("2", "a"), ("1", "a"), ("4", "a")]));
}

#[test]
fn namespaces_share_fairly() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[])]);
    let of = |job, namespace| Request { namespace: Namespace::trusted(namespace), ..request(job, 1_000, 0) };
    for job in ["1", "2", "3", "4", "5"] {
        board.push(of(job, "many"));
    }
    board.push(of("6", "few"));
    board.push(of("7", "few"));
    let placed = placed(&mut board);
    let few = placed.iter().filter(|(job, _)| job == "6" || job == "7").count();
    assert_eq!((placed.len(), few), (4, 2));
    // Who has much already waits for the other.
    let mut board = self::board(Policy::Auto, &[("a", 4_000, &[])]);
    board.hold(&Holding { namespace: Namespace::trusted("many"), ..holding("0", "a", 2_000, None) });
    board.push(of("1", "many"));
    board.push(of("2", "few"));
    board.push(of("3", "few"));
    assert_eq!(self::placed(&mut board), pairs(&[("2", "a"), ("3", "a")]));
}

#[test]
fn an_avoided_executor_is_used_only_if_no_other_will_do() {
    let mut board = board(Policy::Auto, &[("a", 8_000, &[]), ("b", 4_000, &[])]);
    let avoiding = |job, cpu| Request { avoid: Some(ExecutorId::trusted("b")), ..request(job, cpu, 0) };
    board.push(avoiding("1", 6_000));
    board.push(avoiding("2", 4_000));
    assert_eq!(placed(&mut board), pairs(&[("1", "a"), ("2", "b")]));
}

#[test]
fn one_that_takes_no_jobs_gets_none_and_one_that_is_forgotten_neither() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[]), ("b", 4_000, &[])]);
    board.push(request("1", 1_000, 0));
    put(&mut board, "a", &capacity("a", 4_000, &[]), false);
    assert_eq!(placed(&mut board), pairs(&[("1", "b")]));
    board.remove_executor(&ExecutorId::trusted("b"));
    assert_eq!(placed(&mut board), []);
    put(&mut board, "a", &capacity("a", 4_000, &[]), true);
    assert_eq!(placed(&mut board), pairs(&[("1", "a")]));
}

#[test]
fn jobs_that_must_not_repeat_can_be_passed_over() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[])]);
    board.push(Request { may_repeat: false, ..request("1", 1_000, 0) });
    board.push(request("2", 1_000, 0));
    let plan = board.plan(&Moment { with_unrepeatable: false, ..MOMENT });
    assert_eq!(plan.placed.len(), 1);
    assert_eq!(plan.placed[0].0.as_str(), "2");
}

#[test]
fn a_round_ends_at_its_limit_and_says_so() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[])]);
    ["1", "2", "3"].into_iter().for_each(|job| assert!(board.push(request(job, 1_000, 0))));
    let plan = board.plan(&Moment { limit: 2, ..MOMENT });
    assert_eq!((plan.placed.len(), plan.is_complete), (2, false));
    assert!(board.plan(&Moment { limit: 4, ..MOMENT }).is_complete);
}

#[test]
fn gpus_come_from_one_model_where_one_has_enough() {
    let mut board = board(Policy::Auto, &[("a", 64_000, &["t4", "a100", "t4", "a100", "t4"])]);
    board.push(request("1", 1_000, 2));
    let plan = board.plan(&MOMENT);
    assert_eq!(plan.placed[0].1.gpu_device_ids, ["a-1", "a-3"]);
}

#[test]
fn numbers_are_given_anew_and_nothing_else_changes() {
    let mut board = board(Policy::Auto, &[("b", 4_000, &["t4"]), ("a", 4_000, &["t4"])]);
    board.hold(&holding("x", "b", 1_000, None));
    board.push(request("1", 2_000, 1));
    board.push(request("2", 2_000, 1));
    let before = board.plan(&MOMENT);
    for cpu in 0..3 * STALE_NUMBERS as u64 {
        board.count_arrivals(&demand(cpu + 1, 0, &[]), 1);
        put(&mut board, &format!("c-{cpu}"), &capacity("c", 1, &[]), false);
        board.remove_executor(&ExecutorId::trusted(format!("c-{cpu}")));
    }
    assert_eq!(board.plan(&MOMENT), before);
    assert!(board.executors.len() < STALE_NUMBERS, "{}", board.executors.len());
    board.release(&holding("x", "b", 1_000, None));
    assert_eq!(board.plan(&MOMENT).placed.len(), 2);
}

#[test]
fn models_that_no_executor_has_are_remembered_by_name() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &["t4"])]);
    let asks = |job, models: &[&str]| Request { demand: demand(1_000, 1, models), ..request(job, 0, 0) };
    board.push(asks("1", &["b100"]));
    board.push(asks("2", &["h100", "z1"]));
    assert_eq!(placed(&mut board), [], "neither takes just any model");
    assert_eq!(board.models.len(), 1, "jobs make no models");
    put(&mut board, "b", &capacity("b", 4_000, &["h100"]), true);
    assert_eq!(placed(&mut board), pairs(&[("2", "b")]));
    board.count_arrivals(&demand(1_000, 1, &["h100", "y1"]), 3);
    assert_eq!(board.arrivals(), [(demand(1_000, 1, &["h100", "y1"]), 3)]);
}

#[test]
fn who_only_follows_forgets_what_has_gone() {
    let mut board = board(Policy::Auto, &[("a", u64::MAX, &[])]);
    for cpu in 1..=4 * STALE_NUMBERS as u64 {
        let request = request("1", cpu, 0);
        board.push(request.clone());
        board.withdraw(&request);
    }
    assert!(board.fleet.sizes().0 < 2 * STALE_NUMBERS, "{:?}", board.fleet.sizes());
}

#[test]
fn ranks_follow_names_however_executors_come() {
    let mut names: Vec<String> = (0..300).map(|i| format!("e{:03}", (i * 7_919) % 300)).collect();
    names.dedup();
    let mut board = Board::new(Placement::default());
    for name in &names {
        put(&mut board, name, &capacity(name, 1_000, &[]), true);
    }
    // So often between the same two that there is no room left.
    for name in (0..200).rev().map(|i| format!("a{i:03}")) {
        put(&mut board, &name, &capacity(&name, 1_000, &[]), true);
    }
    assert_eq!(board.numbered, (0, 0, 0), "those that come before all others have room");
    let mut close = "e100".to_owned();
    for _ in 0..58 {
        close.push('0');
        put(&mut board, &close, &capacity("c", 1_000, &[]), true);
    }
    let mut ranked: Vec<(Rank, &ExecutorId)> = board.executors.iter().map(|e| (e.rank, &e.id)).collect();
    ranked.sort_unstable();
    assert!(ranked.is_sorted_by(|one, other| one.1 < other.1 && one.0 < other.0));
}

#[test]
fn jobs_go_where_the_labels_are_that_they_ask_for() {
    let mut board = board(Policy::Auto, &[("a", 2_000, &[])]);
    let zoned = |job, cpu, text| {
        let request = request(job, cpu, 0);
        Request { demand: Demand { constraints: constraints(text), ..request.demand }, ..request }
    };
    let id = ExecutorId::trusted("b");
    board.put_executor(&id, &capacity("b", 8_000, &[]), &labels("b"), true);
    board.push(zoned("1", 1_000, "zone=b"));
    board.push(zoned("2", 1_000, "zone!=b"));
    board.push(zoned("3", 1_000, "zone=c"));
    assert_eq!(placed(&mut board), pairs(&[("1", "b"), ("2", "a")]));
    // Who has asked for less labels and found no place says nothing of who asks for others.
    board.push(zoned("4", 6_000, "zone!=b"));
    board.push(zoned("5", 6_000, "zone"));
    assert_eq!(placed(&mut board), pairs(&[("1", "b"), ("2", "a"), ("5", "b")]));
    board.put_executor(&id, &capacity("b", 8_000, &[]), &labels("c"), true);
    assert_eq!(placed(&mut board), pairs(&[("4", "b"), ("3", "b"), ("2", "b")]), "labels change");
    assert_eq!(board.keys.len(), 1);
    for job in [zoned("1", 1_000, "zone=b"), zoned("2", 1_000, "zone!=b"), zoned("3", 1_000, "zone=c")] {
        board.withdraw(&job);
    }
    board.withdraw(&zoned("4", 6_000, "zone!=b"));
    board.withdraw(&zoned("5", 6_000, "zone"));
    board.renumber(&Models::clone);
    assert!(board.keys.is_empty(), "nobody asks any more");
}

#[test]
fn of_equal_executors_one_that_has_the_image_is_chosen() {
    let all: [(&str, u64, &[&str]); 4] =
        [("a", 4_000, &[]), ("b", 4_000, &[]), ("c", 4_000, &[]), ("d", 2_000, &[])];
    let near = |job, cpu| Request { image_hash: 7, ..request(job, cpu, 0) };
    let mut board = board(Policy::Auto, &all);
    ["d", "c", "b"].into_iter().for_each(|id| board.note_image(&ExecutorId::trusted(id), 7));
    board.push(near("1", 3_000));
    assert_eq!(placed(&mut board), pairs(&[("1", "b")]), "the first by name of those that have it");
    board.hold(&holding("x", "b", 1_000, None));
    board.push(near("2", 4_000));
    assert_eq!(placed(&mut board), pairs(&[("2", "c"), ("1", "b")]), "what is free comes first");
    board.push(near("3", 1_000));
    board.push(request("4", 2_000, 0));
    board.renumber(&Models::clone);
    assert_eq!(placed(&mut board), pairs(&[("2", "c"), ("1", "b"), ("4", "d"), ("3", "a")]));
    for image in 100..100 + 40 {
        board.note_image(&ExecutorId::trusted("c"), image);
    }
    assert_eq!(board.images().filter(|(id, _)| id.as_str() == "c").count(), 32);
    assert_eq!(board.images[&7].len(), 2, "c has forgotten it");
    let mut plain = self::board(Policy::BestFit, &all);
    plain.note_image(&ExecutorId::trusted("c"), 7);
    plain.push(near("1", 4_000));
    assert_eq!(self::placed(&mut plain), pairs(&[("1", "a")]), "best fit goes by name");
}

#[test]
fn what_is_only_tried_changes_nothing() {
    let mut board = board(Policy::Auto, &[("a", 4_000, &[]), ("b", 8_000, &[])]);
    board.hold(&holding("x", "a", 1_000, Some(NOW_MS + 5_000)));
    board.hold(&holding("y", "a", 2_000, Some(NOW_MS + 9_000)));
    board.hold(&holding("z", "b", 7_000, None));
    board.push(request("1", 1_000, 0));
    let before = board.plan(&MOMENT);
    let trial = board.try_out(&request("2", 1_000, 0), &MOMENT);
    assert_eq!(trial.choice.expect("there is room").executor.as_str(), "b");
    let opening = |board: &mut Board, cpu| board.try_out(&request("2", cpu, 0), &MOMENT).opening;
    let on =
        |executor: &str, jobs, by_ms| Some(Opening { executor: ExecutorId::trusted(executor), jobs, by_ms });
    assert_eq!(opening(&mut board, 4_000), on("a", 2, Some(NOW_MS + 9_000)));
    assert_eq!(opening(&mut board, 8_000), on("b", 1, None));
    // What lacks least need not be free first.
    board.put_executor(&ExecutorId::trusted("c"), &capacity("c", 4_000, &[]), &Labels::new(), true);
    board.hold(&holding("w", "c", 1_000, Some(NOW_MS + 60_000)));
    assert_eq!(opening(&mut board, 4_000), on("a", 2, Some(NOW_MS + 9_000)));
    board.release(&holding("w", "c", 1_000, Some(NOW_MS + 60_000)));
    board.remove_executor(&ExecutorId::trusted("c"));
    assert_eq!(opening(&mut board, 9_000), None);
    assert_eq!(
        board.try_out(&request("1", 1_000, 0), &MOMENT).choice.expect("it waits").executor.as_str(),
        "a"
    );
    assert_eq!(board.plan(&MOMENT), before);
    board.push(request("2", 1_000, 0));
    assert_eq!(placed(&mut board).len(), 2);
}

#[test]
fn labels_that_somebody_asked_about_once_do_not_matter_to_others() {
    let mut board = Board::new(Placement::default());
    for name in ["a", "b"] {
        let labels = [("host".to_owned(), name.to_owned())].into();
        board.put_executor(&ExecutorId::trusted(name), &capacity(name, 4_000, &[]), &labels, true);
    }
    board.note_image(&ExecutorId::trusted("b"), 7);
    board.push(Request { image_hash: 7, ..request("1", 1_000, 0) });
    assert_eq!(placed(&mut board), pairs(&[("1", "b")]));
    let asking = request("2", 1_000, 0);
    let asking = Request { demand: Demand { constraints: constraints("host=x"), ..asking.demand }, ..asking };
    assert_eq!(board.try_out(&asking, &MOMENT), Trial::default());
    assert_eq!(placed(&mut board), pairs(&[("1", "b")]));
}

#[path = "board_properties.rs"]
mod properties;
#[path = "board_reservations.rs"]
mod reservations;
#[path = "board_stories.rs"]
mod stories;
#[path = "board_world.rs"]
mod world;
