//! `berth wait`: waits until jobs have ended.

use std::time::Duration;

use berth_api::v1::{Job, JobState, WaitJobRequest, WaitJobResponse};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::connection::{CallError, Connection, jobs};
use super::outcome::RUN_TIMEOUT;
use super::resolve;
use crate::failure::ERROR;
use crate::output::{self, names};
use crate::values::{self, wire_duration};

/// How long one call waits: shorter than what a proxy between may allow.
const ONE_CALL: Duration = Duration::from_secs(20);

/// Which jobs to wait for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id, unique prefix, name, or "last"
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// How long to wait at most [default: without limit]
    #[arg(long, value_parser = values::duration, value_name = "DURATION")]
    timeout: Option<Duration>,
}

/// Waits, and prints `ID STATE EXITCODE` for each job as it ends, or as it is when the time is up.
///
/// # Errors
/// Fails when there is no such job, and as the calls and the output do.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let mut waits = FuturesUnordered::new();
    for name in &args.jobs {
        let job = resolve::job(connection, name).await?;
        waits.push(until_ended(connection, job.id, deadline));
    }
    let mut exit = 0;
    while let Some(answer) = waits.next().await {
        let WaitJobResponse { job, done } = answer?;
        let job = job.unwrap_or_default();
        output::print_line(&line(&job))?;
        exit = match (done, job.state()) {
            (false, _) => RUN_TIMEOUT,
            (true, JobState::Succeeded) => exit,
            (true, _) => exit.max(ERROR),
        };
    }
    Ok(exit)
}

fn line(job: &Job) -> String {
    let code = job.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
    format!("{} {} {code}", job.id, names::state(job))
}

async fn until_ended(
    connection: &Connection,
    id: String,
    deadline: Option<Instant>,
) -> Result<WaitJobResponse, CallError> {
    loop {
        let left = deadline.map_or(ONE_CALL, |deadline| deadline.saturating_duration_since(Instant::now()));
        let request =
            WaitJobRequest { id: id.clone(), timeout: Some(wire_duration(left.min(ONE_CALL))), after: None };
        let answer = connection
            .call(|channel| {
                let request = request.clone();
                async move { jobs(channel).wait_job(request).await }
            })
            .await?;
        if answer.done || left.is_zero() {
            return Ok(answer);
        }
    }
}
