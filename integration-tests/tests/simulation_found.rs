//! What the simulation found in Berth itself, each as the short plan that showed it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

use std::time::Duration;

use berth_api::v1::OnLost;
use berth_domain::job::JobState;
use berth_integration_tests::simulation::fault::{Engine, Fault, Kind, Process, Silence};
use berth_integration_tests::simulation::{Machine, Plan, Report, Round, Wish, play};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One scheduler and one machine without GPUs, and nothing that goes wrong.
fn quiet(jobs: Vec<Wish>) -> Plan {
    Plan {
        seed: 1,
        schedulers: 1,
        machines: vec![Machine { cores: 2, gpus: (0, ""), skew_ms: 0, zones: ["", ""] }],
        log_age: Duration::from_secs(60),
        tick: ms(5),
        store_latency: Duration::ZERO,
        jobs,
        faults: Vec::new(),
        rounds: Vec::new(),
    }
}

fn job(number: usize, command: &str) -> Wish {
    Wish {
        number,
        image: "job",
        command: command.to_owned(),
        on_lost: OnLost::Retry,
        cpu_millis: 500,
        gpus: 0,
        constraint: "",
        priority: 50,
        max_retries: 0,
        queue_timeout: None,
        run_timeout: None,
        stop_grace: Duration::from_secs(2),
        end: JobState::Succeeded,
        pause: ms(100),
        abort_after: None,
    }
}

fn faults(all: Vec<(u64, u64, Kind)>) -> Vec<Fault> {
    let fault = |(number, (at, lasts, kind))| Fault { number, at: ms(at), lasts: ms(lasts), kind };
    all.into_iter().enumerate().map(fault).collect()
}

/// Plays a plan under some seeds, and expects nothing to be said against it.
fn holds(plan: &Plan) -> Vec<Report> {
    let seeds = 1..4;
    let run = |seed| {
        let report = play(&Plan { seed, ..plan.clone() });
        let violations: Vec<String> = report.violations().iter().map(ToString::to_string).collect();
        assert!(violations.is_empty() && report.is_complete, "seed {seed}:\n{}", violations.join("\n"));
        report
    };
    seeds.map(run).collect()
}

/// Leases, waits and the quarantine of `hold` jobs lasted as much longer as the clock was set back.
#[test]
fn a_store_whose_clock_is_set_back_delays_nobody() {
    let hold = Wish { on_lost: OnLost::Hold, ..job(0, "sleep 0.5") };
    let mut plan = quiet(vec![hold]);
    plan.faults = faults(vec![(600, 0, Kind::FailOver(ms(140))), (1_000, 0, Kind::ClockStep(-2_059_203))]);
    holds(&plan);
}

/// A replica that read the store's clock only with its commits knew nothing of it for an hour.
#[test]
fn a_clock_set_forward_in_a_quiet_cluster_is_noticed() {
    let without_place = Wish {
        gpus: 1,
        queue_timeout: Some(Duration::from_secs(20)),
        end: JobState::Failed,
        ..job(0, "true")
    };
    let mut plan = quiet(vec![without_place]);
    plan.schedulers = 3;
    plan.faults = faults(vec![(1_700, 0, Kind::ClockStep(3_297_711))]);
    holds(&plan);
}

/// The copy knew an older generation than the replicas had seen, and its clock was behind: they read it
/// again and again, without an end.
#[test]
fn a_copy_of_before_the_newest_generation_takes_over_with_a_clock_that_is_behind() {
    let mut plan = quiet((0..4).map(|number| job(number, "sleep 1")).collect());
    plan.faults = faults(vec![
        (800, 0, Kind::StoreRestart),
        (900, 0, Kind::ClockStep(-60_000)),
        (1_000, 0, Kind::FailOver(ms(500))),
    ]);
    holds(&plan);
}

/// A replica that was cut off dated a job by the time before the copy took over, an hour ahead of the copy's: it
/// would have waited for as much longer.
#[test]
fn a_submit_through_a_replica_that_was_away_is_dated_by_the_time_of_the_copy() {
    let without_place = |number| Wish {
        gpus: 1,
        queue_timeout: Some(Duration::from_secs(3)),
        end: JobState::Failed,
        pause: ms(250),
        ..job(number, "true")
    };
    let mut plan = quiet((0..40).map(without_place).collect());
    plan.schedulers = 2;
    plan.faults = faults(vec![
        (600, 7_000, Kind::Split(0, 0)),
        (900, 0, Kind::ClockStep(-3_000_000)),
        (1_000, 0, Kind::FailOver(ms(5_000))),
    ]);
    holds(&plan);
}

/// SIGTERM was delivered and the answer lost: the job's end was told as an exit of its own, with 143.
#[test]
fn a_stop_whose_answer_is_lost_is_still_a_stop() {
    let mut plan = quiet(vec![job(0, "sleep 9.5"), job(1, "sleep 9.5")]);
    plan.faults = faults(vec![(900, 20_000, Kind::Engine(Engine::LostAnswers, 0))]);
    plan.rounds =
        vec![Round { number: 0, executor: 0, begins: ms(1_500), deadline_ms: Some(500), lasts: ms(20_000) }];
    let reports = holds(&plan);
    let put_back = reports.iter().any(|report| report.jobs().any(|job| job.attempt == 2));
    assert!(put_back, "some were stopped and ran again");
}

/// The same leader went on after the store had lost its assignments: the epoch and number of one that an
/// executor had ended were given again, and it did nothing.
#[test]
fn an_assignment_that_the_store_has_lost_is_not_confused_with_the_next() {
    let mut plan = quiet((0..12).map(|number| job(number, "true")).collect());
    plan.machines.push(plan.machines[0].clone());
    plan.faults = faults(vec![(1_200, 0, Kind::FailOver(ms(700)))]);
    let reports = holds(&plan);
    assert!(reports.iter().any(|report| !report.history.tail.is_empty()), "assignments were lost");
}

/// A watch that broke off in the present state had a token as if it had told all of it, and none of what was
/// newer: what it had not come to was never told, and what it had told was told again.
#[test]
fn a_watch_that_breaks_off_at_its_begin_leaves_nothing_out() {
    let mut plan = quiet((0..20).map(|number| Wish { pause: ms(25), ..job(number, "true") }).collect());
    (plan.schedulers, plan.store_latency) = (2, ms(40));
    let unavailable = |at| (at, 40, Kind::Store(Silence::Unavailable, None));
    plan.faults = faults((1..15).map(|index| unavailable(150 * index)).collect());
    holds(&plan);
}

/// A fail-over lost changes that a watch had yet to read: it took their revisions for those of the new
/// generation, and left out what came under the same numbers.
#[test]
fn a_watch_does_not_take_lost_changes_for_those_of_the_next_generation() {
    for (command, slow_at, fails_at, lost) in [("true", 300, 1_650, 1_000), ("sleep 1.5", 700, 1_050, 500)] {
        let mut plan = quiet((0..8).map(|number| job(number, command)).collect());
        plan.schedulers = 3;
        plan.faults = faults(vec![
            (slow_at, 60_000, Kind::Store(Silence::Slow, Some(2))),
            (fails_at, 0, Kind::FailOver(ms(lost))),
        ]);
        holds(&plan);
    }
}

/// A commit of a leader that stalled for longer than its lock lasts arrives when another one leads.
#[test]
fn a_commit_that_arrives_late_changes_nothing() {
    let mut plan = quiet((0..10).map(|number| job(number, "sleep 0.3")).collect());
    plan.schedulers = 2;
    plan.faults = faults(vec![
        (400, 9_000, Kind::Store(Silence::Stalled, Some(0))),
        (600, 0, Kind::Stop(Process::Scheduler(1))),
        (12_000, 9_000, Kind::Store(Silence::Stalled, Some(1))),
    ]);
    let reports = holds(&plan);
    assert!(reports.iter().any(|report| report.leader_losses() > 0), "another one has led");
}
