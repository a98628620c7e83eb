//! How long a job takes from `POST /jobs` to its container's start and to SUCCEEDED seen, beside the
//! same container made straight through the Docker API, in turn, in the same run.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement ends when its ground gives way"
)]

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use berth_integration_tests::cluster::{Cluster, Place, Size, id_of};
use berth_integration_tests::docker::IMAGE;
use berth_integration_tests::engine::{Call, EngineDoor};
use berth_integration_tests::{docker, http, tools};
use serde_json::{Value, json};

/// Calls of the engine that a job's way does not lead over.
const BESIDE: [&str; 4] = ["/events", "/_ping", "/info", "/version"];

/// One container, in milliseconds since its request.
#[derive(Clone, Copy)]
struct Sample {
    to_start: f64,
    to_end: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runs = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => 30,
        ["--runs", count] if count.parse::<usize>().is_ok_and(|count| count > 0) => {
            count.parse().expect("checked")
        }
        _ => {
            eprintln!("usage: latency [--runs N]");
            return ExitCode::from(2);
        }
    };
    let mut cluster = Cluster::start();
    let folder = tools::folder();
    let socket = folder.path().join("engine.sock");
    let door = EngineDoor::open(&socket);
    let host = format!("unix://{}", socket.display());
    cluster.add_executor_in(
        Place { environment: &[("DOCKER_HOST", &host)], ..Place::default() },
        "executor-1",
        Size { cpus: "2", memory: "512m", gpus: "" },
        &["--cleanup-after", "5s", "--network-slots", "off"],
    );
    let (mut berth, mut overheads, mut direct) = (Vec::new(), Vec::new(), Vec::new());
    // One of each first, so that neither pays for cold caches.
    by_berth(&cluster, &door);
    by_docker();
    let began = Instant::now();
    for _ in 0..runs {
        let (sample, overhead) = by_berth(&cluster, &door);
        berth.push(sample);
        overheads.push(overhead);
        direct.push(by_docker());
    }
    report(runs, began.elapsed(), &berth, &overheads, &direct);
    ExitCode::SUCCESS
}

/// Runs a job; also tells what its way to the start took beside the engine's calls.
fn by_berth(cluster: &Cluster, door: &EngineDoor) -> (Sample, f64) {
    let body = json!({ "image": IMAGE, "command": ["true"], "cpus": 0.5, "memory": "64Mi", "network": "none", "queueTimeout": 0 });
    door.take_calls();
    let (began, wall) = (Instant::now(), SystemTime::now());
    let id = id_of(&cluster.submit(&body));
    let ended = http::get(&cluster.scheduler.http, &format!("/v1/jobs/{id}:wait"));
    let to_end = milliseconds(began.elapsed());
    assert_eq!(ended["job"]["state"], "SUCCEEDED", "{ended}");
    let container = docker::containers_of(&id);
    let started = container.first().map(|container| docker::inspect(container)["State"]["StartedAt"].clone());
    // Where the container is gone already, the job's own record has the engine's time.
    let started = started.filter(Value::is_string).unwrap_or_else(|| ended["job"]["startTime"].clone());
    (Sample { to_start: since(wall, &started), to_end }, beside_engine(began, &door.take_calls()))
}

/// How long the way to a start took, without the engine's calls on it: from then to the call that starts the container.
fn beside_engine(began: Instant, calls: &[Call]) -> f64 {
    let start = calls.iter().find(|call| call.line.ends_with("/start")).expect("a container is started");
    let is_on_it =
        |call: &&Call| call.sent < start.sent && !BESIDE.iter().any(|path| call.line.contains(path));
    let mut way = start.sent - began;
    // One call after the other: where two overlap, the later one counts from the end of the earlier.
    let mut until = began;
    for call in calls.iter().filter(is_on_it) {
        let answered = call.answered.unwrap_or(start.sent).min(start.sent);
        let from = call.sent.max(until);
        way -= answered.saturating_duration_since(from).min(way);
        until = until.max(answered);
    }
    milliseconds(way)
}

fn by_docker() -> Sample {
    let body = json!({ "Image": IMAGE, "Cmd": ["true"], "HostConfig": {
        "NetworkMode": "none", "NanoCpus": 500_000_000, "Memory": 64 << 20, "MemorySwap": 64 << 20, "PidsLimit": 512,
        "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"], "Init": true,
        "LogConfig": { "Type": "json-file", "Config": { "max-size": "16m", "max-file": "2" } } } });
    let (began, wall) = (Instant::now(), SystemTime::now());
    let created = http::engine("POST", "/v1.41/containers/create", &body).json();
    let id = created["Id"].as_str().unwrap_or_else(|| panic!("a container is made: {created}"));
    let started = http::engine("POST", &format!("/v1.41/containers/{id}/start"), &Value::Null);
    assert_eq!(started.status, 204, "{}", String::from_utf8_lossy(&started.body));
    http::engine("POST", &format!("/v1.41/containers/{id}/wait"), &Value::Null);
    let to_end = milliseconds(began.elapsed());
    let inspected = http::engine("GET", &format!("/v1.41/containers/{id}/json"), &Value::Null).json();
    http::engine("DELETE", &format!("/v1.41/containers/{id}"), &Value::Null);
    Sample { to_start: since(wall, &inspected["State"]["StartedAt"]), to_end }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Milliseconds from a moment to a time the engine wrote.
fn since(from: SystemTime, time: &Value) -> f64 {
    let text = time.as_str().unwrap_or_else(|| panic!("a time: {time}"));
    let timestamp: jiff::Timestamp = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let from = from.duration_since(SystemTime::UNIX_EPOCH).expect("time has begun").as_secs_f64();
    (timestamp.as_duration().as_secs_f64() - from) * 1_000.0
}

fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[index]
}

fn report(runs: usize, took: Duration, berth: &[Sample], overheads: &[f64], direct: &[Sample]) {
    let median = |samples: &[Sample], pick: fn(&Sample) -> f64| quantile(samples.iter().map(pick), 0.5);
    let (berth_start, docker_start) = (median(berth, |s| s.to_start), median(direct, |s| s.to_start));
    let (berth_ms, docker_ms) = (median(berth, |s| s.to_end), median(direct, |s| s.to_end));
    let overheads = || overheads.iter().copied();
    let later = || berth.iter().zip(direct).map(|(b, d)| b.to_start - d.to_start);
    println!(
        "{runs} runs in turn; network none, image present, no warm slots; one scheduler, one executor, one client;"
    );
    let built = if cfg!(debug_assertions) { "without" } else { "with" };
    println!(
        "Redis on this machine, append-only file synced at every write; plaintext; built {built} optimisation"
    );
    println!("{:28} {:>10} {:>10} {:>7}", "median, ms", "berth", "docker", "ratio");
    println!(
        "{:28} {berth_start:>10.1} {docker_start:>10.1} {:>7.2}",
        "request to container's start",
        berth_start / docker_start
    );
    println!("{:28} {berth_ms:>10.1} {docker_ms:>10.1} {:>7.2}", "request to end seen", berth_ms / docker_ms);
    let (overhead_p50, overhead_p99) = (quantile(overheads(), 0.5), quantile(overheads(), 0.99));
    println!(
        "on the way to the start, beside the engine's calls: {overhead_p50:.1} ms, 99 %: {overhead_p99:.1}; a start is later \
         than the one by Docker in its turn by {:.1} ms, 99 %: {:.1}",
        quantile(later(), 0.5),
        quantile(later(), 0.99)
    );
    let line = json!({
        "recipe": "latency", "ok": true, "seed": null, "seconds": took.as_secs(), "runs": runs,
        "berthMs": round(berth_ms), "dockerMs": round(docker_ms), "ratio": round(berth_ms / docker_ms),
        "berthStartMs": round(berth_start), "dockerStartMs": round(docker_start),
        "overheadP50Ms": round(overhead_p50), "overheadP99Ms": round(overhead_p99),
        "laterP50Ms": round(quantile(later(), 0.5)), "laterP99Ms": round(quantile(later(), 0.99)),
    });
    println!("{line}");
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
