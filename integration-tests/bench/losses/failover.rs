//! Redis fails over to a replica that lags, or fails in lesser ways.

use std::time::{Duration, Instant};

use berth_integration_tests::cluster::{Cluster, id_of};
use berth_integration_tests::docker::is_running;
use berth_integration_tests::door::Door;
use berth_integration_tests::redis::Redis;
use berth_integration_tests::wait::{stays, until, until_within};
use berth_integration_tests::{docker, http};
use serde_json::{Value, json};

use crate::Row;
use crate::support::{
    CLOCKS, History, LOST_AFTER, Load, SIZE, end_of, ended_at, held, let_go, patient, read, with,
};

/// What happens to Redis.
pub const ROWS: &[Row] = &[
    Row::new(
        "redis-failover-lost-tail",
        "replication stalls, jobs start, end and are submitted, the master dies, the lagging replica is promoted",
        lost_tail,
    ),
    Row::new(
        "redis-killed-under-load",
        "kill -9 of Redis three times while jobs are submitted and run",
        killed,
    ),
    Row::new("redis-cut", "the connections to Redis cut for 5 s, then stalled for 5 s", cut),
    Row::new(
        "redis-read-only",
        "the master made a replica of nobody: every write is READONLY for 4 s",
        read_only,
    ),
    Row::new(
        "redis-loading",
        "kill -9 of Redis, which then answers LOADING for some seconds while it reads what is on disk",
        loading,
    ),
    Row::new("redis-slow", "SIGSTOP of Redis for 3 s while jobs run and are submitted", slow),
    Row::new("redis-full", "maxmemory set to what is used", full),
];

fn on_redis_door(redis: Redis, arguments: &[&str]) -> (Cluster, Door) {
    let door = Door::before(&redis.address());
    let url = format!("redis://{}", door.address());
    let all = [&CLOCKS[..], &["--redis-url", url.as_str()], arguments].concat();
    (Cluster::start_on(redis, &all), door)
}

fn sized(mut job: Value, cpus: f64) -> Value {
    job["cpus"] = json!(cpus);
    job
}

fn generation(redis: &Redis, cluster: &str) -> u64 {
    let meta = redis.cli(&["HGET", &format!("{{{cluster}}}:meta"), "generation"]);
    meta.trim().parse().expect("the store has a generation")
}

fn start_ms(job: &Value) -> u64 {
    let started: jiff::Timestamp = job["startTime"].as_str().expect("it started").parse().expect("a time");
    started.as_millisecond().try_into().expect("after 1970")
}

fn lost_tail() -> String {
    let (mut replica, wire);
    let (mut cluster, door) = {
        let master = Redis::start_with(&["--repl-diskless-sync-delay", "0"]);
        wire = Door::before(&master.address());
        replica = Redis::start();
        let (host, port) = wire.address().split_once(':').expect("host:port");
        replica.cli(&["REPLICAOF", host, port]);
        on_redis_door(master, &[])
    };
    let url = format!("redis://{}", door.address());
    let second = cluster.another_scheduler("scheduler-2", &[&CLOCKS[..], &["--redis-url", &url]].concat());
    let both = format!("{},{}", cluster.scheduler.grpc, second.grpc);
    cluster.add_executor_at(&both, "executor-1", SIZE, &[]);
    let (old, _) = cluster.running(&held("HOLD"));
    let (gate, gate_box) = cluster.running(&sized(held("RETRY"), 3.2));
    let late = id_of(&cluster.submit(&sized(held("HOLD"), 3.0)));
    let waiting: Vec<String> = ["HOLD", "FAIL"]
        .iter()
        .map(|kind| id_of(&cluster.submit(&sized(with(patient(&["sh", "-c", "exit 4"]), kind), 1.0))))
        .collect();
    let meta = format!("{{{}}}:meta", cluster.name);
    until("the replica has all of it", || {
        let head = |redis: &Redis| redis.cli(&["HGET", &meta, "revision"]);
        (!head(&replica).trim().is_empty() && head(&replica) == head(&cluster.redis)).then_some(())
    });

    // From here on all is in the tail.
    wire.hold(true, true);
    let before = generation(&cluster.redis, &cluster.name);
    let (tail, tail_box) = cluster.running(&held("RETRY"));
    let_go(&gate_box);
    assert_eq!(cluster.ended(&gate)["exitCode"], 7);
    let first = cluster.reaches(&late, &["RUNNING"]);
    let late_box = docker::containers_of(&late).pop().expect("it runs");
    cluster.redis.kill();
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    door.point_at(&replica.address());
    std::mem::swap(&mut cluster.redis, &mut replica);

    let address = cluster.scheduler.http.clone();
    let recovered = until("the running attempt that was lost is adopted", || {
        let is_new = generation(&cluster.redis, &cluster.name) > before;
        read(&address, &late).filter(|job| is_new && job["state"] == "RUNNING")
    });
    let after = generation(&cluster.redis, &cluster.name);
    // The store had the time at which the report of the start came; its executor has the start itself.
    let attempt = |job: &Value| (job["attempt"].clone(), job["attemptEpoch"].clone());
    assert_eq!(attempt(&recovered), attempt(&first));
    assert!(start_ms(&recovered).abs_diff(start_ms(&first)) < 1_000, "the same start: {first} {recovered}");
    assert!(is_running(&late_box), "it ran on");
    let told = ended_at(&address, &gate, Duration::from_secs(20));
    assert_eq!(end_of(&told), ("FAILED".into(), 7, 1), "the end that was lost is told again");
    until_within(Duration::from_secs(20), "the container of the job that is gone is stopped", || {
        (!is_running(&tail_box)).then_some(())
    });
    assert_eq!(read(&address, &tail), Some(Value::Null), "the job of the tail is unknown now");

    // Room for those that wait.
    let_go(&late_box);
    assert_eq!(end_of(&ended_at(&address, &late, Duration::from_secs(20))), ("FAILED".into(), 7, 1));
    let waited_ms = started_after(&address, after, &waiting);
    let old_box = docker::containers_of(&old).pop().expect("it still runs");
    let_go(&old_box);
    assert_eq!(end_of(&ended_at(&address, &old, Duration::from_secs(20))), ("FAILED".into(), 7, 1));
    for id in waiting.iter().chain([&old, &gate, &late]) {
        assert_eq!(docker::containers_of(id).len(), 1, "one start each");
    }
    format!(
        "generation {before} -> {after}; running attempt adopted, end told again, one start each; hold and fail \
         started {waited_ms:?} ms after the fail-over; lostTail 1, its container stopped"
    )
}

/// Holds that after a fail-over only jobs that may run twice start at once; gives how many milliseconds
/// after it each of the others did.
fn started_after(address: &str, failed_over_ms: u64, others: &[String]) -> Vec<u64> {
    let fresh = id_of(&http::post(address, "/jobs", &patient(&["sh", "-c", "exit 3"])));
    let fresh = ended_at(address, &fresh, Duration::from_secs(10));
    let quarantine_ms = u64::try_from(LOST_AFTER.as_millis()).expect("small");
    assert!(start_ms(&fresh) < failed_over_ms + quarantine_ms, "a retry job starts at once");
    let mut waited_ms = Vec::new();
    for id in others {
        let job = ended_at(address, id, Duration::from_secs(40));
        assert_eq!(end_of(&job), ("FAILED".into(), 4, 1));
        waited_ms.push(start_ms(&job).saturating_sub(failed_over_ms));
    }
    assert!(waited_ms.iter().all(|ms| *ms >= quarantine_ms), "started {waited_ms:?} ms after the fail-over");
    waited_ms
}

fn killed() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    let second = cluster.another_scheduler("scheduler-2", &CLOCKS);
    let both = format!("{},{}", cluster.scheduler.grpc, second.grpc);
    cluster.add_executor_at(&both, "executor-1", SIZE, &["--runtime", "simulated"]);
    let history = History::begin(&cluster);
    let addresses = [cluster.scheduler.http.clone(), second.http.clone()];
    let body = patient(&["exit", "5"]);
    let load = Load::begin(&[&addresses[0], &addresses[1]], &body, Duration::from_millis(30));
    for _ in 0..3 {
        load.goes_on(20);
        cluster.redis.kill();
        cluster.redis.up();
    }
    load.goes_on(20);
    let (ids, repeats) = load.end();
    for id in &ids {
        assert_eq!(ended_at(&addresses[0], id, Duration::from_secs(60))["exitCode"], 5);
    }
    let resyncs = history.end().resyncs;
    format!(
        "{} jobs acknowledged, {repeats} submits repeated, {resyncs} new generations: all ended once",
        ids.len()
    )
}

/// Submits through a fault: every answer meanwhile must be one that says to come again.
fn refused(address: &str) -> Option<(u16, bool)> {
    let body = patient(&["true"]).to_string();
    let answer = http::request_if_served(address, "POST", "/jobs", &[], body.as_bytes())?;
    Some((answer.status, answer.head.to_ascii_lowercase().contains("retry-after:")))
}

fn cut() -> String {
    let (mut cluster, door) = on_redis_door(Redis::start(), &[]);
    cluster.add_executor("executor-1", SIZE, &[]);
    let (held_id, container) = cluster.running(&held("RETRY"));
    let mut answers = Vec::new();
    for stalled in [false, true] {
        if stalled {
            door.hold(true, true)
        } else {
            door.cut()
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            let answer = refused(&cluster.scheduler.http).expect("the replica answers");
            assert_eq!(answer, (503, true), "503 with Retry-After");
            answers.push(began.elapsed());
        }
        door.open();
        let job = until("submits are taken again", || {
            let body = patient(&["sh", "-c", "exit 5"]);
            http::post_if_served(&cluster.scheduler.http, "/jobs", &body)
                .filter(|answer| answer.status == 200)
        });
        assert_eq!(cluster.ended(&id_of(&job.json()))["exitCode"], 5);
    }
    assert!(is_running(&container), "the job ran on");
    let_go(&container);
    assert_eq!(end_of(&cluster.ended(&held_id)), ("FAILED".into(), 7, 1));
    format!(
        "{} submits answered 503 with Retry-After; taken again at once; the running job ended with 7",
        answers.len()
    )
}

fn read_only() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", SIZE, &[]);
    let (id, container) = cluster.running(&held("RETRY"));
    cluster.redis.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let began = Instant::now();
    let mut answers = 0;
    while began.elapsed() < Duration::from_secs(4) {
        assert_eq!(refused(&cluster.scheduler.http), Some((503, true)), "503 with Retry-After");
        answers += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    let_go(&container);
    cluster.redis.cli(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(end_of(&cluster.ended(&id)), ("FAILED".into(), 7, 1));
    let next = id_of(&cluster.submit(&patient(&["sh", "-c", "exit 5"])));
    assert_eq!(cluster.ended(&next)["exitCode"], 5);
    format!(
        "{answers} submits answered 503 with Retry-After; the job that ended meanwhile was told with its 7"
    )
}

fn loading() -> String {
    let options = ["--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024"];
    let redis = Redis::start_with(&[&options[..], &["--enable-debug-command", "yes"]].concat());
    let mut cluster = Cluster::start_on(redis, &CLOCKS);
    cluster.add_executor("executor-1", SIZE, &[]);
    let (id, container) = cluster.running(&held("HOLD"));
    let kept = id_of(&cluster.submit(&sized(patient(&["sh", "-c", "exit 5"]), 4.0)));
    // What takes long to load; a file of the usual kind is made of it.
    cluster.redis.cli(&["DEBUG", "POPULATE", "20000", "junk", "10"]);
    cluster.redis.cli(&["BGREWRITEAOF"]);
    until("it is on disk", || {
        let info = cluster.redis.cli(&["INFO", "persistence"]);
        let is_over = info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0");
        is_over.then_some(())
    });
    cluster.redis.kill();
    cluster.redis.begin_up();
    let is_loading = |cluster: &Cluster| cluster.redis.cli(&["GET", "junk:1"]).starts_with("LOADING");
    until("it loads", || is_loading(&cluster).then_some(()));
    let began = Instant::now();
    let_go(&container);
    let (mut answers, mut last) = (0, Duration::ZERO);
    while is_loading(&cluster) {
        last = began.elapsed();
        let Some((status, waits)) = refused(&cluster.scheduler.http) else { continue };
        // An answer may be of the moment after.
        assert!((status, waits) == (503, true) || !is_loading(&cluster), "503 with Retry-After: {status}");
        answers += 1;
    }
    assert!(answers > 0, "it loaded for {last:?}");
    assert_eq!(end_of(&cluster.ended(&id)), ("FAILED".into(), 7, 1));
    assert_eq!(cluster.ended(&kept)["exitCode"], 5, "what was acknowledged is not lost");
    format!(
        "LOADING for {} ms, {answers} submits answered 503 with Retry-After; the job that ended meanwhile was told \
         with its 7, and what was acknowledged ran",
        last.as_millis()
    )
}

fn slow() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", SIZE, &[]);
    let (id, container) = cluster.running(&held("RETRY"));
    cluster.redis.signal("STOP");
    let began = Instant::now();
    let address = cluster.scheduler.http.clone();
    let asked = std::thread::spawn(move || (refused(&address), began.elapsed()));
    let_go(&container);
    until("3 s are over", || (began.elapsed() > Duration::from_secs(3)).then_some(()));
    cluster.redis.signal("CONT");
    // Longer than a command may take, the submit's outcome is told as unknown; it may also have been taken.
    let (answer, waited) = asked.join().expect("the client ends");
    let answer = answer.expect("the replica answers");
    assert!(answer == (503, true) || answer.0 == 200, "{answer:?}");
    assert_eq!(end_of(&cluster.ended(&id)), ("FAILED".into(), 7, 1));
    let next = id_of(&cluster.submit(&patient(&["sh", "-c", "exit 5"])));
    assert_eq!(cluster.ended(&next)["exitCode"], 5);
    let state = cluster.executor("executor-1")["state"].clone();
    assert_eq!(state, "ACTIVE");
    format!(
        "a submit answered {} after {} ms; the job that ended meanwhile was told with its 7",
        answer.0,
        waited.as_millis()
    )
}

fn full() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    cluster.add_executor("executor-1", SIZE, &[]);
    let (id, container) = cluster.running(&held("RETRY"));
    let pending = id_of(&cluster.submit(&sized(patient(&["sh", "-c", "exit 5"]), 4.0)));
    let info = cluster.redis.cli(&["INFO", "memory"]);
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("redis tells");
    cluster.redis.cli(&["CONFIG", "SET", "maxmemory", used.trim()]);
    let shed =
        until("submits are shed", || refused(&cluster.scheduler.http).filter(|(status, _)| *status != 200));
    assert!(shed.1 && [429, 503].contains(&shed.0), "told when to come again: {shed:?}");
    let_go(&container);
    assert_eq!(end_of(&cluster.ended(&id)), ("FAILED".into(), 7, 1), "while it is full");
    assert_eq!(cluster.ended(&pending)["exitCode"], 5, "what was taken before is run while it is full");
    stays("submits are shed", Duration::from_secs(1), || {
        refused(&cluster.scheduler.http).is_some_and(|(status, _)| status == shed.0)
    });
    cluster.redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    let next = until("submits are taken again", || {
        let body = patient(&["sh", "-c", "exit 6"]);
        http::post_if_served(&cluster.scheduler.http, "/jobs", &body).filter(|answer| answer.status == 200)
    });
    assert_eq!(cluster.ended(&id_of(&next.json()))["exitCode"], 6);
    format!(
        "submits answered {} with Retry-After; a running and a pending job ended meanwhile; taken again after",
        shed.0
    )
}
