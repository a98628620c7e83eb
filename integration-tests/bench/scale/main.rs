//! How Berth grows: sessions of executors and jobs that wait, what each takes of memory and time, what becomes of submits
//! beyond what fits, and how long another replica takes to lead and to take all sessions over. Containers are left out.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a measurement ends when its ground gives way; figures for people are rounded"
)]

mod meter;
mod options;
mod stage;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use berth_integration_tests::crowd::{Taken, Times};
use serde_json::{Value, json};

use options::Options;
use stage::Stage;

/// How long it may take until another replica has given out a job.
const TAKE_OVER_MS: u64 = 5_000;
/// Jobs that end, one after the other, at each size.
const PROBES: usize = 50;
/// Executors that probes leave alone, for those of the take-over.
const SPARE: usize = 50;
/// Clients of a flood.
const FLOOD: usize = 48;
/// How long heartbeats are looked at: all beat once.
const ROUND: Duration = Duration::from_secs(6);

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let figures = runtime.block_on(grow(&options));
    let is_ok = figures["takeOverMs"].as_u64().is_some_and(|ms| ms <= TAKE_OVER_MS);
    println!(
        "{}",
        json!({
            "recipe": "bench", "bench": "scale", "ok": is_ok, "seed": null, "seconds": began.elapsed().as_secs(),
            "value": figures["takeOverMs"], "limit": TAKE_OVER_MS, "ratio": null, "figures": figures,
            "conditions": {
                "sessions": options.sessions, "pending": options.pending, "fsync": "everysec",
                "cores": std::thread::available_parallelism().map_or(0, usize::from),
                "optimised": !cfg!(debug_assertions),
            },
        })
    );
    if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The sizes on the way to the largest.
fn sizes(largest: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = [1_000, 10_000, 100_000].into_iter().filter(|size| *size < largest).collect();
    sizes.push(largest);
    sizes
}

async fn grow(options: &Options) -> Value {
    let mut stage = Stage::begin();
    let sessions = grow_sessions(&mut stage, options.sessions).await;
    let fill = Instant::now();
    stage.submit(options.sessions).await;
    stage.started(options.sessions).await;
    stage.pending = 0;
    let assigned_per_s = options.sessions as f64 / fill.elapsed().as_secs_f64();
    println!("{} jobs submitted and told to their executors: {assigned_per_s:.0}/s", options.sessions);
    let pending = grow_pending(&mut stage, options).await;
    let shed = overload(&mut stage).await;
    let taken_over = take_over(&mut stage, options.sessions).await;
    let refused = stage.meter.refused.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(refused, 0, "no report is refused");
    json!({
        "sessions": sessions, "assignedPerS": assigned_per_s.round(), "pending": pending, "overload": shed,
        "takeOver": taken_over, "takeOverMs": taken_over["firstStartMs"],
    })
}

async fn grow_sessions(stage: &mut Stage, largest: usize) -> Value {
    let (mut rows, mut before) = (Vec::new(), (0, stage.leader_bytes()));
    for count in sizes(largest) {
        let took = stage.open(count).await;
        stage.meter.beats.take();
        tokio::time::sleep(ROUND).await;
        let (beats, bytes) = (stage.meter.beats.take(), stage.leader_bytes());
        let each = bytes.saturating_sub(before.1) as f64 / (count - before.0) as f64 / 1_024.0;
        println!(
            "{count} sessions: the last {} opened in {:.1} s; {each:.0} KiB each; heartbeats answered in {:.1} ms \
             (99 %: {:.1} ms)",
            count - before.0,
            took.as_secs_f64(),
            beats.p50_ms,
            beats.p99_ms
        );
        rows.push(json!({ "sessions": count, "openedInS": took.as_secs_f64(), "kibEach": each, "heartbeats": beats.json() }));
        before = (count, bytes);
    }
    json!(rows)
}

async fn grow_pending(stage: &mut Stage, options: &Options) -> Value {
    let mut rows = Vec::new();
    let mut before = (0, stage.leader_bytes(), stage.redis_bytes());
    for count in sizes(options.pending) {
        let per_s = stage.submit(count - stage.pending).await;
        // Whoever has given out the last job has seen all that were submitted before.
        let probes = probe(stage, options.sessions).await;
        let (leader, redis) = (stage.leader_bytes(), stage.redis_bytes());
        let more = (count - before.0) as f64;
        let (leader_each, redis_each) =
            (leader.saturating_sub(before.1) as f64 / more, redis.saturating_sub(before.2) as f64 / more);
        before = (count, leader, redis);
        println!(
            "{count} pending: submitted at {per_s:.0}/s; {redis_each:.0} B a job in Redis, {leader_each:.0} B in the \
             leader ({} MiB in all); from an end to the next start {:.1} ms (99 %: {:.1} ms)",
            leader >> 20,
            probes.p50_ms,
            probes.p99_ms
        );
        rows.push(json!({
            "pending": count, "submittedPerS": per_s.round(), "redisBytesEach": redis_each.round(),
            "leaderBytesEach": leader_each.round(), "leaderMiB": leader >> 20, "nextStart": probes.json(),
        }));
    }
    json!(rows)
}

/// Ends jobs one after the other; how long until a waiting one starts in its place.
async fn probe(stage: &mut Stage, sessions: usize) -> Taken {
    let times = Times::default();
    for at in 0..PROBES {
        let started = *stage.meter.started.borrow();
        let began = Instant::now();
        stage.end(at % (sessions - SPARE)).await;
        stage.started(started + 1).await;
        times.note(began.elapsed());
    }
    stage.pending -= PROBES;
    times.take()
}

/// Heartbeats and reports while more is submitted than fits, beside the same without.
async fn overload(stage: &mut Stage) -> Value {
    let quiet = answers(stage).await;
    let began = Instant::now();
    let flood = stage.flood(FLOOD, ROUND);
    let flooded = answers(stage).await;
    let (stored, refused) = flood.join().expect("jobs are submitted");
    stage.pending += stored;
    let stored_per_s = stored as f64 / began.elapsed().as_secs_f64();
    println!(
        "{FLOOD} clients with batches of 1,000: {stored_per_s:.0} jobs/s stored, {refused} calls refused"
    );
    for (what, before, during) in [("heartbeats", quiet.0, flooded.0), ("reports", quiet.1, flooded.1)] {
        println!(
            "  {what} answered in {:.1} ms (99 %: {:.1} ms), before in {:.1} ms (99 %: {:.1} ms)",
            during.p50_ms, during.p99_ms, before.p50_ms, before.p99_ms
        );
    }
    json!({
        "storedPerS": stored_per_s.round(), "refusedCalls": refused,
        "heartbeatsBefore": quiet.0.json(), "heartbeats": flooded.0.json(),
        "reportsBefore": quiet.1.json(), "reports": flooded.1.json(),
    })
}

/// How long heartbeats and reports wait for an answer, for the time of a round of heartbeats.
async fn answers(stage: &mut Stage) -> (Taken, Taken) {
    stage.meter.beats.take();
    stage.meter.reports.take();
    // A pace that does not use up what waits.
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..ROUND.as_secs() {
        seconds.tick().await;
        probe(stage, PROBES + SPARE).await;
    }
    (stage.meter.beats.take(), stage.meter.reports.take())
}

/// Kills the leader: how long until another replica has given a job to somebody, and until all sessions are there again.
async fn take_over(stage: &mut Stage, sessions: usize) -> Value {
    let loaded = stage.add_replica();
    println!("another replica served {:.1} s after its start", loaded.as_secs_f64());
    let (opened, started) = (*stage.meter.opened.borrow(), *stage.meter.started.borrow());
    let began = Instant::now();
    stage.kill_oldest();
    let mut back = stage.meter.opened.subscribe();
    let first_back = async {
        back.wait_for(|count| *count >= opened + SPARE).await.expect("the meter is there");
    };
    tokio::time::timeout(Duration::from_secs(60), first_back).await.expect("executors come back");
    for executor in sessions - SPARE..sessions {
        stage.end(executor).await;
    }
    stage.started(started + 1).await;
    let first_start = began.elapsed();
    let mut back = stage.meter.opened.subscribe();
    let all_back = back.wait_for(|count| *count >= opened + sessions);
    tokio::time::timeout(Duration::from_secs(300), all_back)
        .await
        .expect("all come back")
        .expect("the meter");
    let all = began.elapsed();
    println!(
        "the leader killed: the first start by another {:.1} s later, all {sessions} sessions open {:.1} s later",
        first_start.as_secs_f64(),
        all.as_secs_f64()
    );
    json!({
        "replicaStartMs": u64::try_from(loaded.as_millis()).unwrap_or(0),
        "firstStartMs": u64::try_from(first_start.as_millis()).unwrap_or(0),
        "allSessionsMs": u64::try_from(all.as_millis()).unwrap_or(0),
    })
}
