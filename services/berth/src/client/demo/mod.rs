//! `berth demo`: submits a mixed batch of jobs to a cluster, shows what becomes of them as it happens,
//! and compares how each ended with how it was expected to end.

mod batch;
mod gpus;
mod report;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use berth_api::v1::log_entry::Stream;
use berth_api::v1::{
    AbortJobRequest, Job, JobState, StreamJobLogsRequest, StreamJobLogsResponse, SubmitJobRequest,
};
use futures::future::try_join_all;
use tokio::time::Instant;
use tonic::Streaming;

use self::batch::{Demo, batch};
use self::report::{Shown, table_of, to_json};
use super::connection::{CallError, Connection, jobs};
use super::job_flags::new_request_id;
use super::listing::all_executors;
use super::log_copy::{PAUSE, latest_started, may_appear};
use super::progress::Progress;
use super::{outcome, watching};
use crate::failure::ERROR;
use crate::output;

/// What to run the demo with.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Image of the jobs; it must have the commands of berth-job:local, which ./run images makes
    #[arg(long, default_value = "berth-job:local", value_name = "IMAGE")]
    image: String,
    /// Also write how each job ended to this file, as a JSON array
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Runs the batch. 0: every job ended as expected; 1: some did not.
///
/// # Errors
/// Fails when the cluster cannot be reached or refuses a job, and as the output does.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    let demos = batch(&args.image);
    let executors = all_executors(connection).await?;
    let demos: Vec<_> = demos.into_iter().map(|demo| (gpus::lacking(&demo.spec, &executors), demo)).collect();
    let submitted = demos.iter().filter(|(lacking, _)| lacking.is_none()).count();
    output::note(format!("Submitting {submitted} jobs, each small enough to run beside the others."));
    let started = Instant::now();
    let shown = try_join_all(demos.into_iter().map(|(lacking, demo)| async move {
        match lacking {
            None => run(connection, demo, started).await,
            Some(why) => {
                say(started, &demo, &format!("not run: {why}"));
                Ok(Shown::not_run(demo, why))
            }
        }
    }))
    .await?;
    let all_right = shown.iter().all(Shown::is_as_expected);
    output::print(&format!("\n{}", table_of(&shown)))?;
    output::print_line(if all_right {
        "\nEvery job ended as expected."
    } else {
        "\nNOT every job ended as expected."
    })?;
    if let Some(path) = args.report {
        std::fs::write(&path, to_json(&shown).to_string() + "\n")
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(if all_right { 0 } else { ERROR })
}

/// So often at most is a job run whose end the engine may not have understood.
const MOST_RUNS: usize = 3;

/// Tells what became of a job, and when.
fn say(started: Instant, demo: &Demo, line: &str) {
    let seconds = started.elapsed().as_secs_f64();
    output::note(format!("{seconds:>6.1} s  {:<14} {}", demo.name, output::plain(line)));
}

/// Runs one job; once more where the engine did not say that it ran out of memory.
async fn run(connection: &Connection, demo: Demo, started: Instant) -> anyhow::Result<Shown> {
    let mut shown = run_once(connection, demo, started).await?;
    for _ in 1..MOST_RUNS {
        if !shown.is_untold_out_of_memory() {
            break;
        }
        say(started, &shown.demo, "the engine did not say that it ran out of memory; once more");
        shown = run_once(connection, shown.demo, started).await?;
    }
    Ok(shown)
}

/// Submits one job, follows it to its end and reads what it wrote.
async fn run_once(connection: &Connection, demo: Demo, started: Instant) -> anyhow::Result<Shown> {
    let job = submit(connection, &demo).await?;
    let id = job.id.clone();
    let mut progress = Progress::default();
    let runs = tokio::sync::Notify::new();
    let seen = AtomicBool::new(false);
    let say = |line: &str| say(started, &demo, line);
    let following = watching::follow(connection, job, |job| {
        if let Some(line) = progress.line(job) {
            say(&line);
        }
        if job.state() == JobState::Running && !seen.swap(true, Ordering::Relaxed) {
            runs.notify_one();
        }
    });
    let aborting = async {
        if demo.abort_when_it_writes {
            runs.notified().await;
            // A container in its first instant does not hear SIGTERM yet; one that has written does.
            wait_for_output(connection, &id).await?;
            say("aborting");
            abort(connection, &id).await?;
        }
        std::future::pending::<Result<(), CallError>>().await
    };
    let ended = tokio::select! {
        ended = following => ended?,
        Err(error) = aborting => return Err(error.into()),
    };
    say(&outcome::sentence(&ended).unwrap_or_else(|| "succeeded".to_owned()));
    let (stdout, stderr) =
        if latest_started(&ended) > 0 { read_output(connection, &ended).await? } else { Default::default() };
    Ok(Shown { demo, job: ended, stdout, stderr })
}

async fn submit(connection: &Connection, demo: &Demo) -> anyhow::Result<Job> {
    let request = SubmitJobRequest {
        spec: Some(demo.spec.clone()),
        display_name: demo.name.to_owned(),
        request_id: new_request_id(),
        ..SubmitJobRequest::default()
    };
    let answer = connection
        .call(|channel| {
            let request = request.clone();
            async move { jobs(channel).submit_job(request).await }
        })
        .await?;
    answer.job.context("the scheduler stored a job and did not say which")
}

async fn abort(connection: &Connection, id: &str) -> Result<(), CallError> {
    let request =
        AbortJobRequest { id: id.to_owned(), reason: "the demo shows it".to_owned(), grace_period: None };
    connection
        .call(|channel| {
            let request = request.clone();
            async move { jobs(channel).abort_job(request).await }
        })
        .await?;
    Ok(())
}

/// Waits until a running job has written something, or its output ends.
async fn wait_for_output(connection: &Connection, id: &str) -> Result<(), CallError> {
    let request = StreamJobLogsRequest { id: id.to_owned(), follow: true, ..StreamJobLogsRequest::default() };
    let mut stream = loop {
        match open_output(connection, request.clone()).await {
            Err(error) if may_appear(&error) => tokio::time::sleep(PAUSE).await,
            opened => break opened?,
        }
    };
    while let Some(response) = stream.message().await.map_err(CallError::Answered)? {
        if response.entries.iter().any(|entry| !entry.data.is_empty()) {
            break;
        }
    }
    Ok(())
}

async fn open_output(
    connection: &Connection,
    request: StreamJobLogsRequest,
) -> Result<Streaming<StreamJobLogsResponse>, CallError> {
    connection
        .call(|channel| {
            let request = request.clone();
            async move { jobs(channel).stream_job_logs(request).await }
        })
        .await
}

/// Reads what an ended job wrote, told apart by stream.
async fn read_output(connection: &Connection, job: &Job) -> anyhow::Result<(String, String)> {
    let request = StreamJobLogsRequest { id: job.id.clone(), ..StreamJobLogsRequest::default() };
    let mut stream = open_output(connection, request).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(response) = stream.message().await.context("the output cannot be read")? {
        for entry in response.entries {
            match entry.stream() {
                Stream::Stdout => stdout.extend_from_slice(&entry.data),
                Stream::Stderr => stderr.extend_from_slice(&entry.data),
                Stream::System | Stream::Unspecified => {}
            }
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((text(stdout), text(stderr)))
}
