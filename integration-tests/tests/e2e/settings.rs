//! Settings: the names people know from the environment, and the defaults that are promised.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use berth_integration_tests::cluster::Cluster;
use berth_integration_tests::process::Process;
use berth_integration_tests::redis::Redis;
use berth_integration_tests::wait::until;
use berth_integration_tests::{http, tools};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

#[test]
fn the_environment_alone_configures_scheduler_and_executor() {
    let redis = Redis::start();
    let (folder, other) = (tools::folder(), tools::folder());
    let name = tools::unique("env");
    let mut scheduler = Command::new(tools::berth());
    scheduler.arg("scheduler").env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", redis.port().to_string());
    scheduler
        .env("SCHEDULER_ID", "from-env")
        .env("BERTH_CLUSTER", &name)
        .env("BERTH_DATA_DIR", folder.path());
    scheduler.env("BERTH_GRPC_LISTEN", "127.0.0.1:0").env("BERTH_HTTP_LISTEN", "127.0.0.1:0");
    let mut scheduler = Process::start("scheduler", &mut scheduler);
    let ready = scheduler.line("ready role=scheduler id=from-env ");
    let told = |name: &str| {
        ready.split(' ').find_map(|part| part.strip_prefix(name)).expect("the line tells it").to_owned()
    };

    let mut executor = Command::new(tools::berth());
    executor.arg("executor").env("EXECUTOR_ID", "machine-from-env").env("EXECUTOR_CPUS", "1.5");
    executor.env("EXECUTOR_MEMORY", "768m").env("EXECUTOR_GPUS", "a100:2,t4:1").env("BERTH_CLUSTER", &name);
    executor.env("BERTH_SCHEDULERS", told("grpc=")).env("BERTH_DATA_DIR", other.path());
    let mut executor = Process::start("executor", executor.env("BERTH_RUNTIME", "simulated"));
    executor.line("ready role=executor id=machine-from-env ");

    let listed = &http::get(&told("http="), "/executors")["executors"];
    assert_eq!(listed[0]["id"], "machine-from-env", "{listed}");
    let capacity = &listed[0]["capacity"];
    assert_eq!(
        (&capacity["cpuMillis"], &capacity["memoryBytes"]),
        (&json!(1500), &json!(768 << 20)),
        "{listed}"
    );
    assert_eq!(capacity["gpuCount"], 3, "{listed}");
    assert_eq!(http::get(&told("http="), "/stats")["leaderSchedulerId"], "from-env");
}

#[test]
fn the_defaults_are_the_promised_ones() {
    let defaults = |role: &str, promised: &[(&str, &str)]| {
        let help = Command::new(tools::berth()).args([role, "--help"]).output().expect("berth runs");
        let help = String::from_utf8(help.stdout).expect("is text");
        for (flag, value) in promised {
            let about = help.split_once(flag).unwrap_or_else(|| panic!("{role} knows {flag}: {help}")).1;
            let default = about.split_once("[default: ").map(|(_, rest)| rest.split(']').next());
            assert_eq!(default.flatten(), Some(*value), "{role} {flag}");
        }
    };
    let clocks = [
        ("--queue-timeout", "15s"),
        ("--heartbeat-interval", "5s"),
        ("--lease", "15s"),
        ("--lost-after", "30s"),
        ("--lock-ttl", "3s"),
        ("--retention ", "24h"),
    ];
    defaults("scheduler", &clocks);
    defaults("dev", &clocks);
    let machine = [("--cleanup-after", "120s"), ("--runtime", "docker")];
    defaults("executor", &machine);
    defaults("dev", &machine);
}

#[test]
fn heartbeats_come_every_five_seconds_and_renew_the_lease() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", crate::MEDIUM, &["--runtime", "simulated"]);
    let leases = format!("{{{}}}:leases", cluster.name);
    let mut ends: Vec<u64> = Vec::new();
    until("three heartbeats are seen", || {
        let end = cluster.redis.cli(&["ZSCORE", &leases, "executor-1"]);
        let end = end.trim().parse().expect("the executor has a lease");
        if ends.last() != Some(&end) {
            ends.push(end);
        }
        // The first ends belong to the registration and its first heartbeat.
        (ends.len() >= 5).then_some(())
    });
    for pair in ends[2..].windows(2) {
        let apart_ms = pair[1] - pair[0];
        // 5 s less 10 %; a busy machine may only make it longer.
        assert!(apart_ms >= 4_400, "heartbeats {apart_ms} ms apart: {ends:?}");
    }
}

/// A process that does not outlive its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_whose_output_nobody_reads_any_more_stops_when_it_is_told() {
    let folder = tools::folder();
    let mut executor = Command::new(tools::berth());
    executor.args(["executor", "--schedulers", "127.0.0.1:1", "--runtime", "simulated"]);
    executor.env("BERTH_DATA_DIR", folder.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut executor = Killed(executor.spawn().expect("berth runs"));
    let mut log = BufReader::new(executor.0.stderr.take().expect("it is piped"));
    // It hears signals by the time it says that no scheduler answers.
    let mut line = String::new();
    while !line.contains("cannot be reached") {
        line.clear();
        assert_ne!(log.read_line(&mut line).expect("it is read"), 0, "it says so before it ends");
    }
    drop(log);
    let pid = Pid::from_raw(i32::try_from(executor.0.id()).expect("it is a pid"));
    kill(pid, Signal::SIGTERM).expect("it is there");
    let status = until("the executor ends", || executor.0.try_wait().expect("it is a child"));
    assert_eq!(status.code(), Some(0));
}
