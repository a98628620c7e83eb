//! Starts that fail or are interrupted, and what they leave.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_integration_tests::docker::docker_ok;
use berth_integration_tests::recipe::{closing_line, text};
use berth_integration_tests::wait::until;
use serde_json::json;

use crate::fleet::{Fleet, compose_v2};

#[test]
fn a_start_that_fails_tells_why_and_removes_what_it_started() {
    let fleet = Fleet::new(compose_v2());
    let output = fleet.run("docker_compose_up", &[("REDIS_APPENDFSYNC", "sometimes")]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(closing_line(&output)["ok"], json!(false));
    let log = said.find("the last lines of redis").unwrap_or_else(|| panic!("its log is shown: {said}"));
    let removal = said.find("removing what was started").unwrap_or_else(|| panic!("it is told: {said}"));
    assert!(log < removal && said.contains("everysec, always, no"), "{said}");
    assert_eq!(fleet.objects(), BTreeSet::new());
}

#[test]
fn a_start_that_is_interrupted_removes_what_it_started_but_no_data_of_before() {
    let fleet = Fleet::new(compose_v2());
    let interrupted = || {
        let mut up = fleet.start("docker_compose_up");
        until("a container of the fleet is there", || {
            fleet.objects().iter().any(|object| object.starts_with("container ")).then_some(())
        });
        up.signal("TERM");
        assert_eq!(up.ended(Duration::from_secs(120)), Some(143), "{}", up.output());
        up.line_with(r#"{"recipe":"docker_compose_up","ok":false"#);
    };
    interrupted();
    assert_eq!(fleet.objects(), BTreeSet::new());
    // A queue whose fleet was taken down by hand.
    let (volume, label) =
        (format!("{}_redis", fleet.name), format!("com.docker.compose.project={}", fleet.name));
    let role = "com.docker.compose.volume=redis";
    docker_ok(&["volume", "create", "--label", &label, "--label", role, &volume]);
    interrupted();
    let left = fleet.objects();
    assert!(left.contains(&format!("volume {volume}")), "{left:?}");
    assert!(left.iter().all(|object| object.starts_with("volume ")), "{left:?}");
}
