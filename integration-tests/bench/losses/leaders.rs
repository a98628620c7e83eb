//! Leaders that die, stop and come back.

use std::time::{Duration, Instant};

use berth_integration_tests::cluster::{Cluster, Scheduler};
use berth_integration_tests::docker::StartCounter;
use berth_integration_tests::http;
use berth_integration_tests::wait::{stays, until};
use serde_json::Value;

use crate::Row;
use crate::support::{CLOCKS, History, LOST_AFTER, Load, SIZE, ended_at, executor_state, patient};

/// What happens to leaders.
pub const ROWS: &[Row] = &[
    Row::new(
        "leader-killed-under-load",
        "kill -9 of the leader four times while jobs are submitted and start",
        killed,
    ),
    Row::new(
        "leader-paused",
        "SIGSTOP of the leader for 2 and for 10 lock TTLs under load, then SIGCONT",
        paused,
    ),
    Row::new(
        "new-leader-judges-nobody",
        "kill -9 of the leader every 4 s, five times, with six executors alive",
        judges_nobody,
    ),
];

/// Two replicas at addresses that they keep.
struct Pair {
    replicas: [Scheduler; 2],
}

const IDS: [&str; 2] = ["replica-a", "replica-b"];

impl Pair {
    fn start(cluster: &mut Cluster) -> Self {
        let replicas = IDS.map(|id| cluster.another_scheduler(id, &CLOCKS));
        // The cluster's own first replica hands over and is gone.
        cluster.scheduler.process.stop();
        let pair = Self { replicas };
        pair.leader(cluster.name.as_str());
        pair
    }

    fn grpc(&self) -> String {
        format!("{},{}", self.replicas[0].grpc, self.replicas[1].grpc)
    }

    fn http(&self) -> [&str; 2] {
        [&self.replicas[0].http, &self.replicas[1].http]
    }

    /// Which replica leads, and its epoch.
    fn leader(&self, but: &str) -> (usize, u64) {
        until("a replica leads", || {
            self.http().iter().find_map(|address| {
                let stats = http::request_if_served(address, "GET", "/stats", &[], b"")?;
                let stats: Value = (stats.status == 200).then(|| stats.json())?;
                let index = IDS.iter().position(|id| stats["leaderSchedulerId"] == *id && *id != but)?;
                Some((index, stats["leaderEpoch"].as_u64()?))
            })
        })
    }

    fn restart(&mut self, cluster: &Cluster, index: usize) {
        let replica = &self.replicas[index];
        let (grpc, http) = (replica.grpc.clone(), replica.http.clone());
        let listen = ["--grpc-listen", grpc.as_str(), "--http-listen", http.as_str()];
        self.replicas[index] = cluster.another_scheduler(IDS[index], &[&CLOCKS[..], &listen].concat());
    }
}

fn killed() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    let mut pair = Pair::start(&mut cluster);
    cluster.add_executor_at(&pair.grpc(), "executor-1", SIZE, &[]);
    let starts = StartCounter::begin(&cluster.name);
    let history = History::begin(&cluster);
    let body = patient(&["sh", "-c", "exit 5"]);
    let addresses = pair.http().map(str::to_owned);
    let load = Load::begin(&[&addresses[0], &addresses[1]], &body, Duration::from_millis(150));
    let mut epochs = Vec::new();
    for _ in 0..4 {
        load.goes_on(8);
        let (leader, epoch) = pair.leader("");
        epochs.push(epoch);
        pair.replicas[leader].process.kill();
        pair.leader(IDS[leader]);
        pair.restart(&cluster, leader);
    }
    let (ids, repeats) = load.end();
    for id in &ids {
        let job = ended_at(&addresses[0], id, Duration::from_secs(120));
        assert_eq!((&job["exitCode"], &job["attempt"]), (&Value::from(5), &Value::from(1)), "{job}");
    }
    history.end();
    assert!(epochs.is_sorted(), "epochs rise: {epochs:?}");
    let started = starts.jobs();
    for id in &ids {
        assert_eq!(started.iter().filter(|job| *job == id).count(), 1, "{id} was started once");
    }
    format!("{} jobs acknowledged, {repeats} submits repeated: each ended once, with one start", ids.len())
}

fn paused() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    let mut seen = Vec::new();
    let pair = Pair::start(&mut cluster);
    for index in 1..=2 {
        cluster.add_executor_at(
            &pair.grpc(),
            &format!("executor-{index}"),
            SIZE,
            &["--runtime", "simulated"],
        );
    }
    let history = History::begin(&cluster);
    for ttls in [2, 10] {
        let (leader, epoch) = pair.leader("");
        let other = pair.http()[1 - leader].to_owned();
        let load = Load::begin(&[&other], &patient(&["exit", "5"]), Duration::from_millis(20));
        load.goes_on(20);
        pair.replicas[leader].process.signal("STOP");
        let began = Instant::now();
        let new = until("another replica leads", || {
            let stats = http::get(&other, "/stats");
            (stats["leaderSchedulerId"] == IDS[1 - leader]).then(|| stats["leaderEpoch"].as_u64())?
        });
        let took = began.elapsed();
        assert!(new > epoch, "epochs rise");
        until("its TTLs are over", || (began.elapsed() > Duration::from_secs(ttls)).then_some(()));
        pair.replicas[leader].process.signal("CONT");
        load.goes_on(40);
        assert_eq!(
            http::get(&other, "/stats")["leaderEpoch"].as_u64(),
            Some(new),
            "the one that is back follows"
        );
        let (ids, _) = load.end();
        for id in &ids {
            assert_eq!(ended_at(&other, id, Duration::from_secs(60))["exitCode"], 5);
        }
        seen.push(format!("{ttls} TTL: another led after {} ms, {} jobs ended", took.as_millis(), ids.len()));
    }
    let changes = history.end().jobs.len();
    format!("{}; {changes} changes of the log, none by a deposed leader", seen.join("; "))
}

fn judges_nobody() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    let mut pair = Pair::start(&mut cluster);
    for index in 1..=6 {
        cluster.add_executor_at(
            &pair.grpc(),
            &format!("executor-{index}"),
            SIZE,
            &["--runtime", "simulated"],
        );
    }
    let nobody_lost = |pair: &Pair| {
        pair.http().iter().all(|address| {
            (1..=6).all(|n| {
                executor_state(address, &format!("executor-{n}")).is_none_or(|state| state != "LOST")
            })
        })
    };
    for _ in 0..5 {
        let (leader, _) = pair.leader("");
        pair.replicas[leader].process.kill();
        pair.leader(IDS[leader]);
        pair.restart(&cluster, leader);
        stays("no executor is LOST", Duration::from_secs(4), || nobody_lost(&pair));
    }
    stays("no executor is LOST", LOST_AFTER + Duration::from_secs(2), || nobody_lost(&pair));
    let active = (1..=6)
        .filter(|n| executor_state(pair.http()[0], &format!("executor-{n}")).as_deref() == Some("ACTIVE"));
    assert_eq!(active.count(), 6);
    "five leaders killed; no executor LOST then or for lost_after after, all six ACTIVE".to_owned()
}
