//! Every promise, kept and broken, by made-up rows.

use std::time::Duration;

use crate::arrivals::Placed;
use crate::checks::Verdict;
use crate::dynamic::Waits;
use crate::options::{self, Variant, Wanted};
use crate::policies::Kind;
use crate::report::Row;
use crate::rounds::{Scene, Timed};

fn wanted(arguments: &[&str]) -> Wanted {
    options::read(arguments.iter().map(|argument| (*argument).to_owned())).expect("it is understood")
}

/// A row at 100 % arrived: what is allocated, and the shares of 8-GPU and of CPU-only pods placed.
fn placing(policy: Kind, trace: &str, [allocated_pct, eight, cpu_only]: [f64; 3]) -> Row {
    let (eight_gpu_pct, cpu_only_pct) = (Some(eight), Some(cpu_only));
    let placed = Placed { allocated_pct, eight_gpu_pct, cpu_only_pct, ..Placed::default() };
    Row { policy, trace: trace.to_owned(), seed: 0, arrived_pct: 100.0, placed, waits: None }
}

fn waiting(policy: Kind, mean_s: f64, eight_gpu_s: f64) -> Row {
    let waits = Waits { mean_s, p99_s: 0.0, eight_gpu_s: Some(eight_gpu_s) };
    Row { waits: Some(waits), ..placing(policy, "default", [90.0; 3]) }
}

/// Which promises are kept, in their order.
fn held(verdict: &Verdict) -> Vec<bool> {
    verdict.checks.iter().map(|check| check.holds).collect()
}

#[test]
fn ours_is_held_against_the_better_of_two_and_in_classes_against_fgd() {
    for mode in ["online", "batch"] {
        let wanted = wanted(&["--mode", mode]);
        let against = |ours: [f64; 3]| {
            let rows = [
                placing(Kind::FirstFit, "default", [91.0, 100.0, 100.0]),
                placing(Kind::Fgd, "default", [90.0, 80.0, 70.0]),
                placing(Kind::Ours, "default", ours),
            ];
            Verdict::of_policies(&rows, &wanted)
        };
        assert_eq!(held(&against([91.0, 80.0, 70.0])), [true; 3], "who is as good is not worse");
        assert_eq!(held(&against([90.9, 80.0, 70.0])), [false, true, true], "first-fit is the better");
        assert_eq!(held(&against([91.0, 79.9, 70.0])), [true, false, true]);
        assert_eq!(held(&against([91.0, 80.0, 69.9])), [true, true, false]);
    }
}

#[test]
fn means_over_seeds_are_judged_by_trace_and_mark() {
    let mut rows = vec![
        placing(Kind::FirstFit, "default", [80.0; 3]),
        placing(Kind::Fgd, "default", [90.0; 3]),
        placing(Kind::Ours, "default", [80.0; 3]),
        placing(Kind::Ours, "default", [100.0; 3]),
    ];
    let others = rows.clone().into_iter().map(|row| Row { trace: "cpu250".to_owned(), ..row });
    let others: Vec<Row> = others.take(3).collect();
    let later = rows.clone().into_iter().map(|row| Row { arrived_pct: 130.0, ..row });
    let later: Vec<Row> = later.take(3).collect();
    rows.extend(others.into_iter().chain(later));
    let verdict = Verdict::of_policies(&rows, &wanted(&[]));
    let kept = [[true; 3], [false; 3], [false; 3]].concat();
    assert_eq!(held(&verdict), kept);
    assert_eq!((verdict.checks[0].ours, verdict.checks[0].limit), (90.0, 90.0));
    assert_eq!(verdict.checks[3].trace, "cpu250");
    assert!(verdict.checks[6].promise.ends_with("at 130 % arrived"), "{:?}", verdict.checks[6]);
}

#[test]
fn gpuspec33_has_a_limit_of_its_own_where_whole_gpus_come_one_by_one() {
    let judged = |allocated_pct, arguments: &[&str]| {
        let rows = [placing(Kind::Ours, "gpuspec33", [allocated_pct; 3])];
        Verdict::of_policies(&rows, &wanted(arguments))
    };
    assert_eq!(held(&judged(96.5, &["--order", "shuffled"])), [true]);
    assert_eq!(held(&judged(96.49, &[])), [false]);
    for arguments in [&["--mode", "batch"][..], &["--variant", "frac"]] {
        assert_eq!(held(&judged(90.0, arguments)), [false; 0], "{arguments:?}");
    }
}

#[test]
fn waits_are_held_against_those_with_fgd() {
    let wanted = wanted(&["--mode", "dynamic"]);
    let against = |mean_s, eight_gpu_s| {
        let rows = [waiting(Kind::Fgd, 60.0, 600.0), waiting(Kind::Ours, mean_s, eight_gpu_s)];
        Verdict::of_policies(&rows, &wanted)
    };
    assert_eq!(held(&against(60.0, 600.0)), [true, true]);
    assert_eq!(held(&against(60.1, 10.0)), [false, true]);
    assert_eq!(held(&against(10.0, 600.1)), [true, false]);
}

#[test]
fn fgd_is_near_what_was_published_where_it_is_the_same_that_is_measured() {
    let judged = |default, gpuspec33, wanted: &Wanted| {
        let rows = [
            placing(Kind::Fgd, "default", [default; 3]),
            placing(Kind::Fgd, "gpuspec33", [gpuspec33; 3]),
            placing(Kind::Fgd, "cpu250", [0.0; 3]),
        ];
        Verdict::of_policies(&rows, wanted)
    };
    let mut wanted = wanted(&["--variant", "frac"]);
    assert_eq!(held(&judged(94.74, 88.33, &wanted)), [true, true]);
    assert_eq!(held(&judged(94.72, 88.35, &wanted)), [false, false]);
    wanted.is_shuffled = true;
    assert_eq!(
        held(&judged(94.72, 88.35, &wanted)),
        [false; 0],
        "the paper's nodes stand in the order of the file"
    );
    (wanted.is_shuffled, wanted.variant) = (false, Variant::Noshare);
    assert_eq!(held(&judged(94.72, 88.35, &wanted)), [false; 0]);
}

#[test]
fn rounds_of_both_traces_have_limits_by_what_they_find() {
    let timed = |trace: &str, scene, jobs, us| Timed {
        trace: trace.to_owned(),
        jobs,
        nodes: 10_000,
        scene,
        placed: 0,
        round: Duration::from_micros(us),
        next: Duration::MAX,
    };
    let judged = |empty, fragmented| {
        let of = |trace| {
            [
                timed(trace, Scene::Empty, 100_000, empty),
                timed(trace, Scene::Empty, 10_000, u64::MAX),
                timed(trace, Scene::Fragmented, 100_000, fragmented),
                timed(trace, Scene::Unlike, 100_000, u64::MAX),
            ]
        };
        let all: Vec<Timed> = ["default", "gpuspec33", "cpu250"].into_iter().flat_map(of).collect();
        Verdict::of_rounds(&all)
    };
    assert_eq!(held(&judged(99_900, 249_900)), [true; 4]);
    assert_eq!(held(&judged(100_000, 249_900)), [false, true, false, true]);
    assert_eq!(held(&judged(99_900, 250_000)), [true, false, true, false]);
    let one = Verdict::of_rounds(&[timed("gpuspec33", Scene::Empty, 100_000, 1)]);
    assert_eq!((held(&one), one.unjudged.len()), (vec![true], 3));
}

#[test]
fn what_lacks_rows_is_not_judged_and_said_so() {
    let rows = [placing(Kind::Fgd, "default", [90.0; 3]), placing(Kind::Ours, "default", [91.0; 3])];
    let verdict = Verdict::of_policies(&rows, &wanted(&[]));
    assert_eq!(held(&verdict), [true, true]);
    let lacks = |part: &str| verdict.unjudged.iter().any(|line| line.contains(part));
    assert!(lacks("there are no figures of first-fit") && lacks("gpuspec33"), "{:?}", verdict.unjudged);
    let mut none = placing(Kind::Ours, "default", [91.0; 3]);
    none.placed.eight_gpu_pct = None;
    let rows = [placing(Kind::Fgd, "default", [90.0; 3]), none];
    assert_eq!(held(&Verdict::of_policies(&rows, &wanted(&[]))), [true], "no pod with 8 GPUs came");
}

#[test]
fn a_run_fails_with_a_line_for_each_broken_promise_and_where_nothing_was_judged() {
    let rows = |ours| {
        let others = [(Kind::FirstFit, 90.0), (Kind::Fgd, 80.0), (Kind::Ours, ours)];
        others.map(|(kind, allocated)| placing(kind, "default", [allocated, ours, 100.0]))
    };
    let wanted = wanted(&[]);
    let verdict = Verdict::of_policies(&rows(90.0), &wanted);
    assert_eq!(verdict.outcome(), Ok(()));
    let first = &verdict.json()[0];
    assert_eq!(
        (&first["trace"], &first["ours"], &first["holds"]),
        (&"default".into(), &90.0.into(), &true.into())
    );
    let failure = Verdict::of_policies(&rows(70.0), &wanted).outcome().expect_err("it is worse");
    assert_eq!((failure.code, failure.message.lines().count()), (1, 1), "{}", failure.message);
    assert!(
        failure.message.contains("default: GPUs allocated")
            && failure.message.contains("70.000, limit 90.000")
    );
    let failure = Verdict::of_policies(&rows(90.0)[..1], &wanted).outcome().expect_err("nothing was judged");
    assert_eq!(failure.code, 2);
    assert!(failure.message.contains("--policy must name ours, fgd and first-fit"), "{}", failure.message);
}
