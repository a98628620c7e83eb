//! How long the control plane takes for a job, containers left out: from its submit to the executor that is told of it, and
//! to its end stored. First one job at a time, then at steady rates that wait for nobody (an open loop): there a time counts
//! from when the submit was due, so that whoever had to wait behind others is not overlooked.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement ends when its ground gives way"
)]

mod options;
mod seen;

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_api::v1;
use berth_api::v1::job_service_client::JobServiceClient;
use berth_integration_tests::cluster::Scheduler;
use berth_integration_tests::crowd::{self, Taken, Times, Witness, channel};
use berth_integration_tests::redis::Redis;
use berth_integration_tests::tools;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use options::Options;
use seen::Seen;

/// What a job asks for, and for how many an executor has room.
const CPU_MILLIS: i64 = 100;
const MEMORY: i64 = 64 << 20;
const SLOTS: i64 = 64;
/// Jobs that count for nothing, before all others.
const WARM: usize = 200;
/// How long jobs are kept after their ends.
const RETENTION: &str = "5s";
/// Until all jobs of a rate must have ended.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let (limit_p50, limit_p99) = limit(&options);
    let built = if cfg!(debug_assertions) { "without" } else { "with" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{} replicas, {} executors; Redis on this machine, fsync {}; plaintext; built {built} optimisation; all on one \
         machine of {cores} cores",
        options.replicas, options.executors, options.fsync
    );
    println!("{:24} {:>9} {:>9} {:>9}", "ms", "median", "99 %", "longest");
    println!("{:24} {limit_p50:>9.2} {limit_p99:>9.2}", "Redis alone, two commits");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (alone, rates) = runtime.block_on(measure(&options));
    println!(
        "{}",
        json!({
            "recipe": "bench", "bench": "control", "ok": true, "seed": null, "seconds": began.elapsed().as_secs(),
            "value": alone.to_stream.p50_ms, "limit": limit_p50, "ratio": alone.to_stream.p50_ms / limit_p50,
            "limitP99Ms": limit_p99, "oneAtATime": alone.json(), "rates": rates,
            "conditions": { "runs": options.runs, "secondsARate": options.seconds, "executors": options.executors,
                "replicas": options.replicas, "fsync": options.fsync, "cores": cores },
        })
    );
    ExitCode::SUCCESS
}

/// What Redis alone takes to store a submit and an assignment one after the other: median and 99th percentile, in ms.
fn limit(options: &Options) -> (f64, f64) {
    let redis = Redis::start_tuned(&options.fsync);
    let program = std::env::current_exe().expect("it runs").with_file_name("redis-limit");
    let runs = options.runs.to_string();
    let output =
        Command::new(program).arg(redis.address()).args(["--latency", &runs]).output().expect("the limit");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut figures = text.split_whitespace().map(|figure| figure.parse::<f64>().expect("a figure"));
    let mut next = || figures.next().expect("two figures");
    (next(), next())
}

/// Of some jobs how long each part took.
struct Part {
    acknowledged: Taken,
    to_stream: Taken,
    to_end: Taken,
}

impl Part {
    fn take(acknowledged: &Times, seen: &Seen) -> Self {
        let (to_stream, to_end) = seen.times();
        Self { acknowledged: acknowledged.take(), to_stream: to_stream.take(), to_end: to_end.take() }
    }

    fn print(&self, title: &str) {
        println!("{title}: {} jobs", self.to_end.count);
        for (name, taken) in [
            ("acknowledged", self.acknowledged),
            ("on the executor's stream", self.to_stream),
            ("end stored", self.to_end),
        ] {
            println!("{name:24} {:>9.2} {:>9.2} {:>9.2}", taken.p50_ms, taken.p99_ms, taken.most_ms);
        }
    }

    fn json(&self) -> Value {
        json!({ "acknowledged": self.acknowledged.json(), "toStream": self.to_stream.json(), "toEnd": self.to_end.json() })
    }
}

async fn measure(options: &Options) -> (Part, Vec<Value>) {
    let (name, folder, redis) =
        (tools::unique("control"), tools::folder(), Redis::start_tuned(&options.fsync));
    let arguments = ["--queue-timeout", "0", "--retention", RETENTION];
    let replicas: Vec<Scheduler> = (1..=options.replicas)
        .map(|at| Scheduler::start(&name, &format!("scheduler-{at}"), &redis, folder.path(), &arguments))
        .collect();
    let seen = Seen::default();
    let capacity =
        v1::Resources { cpu_millis: SLOTS * CPU_MILLIS, memory_bytes: SLOTS * MEMORY, ..Default::default() };
    let witness: Arc<dyn Witness> = Arc::new(seen.clone());
    crowd::open(&replicas, options.executors, &capacity, &witness);
    let client = JobServiceClient::new(channel(&replicas[0].grpc));
    one_at_a_time(&client, &seen, WARM).await;
    let alone = one_at_a_time(&client, &seen, options.runs).await;
    alone.print("one at a time");
    let mut rates = Vec::new();
    for rate in &options.rates {
        let part = at_a_rate(&client, &seen, *rate, options.seconds).await;
        part.print(&format!("{rate} submits a second"));
        rates.push(json!({ "rate": rate, "times": part.json() }));
    }
    (alone, rates)
}

async fn one_at_a_time(client: &JobServiceClient<Channel>, seen: &Seen, runs: usize) -> Part {
    let acknowledged = Times::default();
    for _ in 0..runs {
        let count = seen.count();
        submit(client.clone(), seen, Instant::now(), &acknowledged).await;
        seen.ended(count + 1).await;
    }
    Part::take(&acknowledged, seen)
}

async fn at_a_rate(client: &JobServiceClient<Channel>, seen: &Seen, rate: u32, seconds: u32) -> Part {
    let acknowledged = Arc::new(Times::default());
    let (began, before) = (tokio::time::Instant::now(), seen.count());
    let mut submits = JoinSet::new();
    for number in 0..rate * seconds {
        let due = began + Duration::from_secs(1) * number / rate;
        tokio::time::sleep_until(due).await;
        let (client, seen, acknowledged) = (client.clone(), seen.clone(), acknowledged.clone());
        submits.spawn(async move { submit(client, &seen, due.into_std(), &acknowledged).await });
        while submits.try_join_next().is_some() {}
    }
    submits.join_all().await;
    let all = seen.ended(before + (rate * seconds) as usize);
    tokio::time::timeout(PATIENCE, all).await.expect("every job ends");
    Part::take(&acknowledged, seen)
}

async fn submit(mut client: JobServiceClient<Channel>, seen: &Seen, due: Instant, acknowledged: &Times) {
    let spec = v1::JobSpec {
        image: "registry.example.com/team/simulation:2026.11".to_owned(),
        command: vec!["simulate".to_owned(), "--input".to_owned(), "s3://bucket/path".to_owned()],
        resources: Some(v1::Resources { cpu_millis: CPU_MILLIS, memory_bytes: MEMORY, ..Default::default() }),
        ..Default::default()
    };
    let request = v1::SubmitJobRequest { spec: Some(spec), ..Default::default() };
    let job = client.submit_job(request).await.expect("it is stored").into_inner();
    acknowledged.note(due.elapsed());
    seen.submitted(job.job.expect("a job").id, due);
}
