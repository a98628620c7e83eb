//! Many jobs at once: each is accounted for, seen from outside Berth.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use berth_integration_tests::cluster::{Cluster, Size, job};
use berth_integration_tests::docker::{self, StartCounter};
use berth_integration_tests::http;
use berth_integration_tests::wait::{until, until_within};
use serde_json::{Value, json};

/// How many jobs: few in the tests; `./run bulk` asks for 500.
fn count() -> usize {
    std::env::var("BERTH_BULK_JOBS").ok().and_then(|count| count.parse().ok()).unwrap_or(24)
}

const LONG: Duration = Duration::from_secs(900);
/// Room for four jobs each, so that most of the jobs wait.
const TWO: Size<'static> = Size { cpus: "2", memory: "256m", gpus: "" };

fn two_executors() -> Cluster {
    let mut cluster = Cluster::start();
    for id in ["executor-1", "executor-2"] {
        cluster.add_executor(id, TWO, &["--cleanup-after", "1s"]);
    }
    cluster
}

fn submit_many(cluster: &Cluster, count: usize, queue_timeout: Option<u64>, command: &[&str]) -> Vec<String> {
    let mut body = job(command);
    body["cpus"] = json!(0.5);
    if let Some(timeout) = queue_timeout {
        body["queueTimeout"] = json!(timeout);
    }
    let requests: Vec<Value> = (0..count).map(|_| json!({ "spec": body })).collect();
    let answer =
        http::post(&cluster.scheduler.http, "/v1/jobs:batchSubmit", &json!({ "requests": requests }));
    let results = answer["results"].as_array().expect("a batch has results");
    results.iter().map(|result| result["job"]["id"].as_str().expect("each is stored").to_owned()).collect()
}

fn all_jobs(cluster: &Cluster) -> BTreeMap<String, Value> {
    let mut jobs = BTreeMap::new();
    let mut token = String::new();
    loop {
        let page = http::get(&cluster.scheduler.http, &format!("/jobs?pageSize=500&pageToken={token}"));
        for job in page["jobs"].as_array().expect("a page has jobs") {
            jobs.insert(job["id"].as_str().expect("a job has an id").to_owned(), job.clone());
        }
        token = page["nextPageToken"].as_str().unwrap_or("").to_owned();
        if token.is_empty() {
            return jobs;
        }
    }
}

fn wait_for_all(cluster: &Cluster, count: usize) -> BTreeMap<String, Value> {
    until_within(LONG, "all jobs have ended", || {
        let stats = http::get(&cluster.scheduler.http, "/stats");
        let ended: i64 = ["succeededCount", "failedCount", "abortedCount"]
            .iter()
            .filter_map(|name| stats[name].as_i64())
            .sum();
        (ended == i64::try_from(count).expect("a small number")).then_some(())
    });
    all_jobs(cluster)
}

fn nothing_is_left(cluster: &Cluster) {
    for id in ["executor-1", "executor-2"] {
        let executor = cluster.executor(id);
        assert_eq!(executor["reserved"]["cpuMillis"], 0, "{executor}");
        assert_eq!(executor["reserved"]["memoryBytes"], 0, "{executor}");
    }
    until_within(LONG, "no container is left", || docker::containers(&cluster.name).is_empty().then_some(()));
}

#[test]
fn jobs_that_wait_for_ever_all_succeed_with_one_start_each() {
    let cluster = two_executors();
    let starts = StartCounter::begin(&cluster.name);
    let ids = submit_many(&cluster, count(), Some(0), &["true"]);
    let jobs = wait_for_all(&cluster, ids.len());
    for id in &ids {
        assert_eq!(jobs[id]["state"], "SUCCEEDED", "{}", jobs[id]);
    }
    until("every start has been told", || (starts.jobs().len() >= ids.len()).then_some(()));
    nothing_is_left(&cluster);
    let started = starts.jobs();
    assert_eq!(started.len(), ids.len(), "as many starts as jobs");
    assert_eq!(started.iter().collect::<BTreeSet<_>>().len(), ids.len(), "each job once");
}

#[test]
fn what_was_not_allocated_in_time_fails_and_none_of_it_started() {
    let cluster = two_executors();
    let starts = StartCounter::begin(&cluster.name);
    // Eight slots of 8 s each: most of them cannot be allocated within 15 s.
    let ids = submit_many(&cluster, count().max(24), None, &["sleep", "8"]);
    let jobs = wait_for_all(&cluster, ids.len());
    let (ran, late): (Vec<&String>, Vec<&String>) =
        ids.iter().partition(|id| jobs[*id]["state"] == "SUCCEEDED");
    assert!(!ran.is_empty() && !late.is_empty(), "{} ran, {} did not", ran.len(), late.len());
    for id in &late {
        let job = &jobs[*id];
        assert_eq!(
            (&job["state"], &job["endReason"], &job["attempt"]),
            (&json!("FAILED"), &json!("QUEUE_TIMEOUT"), &json!(0)),
            "{job}"
        );
    }
    let started: BTreeSet<String> = starts.jobs().into_iter().collect();
    assert_eq!(started, ran.into_iter().cloned().collect(), "just those started that ran");
    nothing_is_left(&cluster);
}

#[test]
fn an_executor_killed_half_way_and_restarted_loses_nothing() {
    let mut cluster = two_executors();
    let starts = StartCounter::begin(&cluster.name);
    let count = count();
    let ids = submit_many(&cluster, count, Some(0), &["sh", "-c", "sleep 1; exit 5"]);
    until_within(LONG, "half of the jobs have ended", || {
        let failed = http::get(&cluster.scheduler.http, "/stats")["failedCount"].as_i64().unwrap_or(0);
        (failed * 2 >= i64::try_from(count).expect("a small number")).then_some(())
    });
    cluster.restart_executor(1);
    let jobs = wait_for_all(&cluster, ids.len());
    let mut starts_of: BTreeMap<String, i64> = BTreeMap::new();
    for id in starts.jobs() {
        *starts_of.entry(id).or_default() += 1;
    }
    for id in &ids {
        let job = &jobs[id];
        assert_eq!((&job["state"], &job["exitCode"]), (&json!("FAILED"), &json!(5)), "{job}");
        let (attempts, started) =
            (job["attempt"].as_i64().unwrap_or(0), starts_of.get(id).copied().unwrap_or(0));
        assert!((1..=attempts).contains(&started), "{started} starts in {attempts} attempts: {job}");
    }
    until("nothing is reserved", || {
        let reserved =
            ["executor-1", "executor-2"].map(|id| cluster.executor(id)["reserved"]["cpuMillis"].clone());
        reserved.iter().all(|cpu| *cpu == 0).then_some(())
    });
    nothing_is_left(&cluster);
}
