//! An executor that is killed and started again at every point of a job's life, and ends that came while
//! one side, or both, were away.

use std::path::Path;
use std::time::Duration;

use berth_integration_tests::cluster::{Cluster, id_of};
use berth_integration_tests::docker::is_running;
use berth_integration_tests::docker::{self, StartCounter};
use berth_integration_tests::wait::until;
use serde_json::{Value, json};

use crate::Row;
use crate::support::{CLOCKS, SIZE, UNTIL_LET_GO, abort, end_of, held, let_go, patient, with};

/// Restarts.
pub const ROWS: &[Row] = &[
    Row::new(
        "executor-killed-at-12-points",
        "kill -9 of the executor at 12 points of a job's life, started again",
        twelve,
    ),
    Row::new("ends-while-away", "jobs end while the executor, the scheduler, or both are down", away),
];

/// Says whether a job is at a point of its life; it may be past it already.
type Point = (&'static str, fn(&Cluster, &str) -> bool);

const POINTS: [Point; 12] = [
    ("submitted", |_, _| true),
    ("assigned", |cluster, id| cluster.job(id)["state"] != "PENDING"),
    ("container made", |_, id| !docker::containers_of(id).is_empty()),
    ("container started", |_, id| docker::containers_of(id).iter().any(|container| is_running(container))),
    ("told to run", |cluster, id| cluster.job(id)["state"] == "RUNNING"),
    ("runs for a second", |cluster, id| seconds_running(&cluster.job(id)) >= 1.0),
    ("let go", |_, id| let_it_go(id)),
    ("exited", |_, id| {
        let_it_go(id) && docker::containers_of(id).iter().all(|container| !is_running(container))
    }),
    ("end on disk", |cluster, id| let_it_go(id) && has_file(cluster.executors[0].folder(), id)),
    ("end told", |cluster, id| let_it_go(id) && cluster.job(id)["state"] == "FAILED"),
    ("end noted", |cluster, id| let_it_go(id) && is_noted(cluster.executors[0].folder(), id)),
    ("abort asked for", |cluster, id| {
        let job = cluster.job(id);
        if job["state"] == "RUNNING" && job["abortRequested"] != true {
            abort(cluster, id, json!({}));
        }
        job["abortRequested"] == true
    }),
];

fn seconds_running(job: &Value) -> f64 {
    let Some(started) = job["startTime"].as_str() else { return 0.0 };
    let started: jiff::Timestamp = started.parse().expect("a time");
    jiff::Timestamp::now().duration_since(started).as_secs_f64()
}

/// Lets a job end as soon as it runs; says whether it was let go.
fn let_it_go(id: &str) -> bool {
    let Some(container) = docker::containers_of(id).pop() else { return false };
    if is_running(&container) {
        let_go(&container);
    }
    docker::inspect(&container)["State"]["StartedAt"].as_str().is_some_and(|at| !at.starts_with("0001"))
}

fn outbox(folder: &Path, id: &str, kind: &str) -> bool {
    let files = std::fs::read_dir(folder.join("outbox")).into_iter().flatten().flatten();
    files
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .any(|name| name.starts_with(id) && name.ends_with(kind))
}

fn has_file(folder: &Path, id: &str) -> bool {
    outbox(folder, id, ".ended") || outbox(folder, id, ".noted")
}

fn is_noted(folder: &Path, id: &str) -> bool {
    outbox(folder, id, ".noted")
}

fn twelve() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", SIZE, &[]);
    let starts = StartCounter::begin(&cluster.name);
    let mut ends = Vec::new();
    for (index, (name, is_there)) in POINTS.iter().enumerate() {
        let code = 20 + index;
        let on_lost = if index % 2 == 0 { "FAIL" } else { "RETRY" };
        let line = UNTIL_LET_GO.replace("exit 7", &format!("exit {code}"));
        let id = id_of(&cluster.submit(&with(patient(&["sh", "-c", &line]), on_lost)));
        until(&format!("the job is at: {name}"), || is_there(&cluster, &id).then_some(()));
        cluster.restart_executor(0);
        let aborted = *name == "abort asked for";
        if !aborted {
            until("it is let go", || let_it_go(&id).then_some(()));
        }
        let (state, exit, attempt) = end_of(&cluster.ended(&id));
        assert_eq!(attempt, 1, "{name}: one attempt");
        if aborted {
            assert_eq!(state, "ABORTED", "{name}");
        } else {
            assert_eq!((state.as_str(), exit), ("FAILED", code as i64), "{name}: its own exit code");
        }
        ends.push((*name, id));
    }
    let started = starts.jobs();
    for (name, id) in &ends {
        assert_eq!(started.iter().filter(|job| *job == id).count(), 1, "{name}: one start");
    }
    let names: Vec<&str> = ends.iter().map(|(name, _)| *name).collect();
    format!("one attempt, one start and its own end each: {}", names.join(", "))
}

fn away() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", SIZE, &[]);
    let mut told = Vec::new();
    for (executor_down, scheduler_down) in [(true, false), (false, true), (true, true)] {
        let (id, container) = cluster.running(&held("FAIL"));
        if scheduler_down {
            cluster.scheduler.process.kill();
        }
        if executor_down {
            cluster.executors[0].process.kill();
        }
        let_go(&container);
        until("it has ended", || (!is_running(&container)).then_some(()));
        if scheduler_down {
            cluster.restart_scheduler(&CLOCKS);
        }
        if executor_down {
            cluster.restart_executor(0);
        }
        let ended = cluster.ended_within(Duration::from_secs(30), &id);
        assert_eq!(end_of(&ended), ("FAILED".into(), 7, 1));
        told.push(id);
    }
    assert_eq!(told.len(), 3);
    "executor down, scheduler down, both down: each end was told with its 7, attempt 1".to_owned()
}
