//! What the recipes of the fleet refuse, and by which exit code.

use berth_integration_tests::docker::{IMAGE, docker_ok};
use berth_integration_tests::recipe::{closing_line, run, text};
use berth_integration_tests::{docker, tools};
use serde_json::json;

use crate::fleet::{Fleet, compose_v2};

#[test]
fn a_fleet_that_is_not_there_cannot_be_restarted() {
    let fleet = Fleet::new(compose_v2());
    let output = fleet.run("docker_restart_containers", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(closing_line(&output)["ok"], json!(false));
    assert!(text(&output.stderr).contains("./run docker_compose_up"), "{}", text(&output.stderr));
}

#[test]
fn a_compose_tool_that_does_not_work_is_a_missing_tool() {
    let output = Fleet::new("/nowhere/docker-compose".into()).run("docker_compose_up", &[]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("/nowhere/docker-compose"), "{}", text(&output.stderr));
}

#[test]
fn a_project_that_compose_would_refuse_is_refused_before_anything_is_built() {
    for name in ["-x", "Fleet", "a b"] {
        let output = run("docker_compose_up").env("BERTH_PROJECT", name).output().expect("./run runs");
        assert_eq!(output.status.code(), Some(2), "{name:?}: {}", text(&output.stderr));
    }
    for recipe in
        ["docker_compose_up", "docker_compose_down", "docker_start_single", "docker_restart_containers"]
    {
        let output = run(recipe).arg("--now").output().expect("./run runs");
        assert_eq!(output.status.code(), Some(2), "{recipe}: {}", text(&output.stderr));
    }
}

#[test]
fn a_taken_port_is_named_with_its_setting_before_anything_is_built() {
    let fleet = Fleet::new(compose_v2());
    for (recipe, setting, address) in [
        ("docker_compose_up", "BERTH_HTTP_3", "127.0.0.1:0"),
        ("docker_compose_up", "BERTH_GRPC_2", "0.0.0.0:0"),
        ("docker_start_single", "BERTH_GRPC_1", "127.0.0.1:0"),
    ] {
        let other = std::net::TcpListener::bind(address).expect("a port is free");
        let port = other.local_addr().expect("it has an address").port().to_string();
        let output = fleet.run(recipe, &[(setting, &port)]);
        let said = text(&output.stderr);
        let told = format!("Port {port} is taken. Stop what uses it, or set {setting} (0 takes a free one).");
        assert_eq!((output.status.code(), said.lines().next()), (Some(1), Some(told.as_str())), "{said}");
        assert!(!said.contains("images:"), "{said}");
        assert_eq!(closing_line(&output)["ok"], json!(false));
    }
}

#[test]
fn a_cluster_that_only_the_environment_names_keeps_its_jobs() {
    let fleet = Fleet::new(compose_v2());
    let other = tools::unique("other");
    let label = format!("berth.cluster={other}");
    let labels = ["--label", &label, "--label", "berth.executor=executor-1", "--label", "berth.job=x"];
    let container = docker_ok(&[&["create"], &labels[..], &[IMAGE, "true"]].concat());
    let down = fleet.ok("docker_compose_down", &[("BERTH_CLUSTER", &other)]);
    let left = docker::containers(&other);
    docker::remove_containers(&other);
    assert_eq!((left, &down["jobContainers"]), (vec![container], &json!(0)));
}
