//! `./run` itself: what it says while it waits, and the demo's end, whatever ends it.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::Duration;

use berth_integration_tests::process::Process;
use berth_integration_tests::recipe::{closing_line, run, run_built, text};
use berth_integration_tests::{docker, tools};
use serde_json::{Value, json};

/// The folders of this clone's demos; others may come and go beside a test.
fn demos() -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(tools::root().join("target/demo")) else { return BTreeSet::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The name of the cluster of a demo that runs as `./run` with this process id.
fn cluster_of(pid: u32) -> String {
    format!("berth-demo-{pid}")
}

fn nothing_is_left_of(cluster: &str) {
    assert!(!demos().contains(cluster), "its folder is gone");
    assert_eq!([docker::containers(cluster), docker::slots(cluster)].concat(), Vec::<String>::new());
    // Its processes all have the name on their command lines.
    let processes = std::fs::read_dir("/proc").expect("processes can be listed").flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    assert!(!lines.map(|line| text(&line)).any(|line| line.split('\0').any(|word| word == cluster)));
}

fn stop(clusters: &[&str]) -> Output {
    // It must not need a compiler.
    run("demo").env("PATH", "/usr/bin:/bin").arg("--stop").args(clusters).output().expect("./run runs")
}

#[test]
fn a_recipe_that_waits_for_another_one_says_so() {
    let lock = tools::root().join("target/tools/.lock");
    let script = format!("exec 9>>'{}'; flock 9; echo held; exec sleep 300", lock.display());
    let mut holder = Process::start("holder", Command::new("sh").args(["-c", &script]));
    holder.line("held");
    let mut waiting = Process::start("./run tools", run("tools").arg("curl"));
    waiting.line("tools: another ./run fetches tools; waiting for it");
    holder.kill();
    assert_eq!(waiting.ended(Duration::from_secs(60)), Some(0), "{}", waiting.output());
}

#[test]
fn an_interrupted_demo_leaves_nothing_and_still_tells_its_end() {
    let mut demo = Process::start("./run demo", &mut run_built("demo"));
    let cluster = cluster_of(demo.pid());
    // The signal of a job scheduler, for the shell alone; a test may itself run where Ctrl-C is ignored.
    demo.line_with("running on");
    demo.signal("TERM");
    assert_eq!(demo.ended(Duration::from_secs(60)), Some(143), "{}", demo.output());
    let closing: Value = serde_json::from_str(&demo.line(r#"{"recipe":"demo""#)).expect("is JSON");
    assert_eq!(closing["ok"], json!(false));
    nothing_is_left_of(&cluster);
}

#[test]
fn a_demo_whose_cluster_cannot_start_fails_with_the_reason_and_leaves_nothing() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = other.local_addr().expect("it has an address");
    let mut demo =
        Process::start("./run demo", run_built("demo").args(["--http-listen", &address.to_string()]));
    let cluster = cluster_of(demo.pid());
    demo.line_with(&format!("Port {} is taken.", address.port()));
    assert_eq!(demo.ended(Duration::from_secs(60)), Some(1), "{}", demo.output());
    demo.line(r#"{"recipe":"demo","ok":false"#);
    nothing_is_left_of(&cluster);
}

#[test]
fn a_kept_demo_goes_on_until_it_is_stopped_by_name() {
    let output = run("demo").arg("--keep").output().expect("./run runs");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("  ./run demo --stop\n"), "{}", text(&output.stdout));
    let kept = closing_line(&output);
    let (cluster, grpc) = (kept["cluster"].as_str().expect("a name"), kept["grpc"].as_str().expect("one"));
    let mut job = Command::new(tools::berth());
    job.args(["run", "-d", docker::IMAGE, "sleep", "600"]).env("BERTH_ADDR", grpc);
    assert!(job.status().expect("berth runs").success(), "the cluster takes jobs");

    let absent = stop(&["berth-demo-0"]);
    assert_eq!(absent.status.code(), Some(1), "{}", text(&absent.stderr));
    assert_eq!(stop(&["../demo"]).status.code(), Some(2));
    let stopped = stop(&[cluster]);
    let (told, closing) = (text(&stopped.stdout), closing_line(&stopped));
    assert_eq!((stopped.status.code(), &closing["stopped"]), (Some(0), &json!(1)), "{told}");
    let pid = kept["pid"].as_i64().expect("a process id");
    assert!(told.starts_with(&format!("Removed {cluster}: process {pid}, ")), "{told}");
    nothing_is_left_of(cluster);
}
