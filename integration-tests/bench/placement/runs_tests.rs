//! What is read, what arrives, and what runs make of it.

use std::io::Write;

use crate::arrivals::{MARKS_PCT, Placed, batch, in_order, online, whole_batch};
use crate::cluster::{ANY_MODEL, Cluster, MAX_GPUS, Node, Room, Shape, WHOLE};
use crate::dynamic::{Waits, dynamic};
use crate::misfits::Misfit;
use crate::options::{self, Failure, Mode, Variant, Wanted};
use crate::plot;
use crate::policies::Kind;
use crate::report::{Row, mean_and_sd};
use crate::trace::{Trace, read_fleet, read_trace};
use crate::waiting::OneByOne;
use crate::whole::{Reach, Whole};
use crate::workload::{ARRIVING_PCT, Workload};

fn shape(cpu_millis: u64, gpus: u16, gpu_millis: u16) -> Shape {
    Shape { cpu_millis, memory_mib: 1, gpus, gpu_millis, models: ANY_MODEL }
}

fn cluster(nodes: usize) -> Cluster {
    let mut gpus = [0; MAX_GPUS];
    gpus[..8].fill(WHOLE);
    Cluster { nodes: vec![Node::new(Room { cpu_millis: 64_000, memory_mib: 1_000, gpus }, 1); nodes] }
}

fn workload(pods: Vec<Shape>) -> Workload {
    Workload::of(&Trace { name: "small".to_owned(), pods }, Variant::Frac).expect("it asks for GPUs")
}

fn read(arguments: &[&str]) -> Result<Wanted, Failure> {
    options::read(arguments.iter().map(|argument| (*argument).to_owned()))
}

#[test]
fn options_are_read_as_users_write_them() {
    let wanted = read(&[
        "--seeds",
        "3-5",
        "--policy",
        "fgd",
        "--variant",
        "frac",
        "--order",
        "shuffled",
        "--mode",
        "dynamic",
        "--load",
        "1.0",
        "--pods",
        "default",
        "cpu250",
    ]);
    let wanted = wanted.expect("it is understood");
    assert_eq!((wanted.seeds, wanted.policies), ((3, 5), vec![Kind::Fgd]));
    assert_eq!((wanted.variant, wanted.is_shuffled), (Variant::Frac, true));
    assert_eq!(wanted.mode, Mode::Dynamic(1.0));
    assert_eq!(wanted.pods.len(), 2);
    assert!(wanted.pods[1].ends_with("openb_pod_list_cpu250.csv"));
    assert!(!wanted.is_checked);
    let wanted = read(&["--policy", "ours", "fgd", "ours", "--check"]).expect("it is understood");
    assert_eq!((wanted.policies, wanted.is_checked), (vec![Kind::Fgd, Kind::Ours], true));
    assert_eq!(read(&[]).expect("all has defaults").policies.len(), Kind::ALL.len());
}

#[test]
fn what_is_not_understood_is_refused_with_the_usage() {
    let refused: [&[&str]; 10] = [
        &["--policy", "best"],
        &["--policy", "fgd", "all"],
        &["--check", "all"],
        &["--seeds", "5-3"],
        &["--variant"],
        &["--mode", "later"],
        &["--load", "0.9"],
        &["--order", "file", "shuffled"],
        &["--fast", "yes"],
        &["fgd"],
    ];
    for arguments in refused {
        let failure = read(arguments).expect_err("it is refused");
        assert_eq!(failure.code, 2, "{arguments:?}");
        assert!(failure.message.contains("policies: random, first-fit"), "{arguments:?}");
    }
}

#[test]
fn what_does_not_apply_is_refused_with_what_to_do() {
    let rounds: [(&[&str], Misfit); 6] = [
        (&["--round", "whole"], Misfit::OfPolicies("--round")),
        (&["--policy", "ours"], Misfit::OfPolicies("--policy")),
        (&["--plot", "file.svg"], Misfit::OfPolicies("--plot")),
        (&["--seeds", "0-9"], Misfit::Seeds),
        (&["--variant", "frac"], Misfit::PartsInRounds),
        (&["--load", "0.9"], Misfit::Load),
    ];
    let rounds = rounds.map(|(others, misfit)| ([&["--mode", "rounds"], others].concat(), misfit));
    let frac = |mode, policies: &[&'static str]| [&["--mode", mode, "--variant", "frac"], policies].concat();
    let others = [
        (vec!["--mode", "batch", "--load", "0.9"], Misfit::Load),
        (vec!["--round", "leader"], Misfit::Round),
        (vec!["--mode", "batch", "--round", "leader", "--policy", "fgd"], Misfit::Round),
        (frac("batch", &[]), Misfit::PartsInQueue),
        (frac("batch", &["--policy", "fgd", "ours"]), Misfit::PartsInQueue),
        (frac("dynamic", &["--policy", "ours-untold"]), Misfit::PartsInQueue),
    ];
    for (arguments, misfit) in rounds.into_iter().chain(others) {
        let failure = read(&arguments).expect_err("it is refused");
        assert_eq!((failure.code, failure.message.lines().next()), (2, Some(&*format!("{misfit}."))));
    }
    let applies: [&[&str]; 6] = [
        &["--mode", "dynamic", "--round", "leader", "--policy", "ours-untold"],
        &["--mode", "rounds", "--seeds", "7", "--variant", "noshare", "--order", "shuffled", "--check"],
        &["--mode", "online", "--variant", "frac", "--policy", "ours"],
        &["--mode", "batch", "--variant", "frac", "--policy", "fgd"],
        &["--mode", "dynamic", "--variant", "frac", "--policy", "random", "fgd", "--load", "1.0"],
        &["--load", "1.0", "--mode", "dynamic"],
    ];
    applies.into_iter().for_each(|arguments| drop(read(arguments).expect("it applies")));
    assert_eq!(read(&["--mode", "rounds"]).expect("it applies").seeds, (0, 0), "one seed is drawn by");
}

#[test]
fn lists_are_read_by_the_names_of_their_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        path
    };
    let nodes = file(
        "nodes.csv",
        "sn,cpu_milli,memory_mib,gpu,model\na,8000,100,2,T4\nb,4000,50,0,\nc,8000,9,1,A10\n",
    );
    let fleet = read_fleet(&nodes).expect("they are read");
    assert_eq!(fleet.nodes.iter().map(|node| node.model).collect::<Vec<_>>(), [1, 0, 2]);
    let pods = file(
        "openb_pod_list_small.csv",
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n\
         x,1000,10,1,460,T4|A10\ny,2000,20,2,1000,\nz,3000,30,0,0,T4\nw,1,1,1,1000,H100\n",
    );
    let trace = read_trace(&pods, &fleet).expect("they are read");
    assert_eq!(trace.name, "small");
    assert_eq!(trace.pods[0], Shape { models: 3, memory_mib: 10, ..shape(1_000, 1, 460) });
    assert_eq!(trace.pods[1], Shape { memory_mib: 20, ..shape(2_000, 2, 1_000) });
    assert_eq!(trace.pods[2], Shape { memory_mib: 30, ..shape(3_000, 0, 0) });
    assert!(!fleet.nodes.iter().any(|node| node.fits(&trace.pods[3])), "nobody has that model");
    assert_eq!(read_trace(&folder.path().join("none.csv"), &fleet).expect_err("it is missing").code, 4);
    let wrong = file("wrong.csv", "cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,2,500\n");
    assert_eq!(read_trace(&wrong, &fleet).expect_err("parts of two GPUs").code, 1);
}

#[test]
fn noshare_leaves_out_parts_of_gpus_only() {
    let pods = vec![shape(1, 1, 460), shape(1, 1, 1_000), shape(1, 0, 0), shape(1, 1, 1_000)];
    let trace = Trace { name: "small".to_owned(), pods };
    let whole = Workload::of(&trace, Variant::Noshare).expect("it asks for GPUs");
    assert_eq!((whole.shapes.len(), whole.pods.len()), (2, 3));
    assert_eq!(Workload::of(&trace, Variant::Frac).expect("it asks for GPUs").pods.len(), 4);
    let none = Trace { name: "none".to_owned(), pods: vec![shape(1, 0, 0), shape(1, 1, 460)] };
    assert!(Workload::of(&none, Variant::Noshare).is_err());
}

#[test]
fn arrivals_end_at_130_percent_and_are_the_seeds_own() {
    let few = workload(vec![shape(1, 1, 1_000), shape(1, 2, 1_000), shape(1, 0, 0)]);
    let drawn = few.arrivals(100_000, 1);
    let asked = few.gpu_millis(&drawn);
    assert!((130_000..=131_000).contains(&asked), "{asked}");
    assert_eq!(drawn, few.arrivals(100_000, 1));
    assert_ne!(drawn, few.arrivals(100_000, 2));
    let many = workload(vec![shape(1, 1, 1_000); 1_000]);
    assert_eq!(many.gpu_millis(&many.arrivals(100_000, 1)), 130_000);
}

#[test]
fn every_pod_that_fits_is_counted_at_each_mark() {
    let all = workload(vec![shape(1, 8, 1_000), shape(1, 0, 0)]);
    let pods = all.arrivals(80_000, 0);
    for kind in Kind::ALL {
        let mut cluster = cluster(10);
        let mut policy = kind.make(&cluster, &all, 0);
        let marks = online(&mut cluster, &all, &pods, policy.as_mut());
        assert_eq!(marks.iter().map(|(mark, _)| *mark).collect::<Vec<_>>(), MARKS_PCT);
        assert_eq!((marks[0].1.allocated_pct, marks[0].1.unallocated_gpus), (100.0, 0.0), "{kind:?}");
        assert_eq!((marks[0].1.eight_gpu_pct, marks[0].1.cpu_only_pct), (Some(100.0), Some(100.0)));
        assert!(marks[1].1.eight_gpu_pct.is_some_and(|share| (70.0..80.0).contains(&share)), "{kind:?}");
    }
}

#[test]
fn a_queue_begins_with_the_hardest_of_what_fits_together() {
    let mut cluster = cluster(1);
    let rare = Shape { models: 2, ..shape(1, 1, 1_000) };
    let all =
        workload(vec![shape(1, 0, 0), shape(1, 1, 1_000), shape(2, 1, 1_000), shape(1, 4, 1_000), rare]);
    assert_eq!(in_order(&cluster, &all, &[0, 1, 2, 3, 4]), [4, 3, 2, 1, 0]);
    // The second pod of four GPUs is too much; it, and all behind it, keep their order.
    assert_eq!(in_order(&cluster, &all, &[1, 3, 0, 3, 1, 2, 4]), [3, 1, 0, 3, 1, 2, 4]);
    let mut policy = Kind::FirstFit.make(&cluster, &all, 0);
    let placed = batch(&mut cluster, &all, &[1, 3, 0, 3, 1, 2], 100, policy.as_mut());
    assert_eq!(placed.allocated_pct, 62.5, "five of eight: the mark is reached with the second four");
}

#[test]
fn a_queue_longer_than_a_leaders_round_is_placed_in_several() {
    let all = workload(vec![shape(1, 1, 1_000); 500]);
    let placed = |reach| {
        let (mut cluster, empty) = (cluster(60), cluster(60));
        let whole = Whole::new(&mut cluster, &all, true, reach);
        let placed = whole_batch(whole, &empty, &all, &all.pods, ARRIVING_PCT);
        assert!(cluster.is_sound());
        placed.unallocated_gpus
    };
    assert_eq!((placed(Reach::Leader), placed(Reach::Whole)), (0.0, 0.0));
}

#[test]
fn nobody_waits_where_there_is_room_and_everybody_where_there_is_none() {
    let all = workload(vec![shape(1, 1, 1_000), shape(1, 1, 1_000), shape(1, 0, 0), shape(1, 8, 1_000)]);
    let run = |load, is_whole| {
        let mut cluster = cluster(20);
        let gpu_millis = cluster.gpu_millis();
        let (placed, waits) = if is_whole {
            dynamic(&mut Whole::new(&mut cluster, &all, true, Reach::Leader), &all, gpu_millis, load, 3)
        } else {
            let mut policy = Kind::FirstFit.make(&cluster, &all, 0);
            dynamic(&mut OneByOne::new(&mut cluster, &all, policy.as_mut()), &all, gpu_millis, load, 3)
        };
        assert!(cluster.is_sound());
        (placed, waits)
    };
    for is_whole in [false, true] {
        let (calm, waits) = run(0.02, is_whole);
        assert_eq!((waits.p99_s, calm.cpu_only_pct), (0.0, Some(100.0)));
        assert!(calm.allocated_pct < 10.0, "{calm:?}");
        let (busy, waits) = run(1.5, is_whole);
        assert!(busy.allocated_pct > 80.0 && busy.allocated_pct <= 100.0, "{busy:?}");
        assert!(waits.eight_gpu_s.is_some_and(|wait| wait > 60.0) && waits.mean_s > 60.0, "{waits:?}");
    }
}

#[test]
fn deviations_are_those_of_a_sample() {
    assert_eq!(mean_and_sd([1.0, 3.0].into_iter()), Some((2.0, 2.0_f64.sqrt())));
    assert_eq!(mean_and_sd([5.0].into_iter()), Some((5.0, 0.0)));
    assert_eq!(mean_and_sd(std::iter::empty()), None);
}

#[test]
fn every_policy_has_its_bar() {
    let row = |policy, allocated_pct, waits| Row {
        policy,
        trace: "small".to_owned(),
        seed: 0,
        arrived_pct: 100.0,
        placed: Placed { allocated_pct, ..Placed::default() },
        waits,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("plot.svg");
    let drawn = |rows: &[Row]| {
        plot::draw(rows, &file).expect("it is drawn");
        std::fs::read_to_string(&file).expect("a file")
    };
    let bars = drawn(&[row(Kind::Fgd, 91.5, None), row(Kind::Fgd, 92.5, None), row(Kind::Ours, 99.0, None)]);
    assert!(bars.starts_with("<svg") && bars.contains("small: GPUs allocated at 100 % arrived"), "{bars}");
    assert!(bars.contains("92.00 ± 0.71") && bars.contains("99.00 ± 0.00") && !bars.contains("nomad2"));
    let waits = Some(Waits { mean_s: 90.0, p99_s: 0.0, eight_gpu_s: Some(600.0) });
    let bars = drawn(&[row(Kind::Ours, 91.5, waits)]);
    assert!(bars.contains("1.50 ±") && bars.contains("10.00 ±"), "{bars}");
    assert!(
        plot::draw(&[], &folder.path().join("none").join("plot.svg")).is_err(),
        "there is no such folder"
    );
}
