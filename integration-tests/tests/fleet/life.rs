//! The life of a fleet: up, at work, without its leader, of a new build, and gone.

use std::collections::BTreeSet;

use berth_integration_tests::cluster::job;
use berth_integration_tests::docker::docker_ok;
use berth_integration_tests::wait::until;
use berth_integration_tests::{docker, http, tools};
use serde_json::{Value, json};

use crate::fleet::{
    Fleet, SERVICES, compose_v1, compose_v2, ended, file_in, held_job, leave_out, rest_addresses, run_job,
    users_of,
};

/// What is built from the source tree, and so is recreated after a change of it.
const OF_THE_TREE: [&str; 6] =
    ["scheduler-1", "scheduler-2", "scheduler-3", "executor-1", "executor-2", "executor-3"];

#[test]
fn a_fleet_runs_jobs_survives_its_leader_and_a_new_build_and_leaves_nothing() {
    let fleet = Fleet::with_own_image(compose_v2());
    whole_life(&fleet);
}

#[test]
fn compose_v1_brings_up_the_same_fleet() {
    let Some(compose) = compose_v1() else { return leave_out("this machine has no docker-compose 1") };
    let fleet = Fleet::new(compose);
    let before = fleet.objects();
    let up = fleet.ok("docker_compose_up", &[]);
    assert!(up["compose"].as_str().is_some_and(|version| version.starts_with("1.")), "{up}");
    fleet.is_healthy(&SERVICES);
    let earlier = each_scheduler_takes_a_job(&up);
    each_executor_runs_a_job(&fleet, &up);
    nothing_is_recreated_by_a_second_up(&fleet);
    let old = fleet.containers(&SERVICES);
    let restarted = fleet.ok("docker_restart_containers", &[]);
    fleet.is_healthy(&SERVICES);
    all_but_redis_are_new(&old, &fleet.containers(&SERVICES));
    jobs_are_remembered(&restarted, &earlier);
    leaves_nothing(&fleet, &restarted, &before);
}

fn whole_life(fleet: &Fleet) {
    let before = fleet.objects();
    assert_eq!(before, BTreeSet::new(), "nobody else uses the name");
    let up = fleet.ok("docker_compose_up", &[]);
    fleet.is_healthy(&SERVICES);
    assert_eq!(up["executors"], json!(["executor-1", "executor-2", "executor-3"]));
    assert_eq!(fleet.objects().len(), 7 + 1 + 4, "containers, a network, volumes: {:?}", fleet.objects());
    only_executors_are_root(fleet);
    let mut earlier = each_scheduler_takes_a_job(&up);
    each_executor_runs_a_job(fleet, &up);
    nothing_is_recreated_by_a_second_up(fleet);
    earlier.push(another_leads_when_the_leader_is_killed(fleet, &up));
    let whole = fleet.ok("docker_compose_up", &[]);
    fleet.is_healthy(&SERVICES);
    let restarted = a_new_build_is_taken_and_jobs_run_on(fleet, &whole);
    jobs_are_remembered(&restarted, &earlier);
    leaves_nothing(fleet, &restarted, &before);
}

fn only_executors_are_root(fleet: &Fleet) {
    for service in SERVICES {
        let users = users_of(&fleet.container(service));
        assert!(!users.is_empty(), "{service} has a process");
        let root = users.iter().all(|user| user == "0" || user == "root");
        let nobody = users.iter().all(|user| user == "65534" || user == "nobody");
        assert_eq!((root, nobody), (service.starts_with("executor"), !service.starts_with("executor")));
    }
}

/// Gives the jobs' ids and states.
fn each_scheduler_takes_a_job(up: &Value) -> Vec<(String, Value)> {
    let addresses = rest_addresses(up);
    assert_eq!(addresses.len(), 3);
    let mut jobs = Vec::new();
    for (number, (scheduler, rest)) in addresses.iter().enumerate() {
        let code = number.to_string();
        let job = run_job(rest, &job(&["exit", &code]));
        let state = if number == 0 { "SUCCEEDED" } else { "FAILED" };
        assert_eq!(
            (&job["state"], &job["exitCode"]),
            (&json!(state), &json!(number)),
            "by {scheduler}: {job}"
        );
        jobs.push((job["id"].as_str().expect("an id").to_owned(), job["state"].clone()));
    }
    jobs
}

/// Three jobs of more than half of an executor's memory, all at once; and one that needs a GPU.
fn each_executor_runs_a_job(fleet: &Fleet, up: &Value) {
    let (_, rest) = &rest_addresses(up)[0];
    let ids: Vec<String> = (0..3).map(|_| held_job(rest, &[("memory", json!("600Mi"))])).collect();
    let mut executors = BTreeSet::new();
    for id in &ids {
        let labels = docker::inspect(&fleet.job_container(id))["Config"]["Labels"].clone();
        assert_eq!(labels["berth.cluster"], json!(fleet.cluster));
        executors.insert(labels["berth.executor"].as_str().expect("a name").to_owned());
        fleet.release(id);
        assert_eq!(ended(rest, id)["state"], "SUCCEEDED");
    }
    assert_eq!(executors, ["executor-1", "executor-2", "executor-3"].map(str::to_owned).into());
    let mut with_gpu = job(&["true"]);
    with_gpu["gpus"] = json!("a100:1");
    let job = run_job(rest, &with_gpu);
    assert_eq!((&job["state"], &job["executorId"]), (&json!("SUCCEEDED"), &json!("executor-3")), "{job}");
    assert_eq!(job["gpuDeviceIds"].as_array().map(Vec::len), Some(1), "{job}");
}

fn nothing_is_recreated_by_a_second_up(fleet: &Fleet) {
    let first = fleet.containers(&SERVICES);
    fleet.ok("docker_compose_up", &[]);
    assert_eq!(fleet.containers(&SERVICES), first);
}

/// Gives a job that ran through it, with its state.
fn another_leads_when_the_leader_is_killed(fleet: &Fleet, up: &Value) -> (String, Value) {
    let led = up["leader"].as_str().expect("a leader is told").to_owned();
    let addresses = rest_addresses(up);
    let (_, rest) = addresses.iter().find(|(scheduler, _)| *scheduler != led).expect("there are others");
    let running = held_job(rest, &[]);
    let epoch =
        |stats: &Value| stats["leaderEpoch"].to_string().trim_matches('"').parse::<u64>().expect("a number");
    let epoch_before = epoch(&http::get(rest, "/stats"));
    docker_ok(&["kill", &fleet.container(&led)]);
    let stats = until("another scheduler leads", || {
        let answer = http::request(rest, "GET", "/stats", &[], b"");
        let stats = (answer.status == 200).then(|| answer.json())?;
        let leader = stats["leaderSchedulerId"].as_str()?;
        (!leader.is_empty() && leader != led).then_some(stats)
    });
    assert!(epoch(&stats) > epoch_before, "{stats}");
    let next = run_job(rest, &job(&["true"]));
    assert_eq!(next["state"], "SUCCEEDED", "{next}");
    fleet.release(&running);
    let job = ended(rest, &running);
    assert_eq!((&job["state"], &job["attempt"]), (&json!("SUCCEEDED"), &json!(1)), "{job}");
    (running, job["state"].clone())
}

/// The change is one of the certificates in the image: a change of the code would have to be undone
/// in the tree that others are testing.
fn a_new_build_is_taken_and_jobs_run_on(fleet: &Fleet, up: &Value) -> Value {
    let running = held_job(&rest_addresses(up)[0].1, &[]);
    let container = fleet.job_container(&running);
    let folder = tools::folder();
    let certificates = folder.path().join("bundle.crt");
    std::fs::write(&certificates, format!("# of {}\n", fleet.name)).expect("a file can be written");
    let (old, old_image) =
        (fleet.containers(&SERVICES), docker_ok(&["image", "inspect", "-f", "{{.Id}}", &fleet.image]));
    let restarted = fleet.ok(
        "docker_restart_containers",
        &[("BERTH_CA_BUNDLE", certificates.to_str().expect("a plain path"))],
    );
    fleet.is_healthy(&SERVICES);
    all_but_redis_are_new(&old, &fleet.containers(&SERVICES));
    for service in OF_THE_TREE {
        let container = fleet.container(service);
        assert_ne!(docker::inspect(&container)["Image"], json!(old_image), "{service} has the new image");
        let inside = file_in(&container, "/etc/ssl/certs/ca-certificates.crt");
        assert_eq!(inside, std::fs::read(&certificates).expect("it is still there"), "{service}");
    }
    let rest = &rest_addresses(&restarted)[1].1;
    assert_eq!(fleet.job_container(&running), container, "its container has not noticed");
    fleet.release(&running);
    let job = ended(rest, &running);
    assert_eq!((&job["state"], &job["attempt"]), (&json!("SUCCEEDED"), &json!(1)), "{job}");
    restarted
}

fn all_but_redis_are_new(old: &[String], new: &[String]) {
    for ((service, old), new) in SERVICES.iter().zip(old).zip(new) {
        assert_eq!(old == new, *service == "redis", "{service}");
    }
}

fn jobs_are_remembered(told: &Value, jobs: &[(String, Value)]) {
    assert!(!jobs.is_empty());
    for (_, rest) in rest_addresses(told) {
        for (id, state) in jobs {
            assert_eq!(http::get(&rest, &format!("/jobs/{id}"))["state"], *state);
        }
    }
}

/// Takes the fleet down while a job runs.
fn leaves_nothing(fleet: &Fleet, told: &Value, before: &BTreeSet<String>) {
    let running = held_job(&rest_addresses(told)[2].1, &[]);
    let container = format!("container {}", fleet.job_container(&running));
    assert!(fleet.objects().contains(&container), "a job's container counts");
    // What the environment says by now does not count, but what the fleet was started as.
    let down = fleet.ok("docker_compose_down", &[("BERTH_CLUSTER", "berth-fleet-test-other")]);
    assert_eq!((&down["containers"], &down["networks"], &down["volumes"]), (&json!(7), &json!(1), &json!(4)));
    assert_eq!(fleet.objects(), *before);
    docker_ok(&["image", "inspect", &fleet.image]);
    let again = fleet.ok("docker_compose_down", &[]);
    assert_eq!((&again["containers"], &again["jobContainers"]), (&json!(0), &json!(0)));
}
