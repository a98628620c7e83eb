//! One machine out of the box: `berth dev` on the embedded store, with real containers.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_integration_tests::cluster::{id_of, job};
use berth_integration_tests::dev::Dev;
use berth_integration_tests::docker;
use berth_integration_tests::process::Process;
use berth_integration_tests::tools;
use berth_integration_tests::wait::until;
use berth_integration_tests::{http, tools::berth};
use serde_json::{Value, json};

const SMALL: &[(&str, &str)] =
    &[("EXECUTOR_CPUS", "2"), ("EXECUTOR_MEMORY", "1g"), ("EXECUTOR_GPUS", "a100:2")];

/// A shell line that waits until it is let go.
const WAITS_THEN_9: &str = "until [ -e /tmp/go ]; do sleep 0.1; done; exit 9";

fn ended(dev: &Dev, id: &str) -> Value {
    until(&format!("job {id} ends"), || {
        let job = http::get(&dev.http(), &format!("/jobs/{id}"));
        let over = ["SUCCEEDED", "FAILED", "ABORTED"].iter().any(|state| job["state"] == *state);
        over.then_some(job)
    })
}

#[test]
fn one_process_is_a_whole_cluster() {
    let mut dev = Dev::start(SMALL, &[]);
    assert_eq!((&dev.ready["role"], &dev.ready["pid"]), (&json!("dev"), &json!(dev.process.pid())));
    let id = id_of(&http::post(&dev.http(), "/jobs", &job(&["sh", "-c", "echo out; echo err >&2; exit 7"])));
    let job = ended(&dev, &id);
    assert_eq!((&job["state"], &job["exitCode"]), (&json!("FAILED"), &json!(7)), "{job}");
    let logs = dev.berth(&["logs", &id]);
    assert_eq!((logs.stdout.as_slice(), logs.stderr.as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
    let status = dev.berth(&["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("status prints JSON");
    assert_eq!(status["store"]["kind"], "embedded", "{status}");
    assert!(status["leader"]["schedulerId"].is_string(), "{status}");

    assert_eq!(dev.process.stop(), Some(0), "it stops in order");
    let said = dev.process.output();
    assert!(!said.contains("ERROR") && !said.contains("WARN"), "without a complaint: {said}");
    dev.start_again();
    assert_eq!(http::get(&dev.http(), &format!("/jobs/{id}"))["exitCode"], 7, "the job is still known");
}

#[test]
fn a_killed_cluster_loses_no_acknowledged_job_and_takes_its_container_up_again() {
    const SUBMITTERS: usize = 4;
    const KILLS: usize = 3;
    let mut dev = Dev::start(SMALL, &["--lock-ttl", "1s"]);
    let running = http::post(&dev.http(), "/jobs", &job(&["sh", "-c", WAITS_THEN_9]));
    let running = id_of(&running);
    until("the job runs", || {
        (http::get(&dev.http(), &format!("/jobs/{running}"))["state"] == "RUNNING").then_some(())
    });
    let container = docker::containers_of(&running).pop().expect("its container");
    // It fits nowhere and waits for ever: what is stored of it is all there is of it.
    let waiting = json!({ "image": docker::IMAGE, "command": ["true"], "cpus": 1000, "queueTimeout": 0 });
    let mut acknowledged = Vec::new();
    for kill in 1..=KILLS {
        let address = dev.http();
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let submit = || {
                let mut ids = Vec::new();
                while let Some(answer) = http::post_if_served(&address, "/jobs", &waiting) {
                    if answer.status == 200 {
                        ids.push(id_of(&answer.json()));
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
                ids
            };
            let submitters: Vec<_> = (0..SUBMITTERS).map(|_| scope.spawn(submit)).collect();
            until("jobs are acknowledged", || (count.load(Ordering::SeqCst) >= 20 * kill).then_some(()));
            dev.process.kill();
            for submitter in submitters {
                acknowledged.extend(submitter.join().expect("a submitter ends"));
            }
        });
        dev.start_again();
        for id in &acknowledged {
            assert_eq!(
                http::get(&dev.http(), &format!("/jobs/{id}"))["state"],
                "PENDING",
                "after kill {kill}"
            );
        }
    }
    assert!(acknowledged.len() >= 120, "{}", acknowledged.len());

    docker::let_go(&container);
    let job = ended(&dev, &running);
    assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(9), &json!(1)), "the same container: {job}");
}

#[test]
fn the_demo_compares_each_end_with_the_expected_one() {
    let dev = Dev::start(SMALL, &[]);
    let folder = tools::folder();
    let report = folder.path().join("jobs.json").display().to_string();
    let right = dev.berth(&["demo", "--report", &report]);
    let shown = String::from_utf8_lossy(&right.stdout).into_owned();
    assert_eq!(right.status.code(), Some(0), "{shown}{}", String::from_utf8_lossy(&right.stderr));
    assert!(shown.contains("EXPECTED") && shown.ends_with("Every job ended as expected.\n"), "{shown}");
    let jobs: Value =
        serde_json::from_str(&std::fs::read_to_string(&report).expect("a report")).expect("is JSON");
    let ends: Vec<_> = jobs
        .as_array()
        .expect("a list")
        .iter()
        .map(|job| {
            (job["name"].as_str().unwrap(), job["endReason"].as_str().unwrap(), job["exitCode"].as_i64())
        })
        .collect();
    assert_eq!(
        ends,
        [
            ("success", "EXIT_CODE", Some(0)),
            ("exit-code", "EXIT_CODE", Some(3)),
            ("out-of-memory", "OOM_KILLED", Some(137)),
            ("too-large", "QUEUE_TIMEOUT", None),
            ("aborted", "ABORTED_BY_USER", Some(143)),
            ("gpu", "EXIT_CODE", Some(0)),
            ("two-streams", "EXIT_CODE", Some(0)),
        ]
    );

    let wrong = dev.berth(&["demo", "--image", "127.0.0.1:9/absent:none"]);
    assert_eq!(wrong.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&wrong.stdout).into_owned();
    assert!(shown.ends_with("NOT every job ended as expected.\n"), "{shown}");
}

#[test]
fn the_demo_does_not_wait_for_gpus_that_no_executor_has() {
    let dev = Dev::start(&[SMALL[0], SMALL[1], ("EXECUTOR_GPUS", "none")], &[]);
    let began = Instant::now();
    let demo = dev.berth(&["demo"]);
    let (shown, said) = (String::from_utf8_lossy(&demo.stdout), String::from_utf8_lossy(&demo.stderr));
    assert_eq!(demo.status.code(), Some(1), "{shown}{said}");
    assert!(began.elapsed() < Duration::from_secs(60), "after {:?}", began.elapsed());
    let told = "No executor has a GPU: give one emulated GPUs, as in EXECUTOR_GPUS=a100:2 berth dev.";
    assert!(said.contains(&format!("not run: {told}")), "{said}");
    let ends = shown.lines().skip(2).take(7);
    let others = ends.filter(|line| !line.starts_with("gpu ")).collect::<Vec<_>>();
    assert!(others.len() == 6 && others.iter().all(|line| line.contains("  yes  ")), "{shown}");
    assert!(shown.contains("NOT_RUN") && shown.ends_with("NOT every job ended as expected.\n"), "{shown}");
}

#[test]
fn a_folder_serves_one_cluster_at_a_time() {
    let dev = Dev::start(SMALL, &["--runtime", "simulated"]);
    let mut second = Command::new(berth());
    second.args([
        "dev",
        "--grpc-listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
        "--runtime",
        "simulated",
    ]);
    let mut second = Process::start("second", second.args(["--data-dir", &dev.folder()]));
    assert_eq!(second.ended(Duration::from_secs(30)), Some(1));
    let said = second.output();
    assert!(said.contains("the store is in use") && said.contains("--data-dir"), "{said}");
    let ready = std::path::Path::new(&dev.folder()).join("ready.json");
    let ready = std::fs::read_to_string(ready).expect("the first one is ready all the same");
    assert!(ready.contains(&dev.http()), "{ready}");
    assert_eq!(http::get(&dev.http(), "/jobs")["jobs"], json!([]), "the first one is not disturbed");
}

#[test]
fn a_new_program_takes_the_place_of_a_whole_cluster_on_its_ports_and_its_file() {
    let folder = tools::folder();
    let program = folder.path().join("berth");
    std::fs::copy(berth(), &program).expect("the program can be copied");
    let mut dev = Dev::start_program(&program, &[("SCHEDULER_RELOAD", "1"), SMALL[0], SMALL[1]], &[]);
    let held = id_of(&http::post(&dev.http(), "/jobs", &job(&["sh", "-c", WAITS_THEN_9])));
    until("the job runs", || {
        (http::get(&dev.http(), &format!("/jobs/{held}"))["state"] == "RUNNING").then_some(())
    });
    let fresh = folder.path().join("fresh");
    std::fs::copy(berth(), &fresh).expect("the program can be copied");
    std::fs::rename(&fresh, &program).expect("it can take the other's place");
    until("the new program is ready", || {
        (dev.process.output().matches("ready role=dev").count() == 2).then_some(())
    });
    let address = dev.http();
    let said = dev.process.output();
    let ready = said.lines().filter(|line| line.starts_with("ready role=dev")).collect::<Vec<_>>();
    assert_eq!(ready[0], ready[1], "the same process on the same ports");
    docker::let_go(&docker::containers_of(&held)[0]);
    let ended = ended(&dev, &held);
    assert_eq!((&ended["exitCode"], &ended["attempt"]), (&json!(9), &json!(1)), "{ended}");
    assert_eq!(http::get(&address, "/jobs")["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(dev.process.stop(), Some(0));
}
