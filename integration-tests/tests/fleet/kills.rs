//! A fleet under load whose parts are killed one after the other.

use std::collections::BTreeMap;

use berth_integration_tests::cluster::job;
use berth_integration_tests::docker::{StartCounter, docker_ok};
use berth_integration_tests::wait::until;
use berth_integration_tests::{docker, http};
use serde_json::{Value, json};

use crate::fleet::{Fleet, compose_v2, ended, rest_addresses};

const JOBS: usize = 100;

#[test]
fn of_100_jobs_none_is_lost_or_ends_twice_when_scheduler_executor_and_redis_are_killed_in_turn() {
    let fleet = Fleet::new(compose_v2());
    let up = fleet.ok("docker_compose_up", &[]);
    let addresses = rest_addresses(&up);
    let leader = up["leader"].as_str().expect("a leader is told").to_owned();
    let (_, rest) = addresses.iter().find(|(scheduler, _)| *scheduler != leader).expect("there are others");
    let starts = StartCounter::begin(&fleet.cluster);
    let mut ids = submit(&addresses, 0..JOBS / 2);
    until("some jobs have ended, and others run", || under_way(rest));

    docker_ok(&["kill", &fleet.container(&leader)]);
    ids.extend(submit(&addresses, JOBS / 2..JOBS));
    until("another scheduler leads, and jobs go on", || under_way(rest));
    let victim = busy_executor(&fleet);
    docker_ok(&["kill", &fleet.container(&victim)]);
    docker_ok(&["kill", &fleet.container("redis")]);
    docker_ok(&["start", &fleet.container("redis")]);

    let mut attempts = BTreeMap::new();
    for id in &ids {
        let job = ended(rest, id);
        assert_eq!(job["state"], "SUCCEEDED", "{job}");
        attempts.insert(id.clone(), job["attempt"].as_u64().expect("a number"));
    }
    let listed = http::get(rest, "/jobs?pageSize=1000");
    assert_eq!(listed["jobs"].as_array().map(Vec::len), Some(JOBS), "no submit made two jobs");
    assert!(listed["jobs"].as_array().into_iter().flatten().all(|job| job["state"] == "SUCCEEDED"));
    let mut started: BTreeMap<String, u64> = BTreeMap::new();
    for id in starts.jobs() {
        *started.entry(id).or_default() += 1;
    }
    for (id, attempts) in &attempts {
        let seen = started.get(id).copied().unwrap_or_default();
        assert!((1..=*attempts).contains(&seen), "{id}: {seen} starts in {attempts} attempts");
    }
    fleet.ok("docker_compose_down", &[]);
}

/// Submits jobs by their numbers, each at the next scheduler that answers; a repeat is the same job.
fn submit(addresses: &[(String, String)], numbers: std::ops::Range<usize>) -> Vec<String> {
    let one = |number: usize| {
        let mut body = job(&["sleep", "2"]);
        // Only some run at a time.
        body["cpus"] = json!(0.5);
        body["queueTimeout"] = json!("0s");
        body["requestId"] = json!(format!("job-{number}"));
        let mut schedulers = addresses.iter().cycle().skip(number);
        until(&format!("job {number} is acknowledged"), || {
            let (_, rest) = schedulers.next()?;
            let answer = http::post_if_served(rest, "/jobs", &body)?;
            let id = (answer.status == 200).then(|| answer.json()["id"].clone())?;
            id.as_str().map(str::to_owned)
        })
    };
    numbers.map(one).collect()
}

/// Says whether jobs run, wait and have ended, all at once.
fn under_way(rest: &str) -> Option<()> {
    let answer = http::request(rest, "GET", "/stats", &[], b"");
    let stats = (answer.status == 200).then(|| answer.json())?;
    let some = |name: &str| stats[name].as_u64().is_some_and(|count| count > 0);
    (some("runningCount") && some("succeededCount") && some("pendingCount")).then_some(())
}

/// Names an executor that runs jobs.
fn busy_executor(fleet: &Fleet) -> String {
    until("an executor runs a job", || {
        let ours = format!("label=berth.cluster={}", fleet.cluster);
        let running = docker_ok(&["ps", "-q", "--filter", &ours, "--filter", "label=berth.job"]);
        let container = running.lines().next()?.to_owned();
        let labels: Value = docker::inspect(&container)["Config"]["Labels"].clone();
        labels["berth.executor"].as_str().map(str::to_owned)
    })
}
