//! Redis holds the truth: everything else may stop and start.

use berth_integration_tests::cluster::{Size, id_of, job};
use berth_integration_tests::docker;
use serde_json::json;

use crate::small_cluster;

#[test]
fn the_queue_is_read_with_redis_cli_while_no_scheduler_runs_and_goes_on_afterwards() {
    let mut cluster = small_cluster();
    let running = cluster.shell("while ! [ -e /tmp/go ]; do sleep 0.1; done; exit 4");
    cluster.reaches(&running, &["RUNNING"]);
    let mut large = job(&["true"]);
    large["cpus"] = json!(4);
    large["queueTimeout"] = json!(0);
    let waiting = id_of(&cluster.submit(&large));
    assert_eq!(cluster.scheduler.process.stop(), Some(0), "a stopped scheduler ends in order");
    let key = |name: &str| format!("{{{}}}:{name}", cluster.name);
    assert_eq!(cluster.redis.cli(&["ZRANGE", &key("pending"), "0", "-1"]).trim(), waiting);
    assert_eq!(cluster.redis.cli(&["ZRANGE", &key("assigned:executor-1"), "0", "-1"]).trim(), running);
    assert_eq!(
        cluster
            .redis
            .cli(&["EXISTS", &key(&format!("job:{waiting}")), &key(&format!("spec:{waiting}"))])
            .trim(),
        "2"
    );
    assert_eq!(cluster.redis.cli(&["EXISTS", &key("lock"), &key("log")]).trim(), "2");
    cluster.restart_scheduler(&[]);
    docker::let_go(&docker::containers_of(&running)[0]);
    assert_eq!(cluster.ended(&running)["exitCode"], 4, "what ran has gone on");
    cluster.add_executor("executor-2", Size { cpus: "4", memory: "512m", gpus: "" }, &[]);
    assert_eq!(cluster.ended(&waiting)["state"], "SUCCEEDED");
    assert_eq!(docker::containers_of(&running).len(), 1, "nothing was started twice");
}

#[test]
fn a_killed_redis_loses_no_acknowledged_job() {
    let mut cluster = small_cluster();
    let mut body = job(&["true"]);
    body["queueTimeout"] = json!(0);
    let ids: Vec<String> = (0..20).map(|_| id_of(&cluster.submit(&body))).collect();
    cluster.redis.kill();
    let answer = berth_integration_tests::http::request(
        &cluster.scheduler.http,
        "POST",
        "/jobs",
        &[],
        body.to_string().as_bytes(),
    );
    assert_eq!(answer.status, 503, "{}", String::from_utf8_lossy(&answer.body));
    cluster.redis.up();
    for id in &ids {
        let job = cluster.ended(id);
        assert_eq!((&job["state"], &job["attempt"]), (&json!("SUCCEEDED"), &json!(1)), "{job}");
    }
}
