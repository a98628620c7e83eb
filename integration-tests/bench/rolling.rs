//! A rolling restart of every replica and every executor while clients work: no call fails, no job
//! fails, and none is started twice.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement ends when its ground gives way"
)]

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use berth_integration_tests::cluster::{Size, id_of};
use berth_integration_tests::replicas::{Replicas, name};
use berth_integration_tests::wait::until_within;
use berth_integration_tests::{docker, http, tools};
use serde_json::{Value, json};

/// How often everything is restarted.
const ROUNDS: usize = 2;

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        eprintln!("usage: rolling");
        return ExitCode::from(2);
    }
    let began = Instant::now();
    let mut replicas = Replicas::start(3, &[]);
    let executors = ["executor-1", "executor-2", "executor-3"];
    for id in executors {
        replicas.add_executor(id, Size { cpus: "2", memory: "512m", gpus: "" }, &[]);
    }
    let starts = docker::StartCounter::begin(&replicas.cluster.name);
    let clients = Clients::begin(&replicas.addresses());
    let mut restarts = 0;
    let mut unclean = Vec::new();
    for round in 1..=ROUNDS {
        for index in 0..replicas.count() {
            let code = replicas.stop(index);
            replicas.start_again(index);
            restarts += 1;
            unclean.extend((code != Some(0)).then(|| format!("{}: {code:?}", name(index))));
            println!("round {round}: {} restarted", name(index));
            clients.some_more();
        }
        for (index, id) in executors.iter().enumerate() {
            let code = replicas.restart_executor_in_order(index);
            restarts += 1;
            unclean.extend((code != Some(0)).then(|| format!("{id}: {code:?}")));
            println!("round {round}: {id} restarted");
            clients.some_more();
        }
    }
    let calls = clients.end();
    let jobs = all_jobs(&replicas);
    report(began.elapsed(), restarts, &unclean, &calls, &jobs, &starts.jobs())
}

/// One call of a client.
struct Call {
    /// The client's number.
    client: usize,
    command: String,
    took: Duration,
    /// What it said, if it failed.
    failed: Option<String>,
}

/// Clients at work: each runs `berth` again and again, with the addresses of all replicas.
struct Clients {
    end: Arc<AtomicBool>,
    calls: Arc<Mutex<Vec<Call>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn begin(addresses: &[String]) -> Self {
        let run = [
            "run",
            "-m",
            "32m",
            "--cpus",
            "0.1",
            "--network",
            "none",
            "--queue-timeout",
            "0s",
            docker::IMAGE,
        ];
        let of = |rest: &[&str]| run.iter().chain(rest).map(|part| (*part).to_owned()).collect::<Vec<_>>();
        let plain = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        let each: Vec<Vec<Vec<String>>> = vec![
            vec![of(&["sh", "-c", "echo a; sleep 0.2; echo b"])],
            vec![of(&["sleep", "3"])],
            vec![of(&["sh", "-c", "trap '' TERM; sleep 6"])],
            vec![plain(&["ps", "-a"]), plain(&["executors"]), plain(&["status"]), plain(&["get", "last"])],
        ];
        let (end, calls): (Arc<AtomicBool>, Arc<Mutex<Vec<Call>>>) = Default::default();
        let client = |(client, commands): (usize, Vec<Vec<String>>)| {
            let (end, calls, addresses) = (end.clone(), calls.clone(), addresses.join(","));
            std::thread::spawn(move || {
                for command in commands.iter().cycle() {
                    if end.load(Ordering::SeqCst) {
                        return;
                    }
                    let call = call(client, &addresses, command);
                    calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
                }
            })
        };
        let threads = each.into_iter().enumerate().map(client).collect();
        Self { end, calls, threads }
    }

    /// How many calls each client has made.
    fn made(&self) -> Vec<usize> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        (0..self.threads.len())
            .map(|client| calls.iter().filter(|call| call.client == client).count())
            .collect()
    }

    /// Waits until each client has ended a call that was under way, or began, after what was done before.
    fn some_more(&self) {
        let before = self.made();
        until_within(Duration::from_secs(60), "clients go on", || {
            self.made().iter().zip(&before).all(|(now, before)| now > before).then_some(())
        });
    }

    fn end(self) -> Vec<Call> {
        self.end.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        std::mem::take(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn call(client: usize, addresses: &str, command: &[String]) -> Call {
    let began = Instant::now();
    let output =
        Command::new(tools::berth()).args(command).env("BERTH_ADDR", addresses).output().expect("berth runs");
    let said = || format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    // Nothing has been submitted yet when the first "last" is asked for.
    let none_yet = command.first().is_some_and(|verb| verb == "get") && output.status.code() == Some(3);
    let failed = (!output.status.success() && !none_yet).then(said);
    Call { client, command: command.join(" "), took: began.elapsed(), failed }
}

fn all_jobs(replicas: &Replicas) -> Vec<Value> {
    let (mut jobs, mut token) = (Vec::new(), String::new());
    loop {
        let page =
            http::get(&replicas.cluster.scheduler.http, &format!("/jobs?pageSize=1000&pageToken={token}"));
        jobs.extend(page["jobs"].as_array().cloned().unwrap_or_default());
        match page["nextPageToken"].as_str() {
            Some(next) if !next.is_empty() => next.clone_into(&mut token),
            _ => return jobs,
        }
    }
}

fn report(
    took: Duration,
    restarts: usize,
    unclean: &[String],
    calls: &[Call],
    jobs: &[Value],
    starts: &[String],
) -> ExitCode {
    let failed_calls: Vec<String> = calls
        .iter()
        .filter_map(|call| call.failed.as_ref().map(|said| format!("berth {}: {said}", call.command)))
        .collect();
    let failed_jobs: Vec<&Value> = jobs.iter().filter(|job| job["state"] != "SUCCEEDED").collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for job in starts {
        *counts.entry(job).or_default() += 1;
    }
    let repeated: Vec<&str> = counts.iter().filter(|(_, count)| **count > 1).map(|(job, _)| *job).collect();
    let missing = jobs.iter().filter(|job| !counts.contains_key(id_of(job).as_str())).count();
    let slowest = calls
        .iter()
        .filter(|call| !call.command.starts_with("run"))
        .map(|call| call.took)
        .max()
        .unwrap_or_default();
    println!(
        "3 replicas and 3 executors restarted in order {ROUNDS} times over ({restarts} restarts), 4 clients with all addresses"
    );
    println!(
        "calls {}, failed {}; slowest that waits for no job {} ms",
        calls.len(),
        failed_calls.len(),
        slowest.as_millis()
    );
    println!(
        "jobs {}, not SUCCEEDED {}, started twice {}, start not seen {missing}, daemons that stopped uncleanly {}",
        jobs.len(),
        failed_jobs.len(),
        repeated.len(),
        unclean.len()
    );
    for wrong in failed_calls.iter().chain(unclean).take(10) {
        println!("  {wrong}");
    }
    for job in failed_jobs.iter().take(5) {
        println!("  {job}");
    }
    let ok = failed_calls.is_empty()
        && failed_jobs.is_empty()
        && repeated.is_empty()
        && missing == 0
        && unclean.is_empty();
    let line = json!({ "recipe": "rolling", "ok": ok, "seed": null, "seconds": took.as_secs(), "restarts": restarts,
        "calls": calls.len(), "failedCalls": failed_calls.len(), "slowestCallMs": u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX),
        "jobs": jobs.len(), "failedJobs": failed_jobs.len(), "startedTwice": repeated.len() });
    println!("{line}");
    if ok { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
