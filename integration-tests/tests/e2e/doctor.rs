//! `berth doctor` on the real things, as they should be and as they should not.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use berth_integration_tests::cluster::Cluster;
use berth_integration_tests::redis::Redis;
use berth_integration_tests::tools;
use serde_json::Value;

/// A `berth doctor` that takes nothing from this process's own environment.
fn doctor(folder: &Path) -> Command {
    let mut command = Command::new(tools::berth());
    command.args(["doctor", "--data-dir", &folder.join("data").display().to_string()]);
    command.args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    for name in ["REDIS_HOST", "REDIS_PORT", "BERTH_REDIS_URL"] {
        command.env_remove(name);
    }
    command.env("BERTH_ADDR", "127.0.0.1:1");
    command
}

/// What was found, by the name of the check.
fn findings(output: &Output) -> BTreeMap<String, Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let all: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(all["ok"], output.status.success(), "{all}");
    let checks = all["checks"].as_array().expect("there are checks").iter();
    checks.map(|check| (check["name"].as_str().expect("a name").to_owned(), check.clone())).collect()
}

fn assert_status(found: &BTreeMap<String, Value>, name: &str, status: &str, message: &str) {
    let check = found.get(name).unwrap_or_else(|| panic!("{name} is looked at: {found:?}"));
    assert_eq!(check["status"], status, "{check}");
    assert!(check["message"].as_str().is_some_and(|text| text.contains(message)), "{message:?} in {check}");
    let remedy = check["remedy"].as_str().expect("there is a remedy, if only an empty one");
    assert_eq!(remedy.is_empty(), status == "OK", "{check}");
}

#[test]
fn a_cluster_as_it_should_be_is_found_well_and_its_ports_its_own() {
    let cluster = Cluster::start();
    let folder = tools::folder();
    let mut command = Command::new(tools::berth());
    command
        .args(["doctor", "-o", "json", "--redis-url", &cluster.redis.url()])
        .args(["--grpc-listen", &cluster.scheduler.grpc, "--http-listen", &cluster.scheduler.http])
        .args(["--data-dir", &folder.path().join("data").display().to_string()])
        .env("BERTH_ADDR", &cluster.scheduler.grpc);
    let output = command.output().expect("berth runs");
    let found = findings(&output);
    assert_eq!(output.status.code(), Some(0), "{found:?}");
    for (name, message) in [
        ("docker", "answers at"),
        ("docker-api", "is spoken"),
        ("docker-arch", "linux/"),
        ("docker-bridge", "exists"),
        ("redis", &cluster.redis.url()["redis://".len()..]),
        ("redis-version", "7."),
        ("redis-aof", "appendfsync always"),
        ("redis-eviction", "noeviction"),
        ("redis-clock", "agrees"),
        ("grpc-port", "served by Berth already"),
        ("http-port", "served by Berth already"),
        ("scheduler-clock", &cluster.scheduler.grpc),
        ("data-folder", "can be written"),
    ] {
        assert_status(&found, name, "OK", message);
    }
    assert!(found.contains_key("file-limit"), "{found:?}");
    assert!(!folder.path().join("data").exists(), "nothing is left behind");
}

#[test]
fn a_redis_that_may_lose_or_forget_jobs_is_told_with_the_remedy() {
    let redis = Redis::start_with(&["--appendonly", "no", "--maxmemory-policy", "volatile-lru"]);
    let folder = tools::folder();
    let command = |port: &str| {
        let mut command = doctor(folder.path());
        command.env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", port).args(["-o", "json"]);
        command.output().expect("berth runs")
    };
    let output = command(&redis.port().to_string());
    let found = findings(&output);
    assert_eq!(output.status.code(), Some(1), "{found:?}");
    assert_status(&found, "redis-aof", "WARN", "no append-only file");
    assert_status(&found, "redis-eviction", "FAIL", "volatile-lru");
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    redis.cli(&["CONFIG", "SET", "appendonly", "yes"]);
    redis.cli(&["CONFIG", "SET", "appendfsync", "no"]);
    let found = findings(&command(&redis.port().to_string()));
    assert_status(&found, "redis-aof", "WARN", "appendfsync no");
    assert_status(&found, "redis-eviction", "OK", "noeviction");

    let output = command("1");
    assert_eq!(output.status.code(), Some(1));
    assert_status(&findings(&output), "redis", "FAIL", "Redis at 127.0.0.1:1 refused the connection.");
}

#[test]
fn what_is_missing_on_the_machine_is_told_in_words() {
    let folder = tools::folder();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken.local_addr().map(|address| (address, taken)).expect("it has an address");
    let file = folder.path().join("file");
    std::fs::write(&file, b"no folder").expect("a file can be written");
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 512; exec \"$0\" \"$@\""])
        .arg(tools::berth())
        .args(["doctor", "--grpc-listen", &taken.0.to_string(), "--http-listen", "127.0.0.1:0"])
        .args(["--data-dir", &file.join("data").display().to_string()])
        .env("DOCKER_HOST", "unix:///no/docker.sock")
        .env("BERTH_ADDR", "127.0.0.1:1")
        .output()
        .expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let port = taken.0.port();
    for (line, remedy) in [
        ("FAIL  docker ", "Start it, or set DOCKER_HOST. Check: docker info"),
        (
            &format!("FAIL  grpc-port        Port {port} is taken."),
            "Stop what uses it, or set --grpc-listen.",
        ),
        ("WARN  file-limit       Only 512 files may be open", "ulimit -n 4096"),
        ("FAIL  data-folder ", "set --data-dir"),
    ] {
        let mut lines = text.lines().skip_while(|found| !found.starts_with(line));
        assert!(lines.next().is_some(), "{line:?} in:\n{text}");
        let below = lines.next().unwrap_or_default();
        assert!(below.starts_with("   ") && below.contains(remedy), "{remedy:?} below {line:?} in:\n{text}");
    }
    assert!(!text.contains("scheduler-clock"), "no scheduler answers:\n{text}");
}
