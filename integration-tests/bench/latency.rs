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

use berth_integration_tests::cluster::{Cluster, Size, id_of};
use berth_integration_tests::docker::IMAGE;
use berth_integration_tests::{docker, http};
use serde_json::{Value, json};

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
    cluster.add_executor(
        "executor-1",
        Size { cpus: "2", memory: "512m", gpus: "" },
        &["--cleanup-after", "5s", "--network-slots", "off"],
    );
    let (mut berth, mut direct) = (Vec::new(), Vec::new());
    // One of each first, so that neither pays for cold caches.
    by_berth(&cluster);
    by_docker();
    let began = Instant::now();
    for _ in 0..runs {
        berth.push(by_berth(&cluster));
        direct.push(by_docker());
    }
    report(runs, began.elapsed(), &berth, &direct);
    ExitCode::SUCCESS
}

fn by_berth(cluster: &Cluster) -> Sample {
    let body = json!({ "image": IMAGE, "command": ["true"], "cpus": 0.5, "memory": "64Mi", "network": "none", "queueTimeout": 0 });
    let (began, wall) = (Instant::now(), SystemTime::now());
    let id = id_of(&cluster.submit(&body));
    let ended = http::get(&cluster.scheduler.http, &format!("/v1/jobs/{id}:wait"));
    let to_end = milliseconds(began.elapsed());
    assert_eq!(ended["job"]["state"], "SUCCEEDED", "{ended}");
    let container = docker::containers_of(&id);
    let started = container.first().map(|container| docker::inspect(container)["State"]["StartedAt"].clone());
    // Where the container is gone already, the job's own record has the engine's time.
    let started = started.filter(Value::is_string).unwrap_or_else(|| ended["job"]["startTime"].clone());
    Sample { to_start: since(wall, &started), to_end }
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

fn report(runs: usize, took: Duration, berth: &[Sample], direct: &[Sample]) {
    let median = |samples: &[Sample], pick: fn(&Sample) -> f64| quantile(samples.iter().map(pick), 0.5);
    let (berth_start, docker_start) = (median(berth, |s| s.to_start), median(direct, |s| s.to_start));
    let (berth_ms, docker_ms) = (median(berth, |s| s.to_end), median(direct, |s| s.to_end));
    let overheads = || berth.iter().zip(direct).map(|(b, d)| b.to_start - d.to_start);
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
    let line = json!({
        "recipe": "latency", "ok": true, "seed": null, "seconds": took.as_secs(), "runs": runs,
        "berthMs": round(berth_ms), "dockerMs": round(docker_ms), "ratio": round(berth_ms / docker_ms),
        "berthStartMs": round(berth_start), "dockerStartMs": round(docker_start),
        "overheadP50Ms": round(quantile(overheads(), 0.5)), "overheadP99Ms": round(quantile(overheads(), 0.99)),
    });
    println!("{line}");
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
