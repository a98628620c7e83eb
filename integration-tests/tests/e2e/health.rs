//! The health check of executors, which have no listener of their own.

use std::process::Command;

use berth_integration_tests::cluster::{Cluster, Size};
use berth_integration_tests::tools;
use berth_integration_tests::wait::until;

#[test]
fn an_executor_is_healthy_while_the_schedulers_are_in_touch_with_it() {
    let clocks = ["--heartbeat-interval", "200ms", "--lease", "1s"];
    let mut cluster = Cluster::start_with(&clocks);
    let size = Size { cpus: "1", memory: "1g", gpus: "" };
    for id in ["executor-1", "executor-2"] {
        cluster.add_executor(id, size, &["--runtime", "simulated"]);
    }
    let health = |cluster: &Cluster, arguments: &[&str]| {
        let mut command = Command::new(tools::berth());
        // As the containers of executors have it.
        command.arg("health").args(arguments).env("EXECUTOR_ID", "executor-1");
        let output = command.env("BERTH_ADDR", &cluster.scheduler.grpc).output().expect("berth runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let both = ["--executor", "executor-2", "--executor", "executor-1"];
    assert_eq!(
        health(&cluster, &both),
        (Some(0), "executor executor-2 CONNECTED\nexecutor executor-1 CONNECTED\n".to_owned())
    );
    assert_eq!(
        health(&cluster, &["--executor", "executor-1", "--executor", "nobody"]),
        (Some(1), "executor executor-1 CONNECTED\nexecutor nobody UNREACHABLE\n".to_owned())
    );
    let plain = (Some(0), format!("{} SERVING\n", cluster.scheduler.grpc));
    assert_eq!(health(&cluster, &[]), plain, "EXECUTOR_ID changes nothing");

    cluster.executors[1].process.kill();
    let lost = (Some(1), "executor executor-2 UNREACHABLE\nexecutor executor-1 CONNECTED\n".to_owned());
    until("its lease is over", || (health(&cluster, &both) == lost).then_some(()));
    cluster.scheduler.process.kill();
    assert_eq!(
        health(&cluster, &["--executor", "executor-1"]),
        (Some(1), "executor executor-1 UNREACHABLE\n".to_owned())
    );
}
