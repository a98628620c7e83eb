//! How many lives of jobs a second the control plane takes, from submit to SUCCEEDED, beside what Redis alone can take in
//! the same run. Containers are left out: executors are sessions that say at once that a job has run.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement ends when its ground gives way"
)]

mod ledger;
mod options;
mod profile;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_api::v1;
use berth_api::v1::job_service_client::JobServiceClient;
use berth_integration_tests::cluster::Scheduler;
use berth_integration_tests::crowd::{self, Usage, Witness, channel};
use berth_integration_tests::redis::Redis;
use berth_integration_tests::tools;
use serde_json::json;
use tonic::transport::Channel;

use ledger::Ledger;
use options::Options;
use profile::Profile;

/// What a job asks for.
const CPU_MILLIS: i64 = 100;
/// The same, in bytes of memory.
const MEMORY: i64 = 64 << 20;
/// Jobs at a time that an executor has room for.
const SLOTS: i64 = 256;
/// Jobs that are submitted and have not ended, at most.
const OPEN: usize = 20_000;
/// Batches that are submitted at the same time.
const SUBMITTERS: usize = 4;
/// How long ended jobs are kept, so that they are deleted all the while.
const RETENTION: Duration = Duration::from_secs(5);
/// Before anything counts.
const WARM: Duration = Duration::from_secs(15);
/// Redis alone has to take so many lives, or the machine was too busy to tell anything: an idle one takes some 20,000.
const LEAST_LIMIT: f64 = 15_000.0;
/// Changes of a whole life: submitted, assigned, running, succeeded, deleted.
const CHANGES: f64 = 5.0;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let limit = limit(&options);
    println!("Redis alone: {limit:.0} lives/s (fsync {})", options.fsync);
    if limit < LEAST_LIMIT && options.fsync == "everysec" {
        println!(
            "{}",
            json!({ "recipe": "bench", "bench": "lives", "ok": false, "void": true, "seed": null,
                "seconds": began.elapsed().as_secs(), "limit": limit.round(),
                "reason": format!("Redis alone took fewer than {LEAST_LIMIT} lives/s") })
        );
        return ExitCode::from(3);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let measured = runtime.block_on(lives(&options));
    report(&options, began.elapsed(), limit, &measured)
}

fn limit(options: &Options) -> f64 {
    let redis = Redis::start_tuned(&options.fsync);
    let program = std::env::current_exe().expect("it runs").with_file_name("redis-limit");
    let output = Command::new(program)
        .args([redis.address(), options.limit_seconds.to_string()])
        .output()
        .expect("the limit is measured");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// What was measured.
struct Measured {
    lives_per_s: f64,
    changes_per_life: f64,
    submitted: u64,
    lost: usize,
    wrong: u64,
    usage: Vec<Usage>,
}

async fn lives(options: &Options) -> Measured {
    let (name, folder, redis) = (tools::unique("lives"), tools::folder(), Redis::start_tuned(&options.fsync));
    let retention = format!("{}s", RETENTION.as_secs());
    let arguments = ["--queue-timeout", "0", "--retention", &retention];
    let replicas: Vec<Scheduler> = (1..=options.replicas)
        .map(|at| Scheduler::start(&name, &format!("scheduler-{at}"), &redis, folder.path(), &arguments))
        .collect();
    let ledger = Ledger::default();
    let capacity =
        v1::Resources { cpu_millis: SLOTS * CPU_MILLIS, memory_bytes: SLOTS * MEMORY, ..Default::default() };
    let witness: Arc<dyn Witness> = Arc::new(ledger.clone());
    crowd::open(&replicas, options.executors, &capacity, &witness);
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|at| {
            tokio::spawn(submit(channel(&replicas[at % replicas.len()].grpc), options.batch, ledger.clone()))
        })
        .collect();
    tokio::time::sleep(WARM).await;
    let mut usage = Usage::of(&replicas, &redis);
    let looks_at = |folder: &PathBuf| {
        let all = [("scheduler", replicas[0].process.pid()), ("redis", redis.pid())];
        all.map(|(name, pid)| Profile::begin(folder, name, pid, Duration::from_secs(options.seconds)))
    };
    let profiles = options.profile.as_ref().map(looks_at);
    let (from, before, changes) = (Instant::now(), ledger.counts().ended, revision(&redis, &name));
    for _ in 0..options.seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (ended, open) = (ledger.counts().ended, ledger.open());
        eprintln!("{:>4.0} s: {ended} ended, {open} open", from.elapsed().as_secs_f64());
    }
    let (took, after) = (from.elapsed(), ledger.counts().ended);
    let changes = revision(&redis, &name) - changes;
    usage.iter_mut().for_each(|one| one.end(took));
    submitters.iter().for_each(tokio::task::JoinHandle::abort);
    profiles.into_iter().flatten().for_each(Profile::end);
    let patience = Instant::now();
    while ledger.open() > 0 && patience.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    #[allow(clippy::cast_precision_loss, reason = "rates")]
    let (ended, changes) = ((after - before) as f64, changes as f64);
    let counts = ledger.counts();
    Measured {
        lives_per_s: ended / took.as_secs_f64(),
        changes_per_life: changes / ended,
        submitted: counts.submitted,
        lost: ledger.open(),
        wrong: counts.wrong,
        usage,
    }
}

fn revision(redis: &Redis, cluster: &str) -> u64 {
    redis.cli(&["HGET", &format!("{{{cluster}}}:meta"), "revision"]).trim().parse().expect("a revision")
}

/// Submits batches for ever, as long as few enough jobs are open.
async fn submit(channel: Channel, batch: usize, ledger: Ledger) {
    let mut client = JobServiceClient::new(channel);
    let spec = v1::JobSpec {
        image: "registry.example.com/team/simulation:2026.11".to_owned(),
        command: vec![
            "simulate".to_owned(),
            "--input".to_owned(),
            "s3://bucket/path/to/the/input/file".to_owned(),
        ],
        env: (0..6).map(|at| (format!("VARIABLE_{at}"), format!("a value of usual length {at}"))).collect(),
        resources: Some(v1::Resources { cpu_millis: CPU_MILLIS, memory_bytes: MEMORY, ..Default::default() }),
        ..Default::default()
    };
    let one = v1::SubmitJobRequest { spec: Some(spec), ..Default::default() };
    let request = v1::BatchSubmitJobsRequest { requests: vec![one; batch], ..Default::default() };
    loop {
        if ledger.open() + batch > OPEN {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        let answer = client.batch_submit_jobs(request.clone()).await.expect("a batch is stored").into_inner();
        ledger.submitted(answer.results.into_iter().map(|result| match result.outcome {
            Some(v1::batch_submit_jobs_response::result::Outcome::Job(job)) => job.id,
            other => panic!("a job is refused: {other:?}"),
        }));
    }
}

fn report(options: &Options, took: Duration, limit: f64, measured: &Measured) -> ExitCode {
    let built = if cfg!(debug_assertions) { "without" } else { "with" };
    println!(
        "{} s after {} s; {} replicas, {} executors of {SLOTS} slots, batches of {}, at most {OPEN} open; Redis on this \
         machine, fsync {}; plaintext; retention {} s; built {built} optimisation; all on one machine of {} cores",
        options.seconds,
        WARM.as_secs(),
        options.replicas,
        options.executors,
        options.batch,
        options.fsync,
        RETENTION.as_secs(),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    measured.usage.iter().for_each(|usage| println!("{usage}"));
    let ratio = measured.lives_per_s / limit;
    println!(
        "{:.0} lives/s, {ratio:.3} of Redis alone; {:.2} changes a life of {CHANGES}; {} acknowledged, {} lost, {} wrong",
        measured.lives_per_s, measured.changes_per_life, measured.submitted, measured.lost, measured.wrong
    );
    let is_ok = measured.lost == 0 && measured.wrong == 0;
    println!(
        "{}",
        json!({
            "recipe": "bench", "bench": "lives", "ok": is_ok, "seed": null, "seconds": took.as_secs(),
            "value": measured.lives_per_s.round(), "limit": limit.round(), "ratio": (ratio * 1_000.0).round() / 1_000.0,
            "changesPerLife": (measured.changes_per_life * 100.0).round() / 100.0,
            "acknowledged": measured.submitted, "lost": measured.lost, "wrong": measured.wrong,
            "processes": measured.usage.iter().map(Usage::json).collect::<Vec<_>>(),
            "conditions": { "seconds": options.seconds, "replicas": options.replicas, "executors": options.executors,
                "batch": options.batch, "fsync": options.fsync, "retentionS": RETENTION.as_secs(), "openAtMost": OPEN },
        })
    );
    if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
