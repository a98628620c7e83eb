//! The smallest fleet, and how it grows.

use berth_integration_tests::cluster::job;
use berth_integration_tests::recipe::text;
use serde_json::json;

use crate::fleet::{Fleet, SERVICES, compose_v2, rest_addresses, run_job};

/// What the smallest fleet consists of.
const SMALLEST: [&str; 3] = ["redis", "scheduler-1", "executor-1"];

#[test]
fn the_smallest_fleet_runs_a_job_grows_and_shrinks_again() {
    let fleet = Fleet::new(compose_v2());
    let single = fleet.ok("docker_start_single", &[]);
    fleet.is_healthy(&SMALLEST);
    assert_eq!(fleet.containers(&SERVICES).iter().filter(|id| !id.is_empty()).count(), SMALLEST.len());
    assert_eq!((&single["leader"], &single["executors"]), (&json!("scheduler-1"), &json!(["executor-1"])));
    let first = run_job(&rest_addresses(&single)[0].1, &job(&["true"]));
    assert_eq!(
        (&first["state"], &first["executorId"]),
        (&json!("SUCCEEDED"), &json!("executor-1")),
        "{first}"
    );

    let failed = fleet.run("docker_compose_up", &[("REDIS_APPENDFSYNC", "sometimes")]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stderr));
    let left = fleet.containers(&SMALLEST);
    assert!(left.iter().all(|container| !container.is_empty()), "a fleet that was there is left: {left:?}");

    let whole = fleet.ok("docker_compose_up", &[]);
    fleet.is_healthy(&SERVICES);
    let rest = &rest_addresses(&whole)[2].1;
    let path = format!("/jobs/{}", first["id"].as_str().expect("an id"));
    assert_eq!(
        berth_integration_tests::http::get(rest, &path)["state"],
        "SUCCEEDED",
        "it is the same cluster"
    );

    let single = fleet.ok("docker_start_single", &[]);
    let present = fleet.containers(&SERVICES).into_iter().zip(SERVICES).filter(|(id, _)| !id.is_empty());
    assert_eq!(present.map(|(_, service)| service).collect::<Vec<_>>(), SMALLEST);
    assert_eq!(run_job(&rest_addresses(&single)[0].1, &job(&["true"]))["state"], "SUCCEEDED");
}
