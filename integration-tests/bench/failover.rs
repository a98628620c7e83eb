//! How long a cluster is without a leader, by killing its leader under load; and what is lost by that.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement ends when its ground gives way"
)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use berth_api::v1;
use berth_integration_tests::cluster::{Size, id_of};
use berth_integration_tests::load::{Assignments, Load};
use berth_integration_tests::replicas::{Replicas, name};
use berth_integration_tests::wait::{until, until_within};
use berth_integration_tests::{docker, http};
use serde_json::{Value, json};

/// The lock's life, as the schedulers have it by default.
const TTL: Duration = Duration::from_secs(3);
/// Time between two submits.
const SUBMIT_EVERY: Duration = Duration::from_millis(20);
/// Jobs in real containers that must not notice anything.
const LONG_JOBS: usize = 4;
/// Stops in order.
const HANDOVERS: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let kills = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => 20,
        ["--kills", count] if count.parse::<usize>().is_ok_and(|count| count > 0) => {
            count.parse().expect("checked")
        }
        _ => {
            eprintln!("usage: failover [--kills N]");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(kills))
}

struct Long {
    id: String,
    container: String,
}

async fn measure(kills: usize) -> ExitCode {
    let began = Instant::now();
    let mut replicas = Replicas::start(3, &[]);
    let many = Size { cpus: "64", memory: "64g", gpus: "" };
    for id in ["executor-1", "executor-2"] {
        replicas.add_executor(id, many, &["--runtime", "simulated", "--cleanup-after", "0s"]);
    }
    // Nothing but the long jobs fits here: they take all of it.
    replicas.add_executor("executor-3", Size { cpus: "0.4", memory: "128m", gpus: "a100:4" }, &[]);
    let long: Vec<Long> = (0..LONG_JOBS).map(|_| begin_long(&replicas)).collect();
    let seen = Assignments::watch(&replicas.addresses());
    let load = Load::begin(&replicas.addresses(), SUBMIT_EVERY, &spec());
    until("the load runs", || (load.acknowledged() >= 100).then_some(()));

    let first_assign: Vec<f64> = (0..kills).map(|kill| kill_leader(&mut replicas, &seen, kill)).collect();
    work_off(&replicas);
    let handover: Vec<f64> = (0..HANDOVERS).map(|_| hand_over(&mut replicas, &seen)).collect();
    for ttls in [2, 10] {
        pause_leader(&replicas, &seen, TTL * ttls);
    }

    let (acknowledged, refused) = load.end().await;
    let lost = account(&replicas, &acknowledged);
    let touched: Vec<String> = long.iter().filter_map(|long| end_long(&replicas, long)).collect();
    report(&Figures {
        took: began.elapsed(),
        first_assign,
        handover,
        acknowledged: acknowledged.len(),
        refused,
        lost,
        touched,
        stale: seen.stale(),
    })
}

/// What the load consists of; simulated executors play it.
fn spec() -> v1::JobSpec {
    v1::JobSpec {
        image: docker::IMAGE.to_owned(),
        command: vec!["true".to_owned()],
        resources: Some(v1::Resources {
            cpu_millis: 500,
            memory_bytes: 256 << 20,
            ..v1::Resources::default()
        }),
        queue_timeout: Some(berth_api::convert::duration(0)),
        ..v1::JobSpec::default()
    }
}

fn begin_long(replicas: &Replicas) -> Long {
    let line = "while ! [ -e /tmp/go ]; do sleep 0.2; done; exit 7";
    let job = json!({ "image": docker::IMAGE, "command": ["sh", "-c", line], "cpus": 0.1, "memory": "32Mi",
        "gpus": 1, "network": "none", "queueTimeout": "0s", "onLost": "FAIL" });
    let id = id_of(&replicas.cluster.submit(&job));
    replicas.cluster.reaches(&id, &["RUNNING"]);
    let container = docker::containers_of(&id).pop().expect("its container");
    Long { id, container }
}

/// Lets a long job end; gives what was wrong with it.
fn end_long(replicas: &Replicas, long: &Long) -> Option<String> {
    docker::let_go(&long.container);
    let job = replicas.ended(&long.id);
    let same = docker::containers_of(&long.id) == std::slice::from_ref(&long.container);
    let well = job["exitCode"] == 7 && job["attempt"] == 1 && same;
    (!well).then(|| format!("{job}"))
}

fn kill_leader(replicas: &mut Replicas, seen: &Assignments, kill: usize) -> f64 {
    let (leader, epoch) = replicas.leader();
    let killed = Instant::now();
    replicas.kill(leader);
    let first = wait_for_assignment(seen, epoch, killed);
    println!(
        "kill {:2}: {} led; the next leader's first assignment after {first:.0} ms",
        kill + 1,
        name(leader)
    );
    come_back(replicas, seen, leader);
    first
}

/// Starts a replica again, and waits until it follows the cluster as it did before.
fn come_back(replicas: &mut Replicas, seen: &Assignments, index: usize) {
    replicas.start_again(index);
    let before = seen.newest();
    let address = replicas.replica(index).grpc.clone();
    until("it has caught up", || seen.has_told(&address, before).then_some(()));
}

/// Waits until what the last kill had left waiting was given away: a hand-over is measured by itself.
fn work_off(replicas: &Replicas) {
    until("the queue is short again", || {
        let stats = http::get(&replicas.replica(replicas.leader().0).http, "/stats");
        (stats["pendingCount"].as_i64()? < 5).then_some(())
    });
}

fn hand_over(replicas: &mut Replicas, seen: &Assignments) -> f64 {
    let (leader, epoch) = replicas.leader();
    let told = Instant::now();
    replicas.replica(leader).process.signal("TERM");
    let first = wait_for_assignment(seen, epoch, told);
    println!("stop: {} led; the next leader's first assignment after {first:.0} ms", name(leader));
    assert_eq!(replicas.stopped(leader), Some(0), "it stops in order");
    come_back(replicas, seen, leader);
    first
}

fn pause_leader(replicas: &Replicas, seen: &Assignments, pause: Duration) {
    let (leader, epoch) = replicas.leader();
    let paused = Instant::now();
    replicas.replica(leader).process.signal("STOP");
    let first = wait_for_assignment(seen, epoch, paused);
    until_within(pause * 2, "the pause is over", || (paused.elapsed() >= pause).then_some(()));
    replicas.replica(leader).process.signal("CONT");
    until("the one that was paused serves again", || {
        let stats = http::request(&replicas.replica(leader).http, "GET", "/stats", &[], b"");
        (stats.status == 200 && stats.json()["leaderEpoch"].as_i64() > Some(epoch)).then_some(())
    });
    println!(
        "pause of {} s: {} led; the next leader's first assignment after {first:.0} ms",
        pause.as_secs(),
        name(leader)
    );
}

/// Milliseconds from a moment to the first assignment of a later epoch.
fn wait_for_assignment(seen: &Assignments, epoch: i64, since: Instant) -> f64 {
    let (_, at) = until_within(Duration::from_secs(60), "a new leader assigns", || seen.first_after(epoch));
    at.saturating_duration_since(since).as_secs_f64() * 1_000.0
}

/// Waits until every acknowledged job has ended; gives those that cannot be read, or did not succeed.
fn account(replicas: &Replicas, acknowledged: &[String]) -> Vec<String> {
    until_within(Duration::from_secs(120), "nothing is left to be done", || {
        let stats = http::get(&replicas.cluster.scheduler.http, "/stats");
        // The long jobs run on.
        (stats["pendingCount"] == 0 && stats["assignedCount"] == 0 && stats["runningCount"] == LONG_JOBS)
            .then_some(())
    });
    let mut states = std::collections::BTreeMap::new();
    let mut token = String::new();
    loop {
        let page =
            http::get(&replicas.cluster.scheduler.http, &format!("/jobs?pageSize=1000&pageToken={token}"));
        for job in page["jobs"].as_array().into_iter().flatten() {
            states.insert(id_of(job), job["state"].clone());
        }
        match page["nextPageToken"].as_str() {
            Some(next) if !next.is_empty() => next.clone_into(&mut token),
            _ => break,
        }
    }
    let lost = acknowledged.iter().filter(|id| states.get(*id) != Some(&json!("SUCCEEDED")));
    lost.map(|id| format!("{id}: {}", states.get(id).unwrap_or(&Value::Null))).collect()
}

struct Figures {
    took: Duration,
    first_assign: Vec<f64>,
    handover: Vec<f64>,
    acknowledged: usize,
    refused: Vec<String>,
    lost: Vec<String>,
    touched: Vec<String>,
    stale: Vec<(i64, i64)>,
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn report(figures: &Figures) -> ExitCode {
    let (p50, p99) = (quantile(&figures.first_assign, 0.5), quantile(&figures.first_assign, 0.99));
    let (handover, slowest) = (quantile(&figures.handover, 0.5), quantile(&figures.handover, 1.0));
    let limit = (TTL + Duration::from_secs(2)).as_secs_f64() * 1_000.0;
    println!(
        "3 replicas, lock TTL {} s, Redis with fsync at every write, a submit each {} ms, {LONG_JOBS} containers",
        TTL.as_secs(),
        SUBMIT_EVERY.as_millis()
    );
    println!(
        "leader killed:  p50 {p50:.0} ms, p99 {p99:.0} ms to the next leader's first assignment (limit {limit:.0})"
    );
    println!(
        "leader stopped: median {handover:.0} ms, slowest {slowest:.0} ms of {} (limit 100)",
        figures.handover.len()
    );
    println!(
        "acknowledged {}, lost {}, refused {}, stale assignments {}, containers touched {}",
        figures.acknowledged,
        figures.lost.len(),
        figures.refused.len(),
        figures.stale.len(),
        figures.touched.len()
    );
    for wrong in figures.lost.iter().chain(&figures.touched).chain(&figures.refused).take(10) {
        println!("  {wrong}");
    }
    let ok = p99 < limit
        && slowest < 100.0
        && figures.lost.is_empty()
        && figures.refused.is_empty()
        && figures.touched.is_empty()
        && figures.stale.is_empty();
    let rounded = |values: &[f64]| values.iter().map(|value| value.round()).collect::<Vec<_>>();
    let line = json!({ "recipe": "failover", "ok": ok, "seed": null, "seconds": figures.took.as_secs(),
        "firstAssignMs": rounded(&figures.first_assign), "p50Ms": p50.round(), "p99Ms": p99.round(),
        "handoverMs": handover.round(), "handoversMs": rounded(&figures.handover),
        "acked": figures.acknowledged, "lost": figures.lost.len(), "refused": figures.refused.len(),
        "staleAssignments": figures.stale.len(), "containersTouched": figures.touched.len() });
    println!("{line}");
    if ok { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
