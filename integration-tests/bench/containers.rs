//! How many jobs a second run through Berth, in networks of their own, in network slots and in containers that are
//! used again, beside containers made straight through the Docker API, in turn, in the same run.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a measurement ends when its ground gives way; rates are rounded"
)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_integration_tests::cluster::{Cluster, Size, id_of};
use berth_integration_tests::docker::IMAGE;
use berth_integration_tests::http;
use serde_json::{Value, json};

const USAGE: &str = "usage: ./run bench containers [--jobs N] [--rounds N] [--parallel N]";

struct Options {
    jobs: usize,
    rounds: usize,
    parallel: usize,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { jobs: 40, rounds: 3, parallel: 4 };
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} has no value."))?;
        let number = match value.parse::<usize>() {
            Ok(number) if number > 0 => number,
            _ => return Err(format!("{name} {value}: is no number above 0.")),
        };
        match name.as_str() {
            "--jobs" => options.jobs = number,
            "--rounds" => options.rounds = number,
            "--parallel" => options.parallel = number,
            _ => return Err(format!("There is no option {name}.")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let (own, slots) = (cluster(&options, "off"), cluster(&options, "32"));
    // One round of each first, so that nothing pays for cold caches, and slots are there.
    by_docker(&options);
    by_berth(&own, &options, "none");
    by_berth(&slots, &options, "none");
    by_berth(&own, &options, "warm");
    let [mut docker, mut fresh, mut slotted, mut warm] = [Duration::ZERO; 4];
    for _ in 0..options.rounds {
        docker += by_docker(&options);
        fresh += by_berth(&own, &options, "none");
        slotted += by_berth(&slots, &options, "none");
        warm += by_berth(&own, &options, "warm");
    }
    report(&options, began.elapsed(), [docker, fresh, slotted, warm]);
    ExitCode::SUCCESS
}

fn cluster(options: &Options, slots: &str) -> Cluster {
    let mut cluster = Cluster::start();
    let cpus = options.parallel.to_string();
    let size = Size { cpus: &cpus, memory: "4g", gpus: "" };
    cluster.add_executor("executor-1", size, &["--cleanup-after", "0s", "--network-slots", slots]);
    cluster
}

fn by_berth(cluster: &Cluster, options: &Options, reuse: &str) -> Duration {
    let body = json!({ "image": IMAGE, "command": ["true"], "cpus": 1, "memory": "64Mi", "network": "none", "queueTimeout": 0,
        "reuse": reuse });
    let began = Instant::now();
    let ids: Vec<String> = (0..options.jobs).map(|_| id_of(&cluster.submit(&body))).collect();
    for id in ids {
        let ended = cluster.ended_within(Duration::from_secs(300), &id);
        assert_eq!(ended["state"], "SUCCEEDED", "{ended}");
    }
    began.elapsed()
}

fn by_docker(options: &Options) -> Duration {
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..options.parallel {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < options.jobs {
                    one_by_docker();
                }
            });
        }
    });
    began.elapsed()
}

fn one_by_docker() {
    let body = json!({ "Image": IMAGE, "Cmd": ["true"], "HostConfig": {
        "NetworkMode": "none", "NanoCpus": 1_000_000_000, "Memory": 64 << 20, "MemorySwap": 64 << 20, "PidsLimit": 512,
        "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"], "Init": true,
        "LogConfig": { "Type": "json-file", "Config": { "max-size": "16m", "max-file": "2" } } } });
    let created = http::engine("POST", "/v1.41/containers/create", &body).json();
    let id = created["Id"].as_str().unwrap_or_else(|| panic!("a container is made: {created}"));
    let started = http::engine("POST", &format!("/v1.41/containers/{id}/start"), &Value::Null);
    assert_eq!(started.status, 204, "{}", String::from_utf8_lossy(&started.body));
    http::engine("POST", &format!("/v1.41/containers/{id}/wait"), &Value::Null);
    http::engine("DELETE", &format!("/v1.41/containers/{id}"), &Value::Null);
}

fn report(options: &Options, took: Duration, times: [Duration; 4]) {
    let count = (options.jobs * options.rounds) as f64;
    let [limit, fresh, slots, warm] = times.map(|time| count / time.as_secs_f64());
    let built = if cfg!(debug_assertions) { "without" } else { "with" };
    println!(
        "{} rounds of {} jobs in turn, {} at a time; network none, image present; one scheduler, one executor; Redis synced at \
         every write; built {built} optimisation",
        options.rounds, options.jobs, options.parallel
    );
    println!("{:34} {limit:>7.2}/s", "the Docker API alone");
    println!("{:34} {fresh:>7.2}/s  {:.2}", "Berth, networks of their own", fresh / limit);
    println!("{:34} {slots:>7.2}/s  {:.2}", "Berth, network slots", slots / limit);
    println!("{:34} {warm:>7.2}/s  {:.2}", "Berth, warm containers", warm / limit);
    let round = |value: f64| (value * 100.0).round() / 100.0;
    println!(
        "{}",
        json!({
            "recipe": "bench", "bench": "containers", "ok": true, "seed": null, "seconds": took.as_secs(),
            "value": round(fresh), "limit": round(limit), "ratio": round(fresh / limit),
            "slotsValue": round(slots), "slotsRatio": round(slots / limit),
            "warmValue": round(warm), "warmRatio": round(warm / limit),
            "conditions": { "jobs": options.jobs, "rounds": options.rounds, "parallel": options.parallel, "network": "none",
                "fsync": "always", "optimised": !cfg!(debug_assertions) },
        })
    );
}
