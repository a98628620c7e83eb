//! `berth logs`: prints the output of a job, stdout to stdout and stderr to stderr.

use std::pin::pin;
use std::time::Duration;

use berth_api::v1::Job;
use tokio::sync::watch;

use super::connection::Connection;
use super::log_copy::{LogCopy, Start, latest_started};
use super::outcome::has_ended;
use super::{resolve, watching};
use crate::failure::Failure;
use crate::output::{self, LogSink, names};

/// How long a log may be out of reach.
const LIMIT: Duration = Duration::from_secs(15);

/// Which output to print.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on until the job has ended
    #[arg(short, long)]
    follow: bool,
    /// Begin this many lines before the end
    #[arg(short = 'n', long, value_parser = clap::value_parser!(i32).range(0..), value_name = "LINES")]
    tail: Option<i32>,
    /// Attempt, counted from 1 [default: the latest]
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..), value_name = "N")]
    attempt: Option<i32>,
    /// Id, unique prefix, name, or "last"
    job: String,
}

/// Prints the output.
///
/// # Errors
/// Fails when there is no such job or it has not started, and as the calls and the output do.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    let job = resolve::job(connection, &args.job).await?;
    let start = args.tail.map_or(Start::Beginning, Start::Tail);
    let first = first_attempt(&args, &job)?;
    let (latest, observed) = watch::channel(job.clone());
    let mut copy = LogCopy::new(connection, LIMIT, observed, LogSink::default());
    if !args.follow || has_ended(&job) {
        copy.attempt(first, start, false).await?;
        return Ok(0);
    }
    let mut watching = pin!(watching::follow(connection, job, |job| {
        latest.send_replace(job.clone());
    }));
    let mut copying = pin!(async move {
        match args.attempt {
            Some(attempt) => copy.attempt(attempt, start, true).await,
            None => copy.follow(first, start).await,
        }
    });
    tokio::select! {
        copied = &mut copying => copied?,
        watched = &mut watching => {
            watched?;
            copying.await?;
        }
    }
    Ok(0)
}

/// Chooses the attempt to begin with, which a follower waits for.
fn first_attempt(args: &Args, job: &Job) -> Result<i32, Failure> {
    let started = latest_started(job);
    match args.attempt {
        Some(attempt) if attempt > started.max(1) => Err(Failure::not_found(format!(
            "job {} has no attempt {attempt}; its latest is {started}",
            job.id
        ))),
        Some(attempt) => Ok(attempt),
        None if has_ended(job) && job.start_time.is_none() => Err(Failure::not_found(format!(
            "{} never started, so it has no output: {}",
            if job.attempt > 1 {
                format!("attempt {} of job {}", job.attempt, job.id)
            } else {
                format!("job {}", job.id)
            },
            output::plain(&job.message)
        ))),
        None if started > 0 => Ok(started),
        None if args.follow && !has_ended(job) => Ok(1),
        None => {
            Err(Failure::not_found(format!("job {} is {} and has no output yet", job.id, names::state(job)))
                .hint(format!("Wait for it: berth logs -f {}", job.id)))
        }
    }
}
