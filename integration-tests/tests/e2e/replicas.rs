//! Scheduler replicas: one leads through the lock, the others follow, serve, and take over.

use berth_integration_tests::cluster::{Cluster, id_of, job};
use berth_integration_tests::wait::until;
use berth_integration_tests::{docker, http};
use serde_json::{Value, json};

use crate::small_cluster;

fn stats(address: &str) -> Value {
    http::get(address, "/stats")
}

#[test]
fn the_first_replica_takes_the_lock_and_a_later_one_follows_and_serves() {
    let cluster = small_cluster();
    let first = stats(&cluster.scheduler.http);
    assert_eq!(first["leaderSchedulerId"], "scheduler-1", "{first}");
    let second = cluster.another_scheduler("scheduler-2", &[]);
    let seen = stats(&second.http);
    assert_eq!(
        (&seen["leaderSchedulerId"], &seen["leaderEpoch"]),
        (&first["leaderSchedulerId"], &first["leaderEpoch"]),
        "a replica that comes later changes nothing"
    );
    // Only the leader assigns, also what was submitted elsewhere: the attempt carries its epoch.
    let submitted = http::post(&second.http, "/jobs", &job(&["sh", "-c", "exit 5"]));
    let ended = cluster.ended(&id_of(&submitted));
    assert_eq!((&ended["exitCode"], &ended["attemptEpoch"]), (&json!(5), &first["leaderEpoch"]), "{ended}");
}

#[test]
fn a_follower_leads_once_the_lock_of_a_killed_leader_expires_and_running_jobs_go_on() {
    let mut cluster = Cluster::start_with(&["--lock-ttl", "1s"]);
    let second = cluster.another_scheduler("scheduler-2", &["--lock-ttl", "1s"]);
    let addresses = format!("{},{}", cluster.scheduler.grpc, second.grpc);
    cluster.add_executor_at(&addresses, "executor-1", crate::MEDIUM, &[]);
    let running = cluster.shell("while ! [ -e /tmp/go ]; do sleep 0.1; done; exit 6");
    cluster.reaches(&running, &["RUNNING"]);
    let before = stats(&second.http);
    cluster.scheduler.process.kill();
    let after = until("another replica leads", || {
        let now = stats(&second.http);
        (now["leaderSchedulerId"] == "scheduler-2").then_some(now)
    });
    assert!(after["leaderEpoch"].as_u64() > before["leaderEpoch"].as_u64(), "epochs rise: {before} {after}");

    // From here on the second replica is the cluster.
    cluster.scheduler = second;
    let id = cluster.shell("exit 7");
    assert_eq!(cluster.ended(&id)["attemptEpoch"], after["leaderEpoch"]);
    docker::let_go(&docker::containers_of(&running)[0]);
    let ended = cluster.ended(&running);
    assert_eq!((&ended["exitCode"], &ended["attempt"]), (&json!(6), &json!(1)), "{ended}");
}

#[test]
fn an_assignment_moves_a_job_between_the_sets_in_one_step() {
    const JOBS: usize = 30;
    // Both sets in one transaction of Redis: how often a job is in neither or in both.
    const TORN: &str = "local torn = 0 \
        for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do \
          local places = 0 \
          for place = 2, 4 do if redis.call('ZSCORE', KEYS[place], id) then places = places + 1 end end \
          if places ~= 1 then torn = torn + 1 end \
        end \
        return {torn, redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]), redis.call('ZCARD', KEYS[4])}";
    let cluster = small_cluster();
    let key = |name: &str| format!("{{{}}}:{name}", cluster.name);
    let body = {
        let mut body = job(&["true"]);
        body["queueTimeout"] = json!(0);
        body["cpus"] = json!(1);
        body
    };
    for _ in 0..JOBS {
        cluster.submit(&body);
    }
    let (mut pending_seen, mut assigned_seen) = (false, false);
    until("all jobs have ended", || {
        let (jobs, pending, assigned, finished) =
            (key("jobs"), key("pending"), key("assigned:executor-1"), key("finished"));
        let read = cluster.redis.cli(&["EVAL", TORN, "4", &jobs, &pending, &assigned, &finished]);
        let counts: Vec<usize> = read.lines().map(|line| line.trim().parse().expect("a number")).collect();
        assert_eq!(counts[0], 0, "a job stands in no set or in two: {counts:?}");
        pending_seen |= counts[1] > 0;
        assigned_seen |= counts[2] > 0;
        assert!(counts[2] <= 2, "an executor of 2 CPUs has at most two jobs of 1: {counts:?}");
        (counts[3] == JOBS).then_some(())
    });
    assert!(pending_seen && assigned_seen, "jobs were seen in both sets");
}
