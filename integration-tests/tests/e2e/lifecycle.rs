//! A job's life by real containers, to each of its ends.

use std::time::{Duration, Instant};

use berth_integration_tests::cluster::{Cluster, id_of, job};
use berth_integration_tests::docker::{self, docker_ok};
use berth_integration_tests::http;
use berth_integration_tests::registry::{Gate, Registry};
use berth_integration_tests::wait::until;
use serde_json::json;

use crate::small_cluster;

fn abort(cluster: &Cluster, id: &str) -> serde_json::Value {
    http::post(&cluster.scheduler.http, &format!("/jobs/{id}/abort"), &json!({}))
}

#[test]
fn a_job_that_exits_with_0_has_succeeded() {
    let cluster = small_cluster();
    let id = cluster.shell("echo hello");
    let job = cluster.ended(&id);
    assert_eq!(
        (&job["state"], &job["exitCode"], &job["endReason"]),
        (&json!("SUCCEEDED"), &json!(0), &json!("EXIT_CODE"))
    );
    assert_eq!((&job["attempt"], &job["executorId"]), (&json!(1), &json!("executor-1")));
    assert!(job["startTime"].is_string() && job["endTime"].is_string(), "{job}");
}

#[test]
fn a_failed_job_keeps_its_exit_code() {
    let cluster = small_cluster();
    let id = cluster.shell("exit 3");
    let job = cluster.ended(&id);
    assert_eq!(
        (&job["state"], &job["exitCode"], &job["endReason"]),
        (&json!("FAILED"), &json!(3), &json!("EXIT_CODE"))
    );
}

#[test]
fn a_job_that_needs_more_memory_than_it_asked_for_is_killed() {
    let cluster = small_cluster();
    let killed = || {
        let job = cluster.ended(&id_of(&cluster.submit(&job(&["berth-job", "alloc", "200"]))));
        assert_eq!((&job["state"], &job["exitCode"]), (&json!("FAILED"), &json!(137)), "{job}");
        job["endReason"] == "OOM_KILLED"
    };
    // The engine misses the kernel's word now and then: one of some forty on a busy machine.
    assert!((0..5).any(|_| killed()), "no end was told as out of memory");
}

#[test]
fn a_command_that_is_not_there_ends_as_docker_says_it() {
    let cluster = small_cluster();
    let job = cluster.submit(&job(&["no-such-program"]));
    let job = cluster.ended(&id_of(&job));
    assert_eq!((&job["state"], &job["exitCode"]), (&json!("FAILED"), &json!(127)), "{job}");
}

#[test]
fn a_pending_job_is_aborted_at_once() {
    let cluster = Cluster::start();
    let id = cluster.shell("true");
    let job = abort(&cluster, &id);
    assert_eq!(
        (&job["state"], &job["endReason"], &job["attempt"]),
        (&json!("ABORTED"), &json!("ABORTED_BY_USER"), &json!(0))
    );
}

#[test]
fn a_job_whose_image_is_still_being_pulled_can_be_aborted() {
    let cluster = small_cluster();
    let registry = Registry::start();
    registry.push(docker::IMAGE, "slow:latest");
    let gate = Gate::before(&registry.address);
    let image = format!("{}/slow:latest", gate.address);
    let submitted = cluster.submit(&json!({ "image": image, "command": ["true"], "memory": "32Mi" }));
    let id = id_of(&submitted);
    let pulling =
        until("the image is being pulled", || Some(cluster.job(&id)).filter(|job| job["phase"] == "PULLING"));
    assert_eq!(pulling["state"], "ASSIGNED");
    let job = abort(&cluster, &id);
    assert_eq!((&job["state"], &job["attempt"]), (&json!("ABORTED"), &json!(1)), "{job}");
    gate.release();
    let again = id_of(&cluster.submit(&json!({ "image": image, "command": ["true"], "memory": "32Mi" })));
    assert_eq!(cluster.ended(&again)["state"], "SUCCEEDED", "the image is there now");
    assert_eq!(docker::containers_of(&id), [] as [String; 0], "it never had a container");
    drop(cluster);
    docker_ok(&["rmi", "-f", &image]);
}

#[test]
fn a_pulled_image_runs() {
    let cluster = small_cluster();
    let registry = Registry::start();
    registry.push(docker::IMAGE, "pulled:latest");
    let image = format!("{}/pulled:latest", registry.address);
    let submitted = cluster.submit(&json!({ "image": image, "command": ["true"], "memory": "32Mi" }));
    let job = cluster.ended(&id_of(&submitted));
    drop(cluster);
    docker_ok(&["rmi", "-f", &image]);
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
}

#[test]
fn a_running_job_is_aborted_within_its_grace() {
    let cluster = small_cluster();
    let polite = cluster.shell("trap 'exit 7' TERM; echo ready; sleep 300 & wait");
    let stubborn = cluster.shell("trap '' TERM; echo ready; sleep 300");
    for id in [&polite, &stubborn] {
        cluster.reaches(id, &["RUNNING"]);
        until("the trap is set", || (cluster.berth_ok(&["logs", id]) == "ready\n").then_some(()));
    }
    let job = abort(&cluster, &polite);
    assert_eq!((&job["state"], &job["exitCode"]), (&json!("ABORTED"), &json!(7)), "{job}");
    let began = Instant::now();
    let path = format!("/jobs/{stubborn}/abort");
    let job = http::post(&cluster.scheduler.http, &path, &json!({ "gracePeriod": "1s" }));
    assert_eq!((&job["state"], &job["exitCode"]), (&json!("ABORTED"), &json!(137)), "{job}");
    assert!(began.elapsed() >= Duration::from_secs(1), "SIGKILL comes after the grace");
    let ours = format!("label=berth.cluster={}", cluster.name);
    let running = docker_ok(&["ps", "-q", "--filter", &ours, "--filter", "label=berth.job"]);
    assert_eq!(running, "", "nothing runs after a confirmed abort");
}

#[test]
fn a_job_that_runs_too_long_is_stopped() {
    let cluster = small_cluster();
    let mut body = job(&["sh", "-c", "trap 'exit 0' TERM; sleep 300 & wait"]);
    body["runTimeout"] = json!("3s");
    let job = cluster.ended(&id_of(&cluster.submit(&body)));
    assert_eq!((&job["state"], &job["endReason"]), (&json!("FAILED"), &json!("RUN_TIMEOUT")), "{job}");
}

#[test]
fn a_job_that_cannot_be_placed_fails_after_15_seconds_with_the_reason() {
    let cluster = small_cluster();
    let mut body = job(&["true"]);
    body["cpus"] = json!(64);
    let id = id_of(&cluster.submit(&body));
    let pending = cluster.job(&id);
    assert_eq!(pending["pendingReason"]["code"], "TOO_LARGE", "told at once: {pending}");
    let job = cluster.ended(&id);
    assert_eq!((&job["state"], &job["endReason"]), (&json!("FAILED"), &json!("QUEUE_TIMEOUT")));
    assert_eq!(
        job["message"],
        "Not allocated within 15 s: needs 64 CPUs; the largest executor, executor-1, has 2."
    );
    let seconds = |field: &str| {
        let text = job[field].as_str().expect("it has a time");
        docker_ok_date(text)
    };
    let waited = seconds("endTime") - seconds("createTime");
    assert!((15.0..20.0).contains(&waited), "waited {waited} s");
}

fn docker_ok_date(text: &str) -> f64 {
    let output = std::process::Command::new("date").args(["-d", text, "+%s.%N"]).output().expect("date runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("date prints seconds")
}

#[test]
fn own_failures_are_retried_as_often_as_asked() {
    let cluster = small_cluster();
    let mut body = job(&["sh", "-c", "exit 4"]);
    body["maxRetries"] = json!(1);
    let job = cluster.ended(&id_of(&cluster.submit(&body)));
    assert_eq!(
        (&job["state"], &job["exitCode"], &job["attempt"]),
        (&json!("FAILED"), &json!(4), &json!(2)),
        "{job}"
    );
}

#[test]
fn an_executor_that_is_restarted_adopts_its_containers_and_learns_what_it_missed() {
    let mut cluster = small_cluster();
    let long = cluster.shell("sleep 4; echo survived; exit 5");
    let short = cluster.shell("sleep 1; exit 6");
    for id in [&long, &short] {
        cluster.reaches(id, &["RUNNING"]);
    }
    cluster.executors[0].process.kill();
    let container = docker::containers_of(&short)[0].clone();
    until("the short one has ended unseen", || {
        (docker::inspect(&container)["State"]["Running"] == false).then_some(())
    });
    cluster.restart_executor(0);
    for (id, code) in [(&short, 6), (&long, 5)] {
        let job = cluster.ended(id);
        assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(code), &json!(1)), "{job}");
    }
    assert_eq!(cluster.berth_ok(&["logs", &long]), "survived\n");
}

#[test]
fn memory_and_cpu_of_an_executor_are_found_where_none_are_given() {
    let mut cluster = Cluster::start();
    cluster.add_executor(
        "executor-1",
        berth_integration_tests::cluster::Size { cpus: "", memory: "", gpus: "" },
        &[],
    );
    let capacity = cluster.executor("executor-1")["capacity"].clone();
    let cores = std::thread::available_parallelism().expect("cores can be counted").get() as i64;
    assert_eq!(capacity["cpuMillis"], json!(cores * 1_000));
    assert!(capacity["memoryBytes"].as_i64().is_some_and(|bytes| bytes > 256 << 20), "{capacity}");
}
