//! A scheduler or an executor dies before or after any of its calls: nothing is lost, nothing is done
//! twice.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

use berth_integration_tests::cluster::{Cluster, id_of, job};
use berth_integration_tests::docker::{self, StartCounter};
use berth_integration_tests::failpoints::{self, sites};
use berth_integration_tests::process::Process;
use berth_integration_tests::redis::Redis;
use berth_integration_tests::wait::{until, until_within};
use berth_integration_tests::{http, tools};
use serde_json::json;

/// Points tried at the same time.
const AT_ONCE: usize = 3;
/// How long a process may take to come to its point.
const PATIENCE: Duration = Duration::from_secs(40);

/// Tries every point; tells all that went wrong.
fn try_all(points: Vec<String>, attempt: impl Fn(&str) + Sync) {
    let (left, failed) = (Mutex::new(points), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("no panic").pop();
                    let Some(point) = next else { return };
                    let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attempt(&point)));
                    if tried.is_err() {
                        failed.lock().expect("no panic").push(point);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    assert_eq!(failed, [] as [String; 0], "the points at which something went wrong");
}

fn faulty(point: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
    Process::start(&format!("faulty at {point}"), command.args(arguments).env(failpoints::VARIABLE, point))
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it listens").to_string()
}

/// Runs `berth` beside the test, patiently.
fn client(addresses: &str, arguments: &[&str]) -> JoinHandle<Output> {
    let mut command = Command::new(tools::berth());
    command.args(["--retry-for", "60s"]).args(arguments).env("BERTH_ADDR", addresses);
    std::thread::spawn(move || command.output().expect("berth runs"))
}

fn a_scheduler_dies_at(point: &str) {
    let (redis, name, folder) = (Redis::start(), tools::unique("test"), tools::folder());
    let (dying, healthy) = (free_address(), free_address());
    let addresses = format!("{dying},{healthy}");
    let mut first = faulty(point, &["scheduler", &name, "scheduler-1", &redis.url(), &dying]);
    let data = |role: &str| folder.path().join(role).display().to_string();
    let mut command = Command::new(tools::berth());
    command
        .args(["executor", "--cluster", &name, "--schedulers", &addresses, "--data-dir", &data("executor")])
        .args(["--runtime", "simulated"])
        .envs([("EXECUTOR_ID", "executor-1"), ("EXECUTOR_CPUS", "4"), ("EXECUTOR_MEMORY", "4g")]);
    let mut executor = Process::start("executor", &mut command);
    let submit = ["run", "-d", "--queue-timeout", "0s", "--cpus", "0.5", "image", "sleep", "1"];
    let submits: Vec<_> = (0..6).map(|_| client(&addresses, &submit)).collect();
    let looks = [client(&addresses, &["status"]), client(&addresses, &["ps", "-a"])];
    if point.starts_with("store.release_lock") {
        executor.line("ready role=executor");
        first.signal("TERM");
    }
    if point.starts_with("store.specs") {
        // Specs of jobs that were submitted here are at hand when these start: only who looks at jobs has them read.
        let mut look = Command::new(tools::berth());
        look.args(["--retry-for", "0s", "ps", "-a"]).env("BERTH_ADDR", &dying);
        until_within(PATIENCE, &format!("the scheduler dies at {point}"), || {
            look.output().expect("berth runs");
            first.has_ended()
        });
    }
    assert_eq!(first.ended(PATIENCE), None, "it dies at {point}: {}", first.output());

    let mut command = Command::new(tools::berth());
    command
        .args(["scheduler", "--cluster", &name, "--id", "scheduler-2", "--redis-url", &redis.url()])
        .args(["--grpc-listen", &healthy, "--http-listen", "127.0.0.1:0", "--data-dir", &data("scheduler")])
        .args(["--lock-ttl", "1s", "--safety-interval", "1h"]);
    let mut second = Process::start("scheduler-2", &mut command);
    let ready = second.line("ready role=scheduler");
    let http = ready.split(' ').find_map(|part| part.strip_prefix("http=")).expect("it listens").to_owned();
    for submit in submits {
        let output = submit.join().expect("no panic");
        assert!(output.status.success(), "{point}: {}", String::from_utf8_lossy(&output.stderr));
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let ended = until_within(PATIENCE, &format!("job {id} ends after a death at {point}"), || {
            let job = http::get(&http, &format!("/jobs/{id}"));
            job["endTime"].is_string().then_some(job)
        });
        assert_eq!(
            (&ended["state"], &ended["attempt"]),
            (&json!("SUCCEEDED"), &json!(1)),
            "{point}: {ended}"
        );
    }
    let jobs = http::get(&http, "/jobs");
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(6), "{point}: no submit made two jobs");
    for look in looks {
        let output = look.join().expect("no panic");
        assert!(output.status.success(), "{point}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_scheduler_may_die_before_and_after_every_call_of_its_store() {
    let mut points = sites(failpoints::STORE);
    // Submits, assignments, starts and ends are commits too: the first is far from the last.
    points.extend(
        (2..=9).flat_map(|pass| ["before", "after"].map(|side| format!("store.commit.{side}@{pass}"))),
    );
    try_all(points, a_scheduler_dies_at);
}

fn an_executor_dies_at(point: &str) {
    let cluster = Cluster::start();
    let folder = tools::folder();
    let starts = StartCounter::begin(&cluster.name);
    let submit = |line: &str| {
        let mut job = job(&["sh", "-c", line]);
        job["queueTimeout"] = json!("0s");
        id_of(&cluster.submit(&job))
    };
    let (ends, aborted) =
        (submit("echo out; exit 7"), submit("trap 'exit 1' TERM; while :; do sleep 0.1; done"));
    let data = folder.path().display().to_string();
    let mut first = faulty(point, &["executor", &cluster.name, "executor-1", &data, &cluster.scheduler.grpc]);
    let abort = client(&cluster.scheduler.grpc, &["wait", "--timeout", "60s", &aborted]);
    let is_there = |state: &str| {
        until_within(PATIENCE, "the job is there", || {
            let job = cluster.job(&aborted);
            (job["state"] == state || job["endTime"].is_string()).then_some(())
        })
    };
    let mut told = false;
    let died = until_within(PATIENCE, &format!("the executor dies at {point}"), || {
        if !told && cluster.job(&aborted)["state"] == "RUNNING" && cluster.job(&ends)["endTime"].is_string() {
            told = true;
            // Reading the output makes the executor read its disk.
            cluster.berth(&["--retry-for", "1s", "logs", &ends]);
            cluster.berth(&["abort", &aborted]);
        }
        first.has_ended()
    });
    assert_eq!(died, None, "it dies at {point}: {}", first.output());

    let mut second = executor(&cluster, folder.path());
    second.line("ready role=executor");
    let ended = cluster.ended(&ends);
    assert_eq!((&ended["exitCode"], &ended["attempt"]), (&json!(7), &json!(1)), "{point}: {ended}");
    if !told {
        is_there("RUNNING");
        cluster.berth(&["abort", &aborted]);
    }
    assert_eq!(cluster.ended(&aborted)["state"], "ABORTED", "{point}");
    assert_eq!(cluster.berth_ok(&["logs", &ends]), "out\n", "{point}: its output is whole");
    let jobs = starts.jobs();
    for id in [&ends, &aborted] {
        assert!(jobs.iter().filter(|job| job == &id).count() <= 1, "{point}: {id} was started twice");
    }
    until(&format!("no container is left after a death at {point}"), || {
        docker::containers(&cluster.name).is_empty().then_some(())
    });
    abort.join().expect("no panic");
    assert_eq!(second.stop(), Some(0));
}

fn executor(cluster: &Cluster, folder: &Path) -> Process {
    let mut command = Command::new(tools::berth());
    command
        .args(["executor", "--cluster", &cluster.name, "--schedulers", &cluster.scheduler.grpc])
        .args(["--data-dir", &folder.display().to_string(), "--cleanup-after", "1s"])
        .envs([("EXECUTOR_ID", "executor-1"), ("EXECUTOR_CPUS", "2"), ("EXECUTOR_MEMORY", "1g")]);
    Process::start("executor-1", &mut command)
}

#[test]
fn an_executor_may_die_before_and_after_every_call_of_engine_disk_and_connection() {
    let calls = [failpoints::ENGINE, failpoints::DISK, failpoints::CONNECTION].concat();
    let points = sites(&calls);
    assert!(points.len() + sites(failpoints::STORE).len() >= 60, "there are many places to die at");
    try_all(points, an_executor_dies_at);
}
