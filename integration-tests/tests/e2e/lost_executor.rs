//! An executor that is gone: its jobs are not.

use berth_integration_tests::cluster::{Cluster, id_of, job};
use berth_integration_tests::docker;
use serde_json::json;

#[test]
fn the_job_of_a_lost_executor_runs_elsewhere() {
    let clocks = ["--heartbeat-interval", "1s", "--lease", "3s", "--lost-after", "13s"];
    let mut cluster = Cluster::start_with(&clocks);
    cluster.add_executor("executor-1", crate::MEDIUM, &[]);
    // The first attempt waits for ever; the second one finds its number and ends.
    let line = "[ \"$BERTH_ATTEMPT\" = 2 ] && exit 8; while true; do sleep 1; done";
    let id = id_of(&cluster.submit(&job(&["sh", "-c", line])));
    cluster.reaches(&id, &["RUNNING"]);
    let orphan = docker::containers_of(&id).pop().expect("its container");
    cluster.add_executor("executor-2", crate::MEDIUM, &[]);
    cluster.executors[0].process.kill();
    let ended = cluster.ended(&id);
    assert_eq!(
        (&ended["exitCode"], &ended["executorId"], &ended["attempt"]),
        (&json!(8), &json!("executor-2"), &json!(2)),
        "{ended}"
    );
    assert_eq!(cluster.executor("executor-1")["state"], "LOST");
    assert_eq!(
        docker::inspect(&orphan)["State"]["Running"],
        true,
        "nobody is there to stop the first attempt"
    );

    cluster.restart_executor(0);
    berth_integration_tests::wait::until("the executor that is back stops what is no longer wanted", || {
        (docker::inspect(&orphan)["State"]["Running"] == false).then_some(())
    });
    assert_eq!(cluster.job(&id)["exitCode"], 8, "and its end changes nothing");
}
