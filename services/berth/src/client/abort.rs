//! `berth abort`: ends jobs.

use std::time::Duration;

use berth_api::v1::{AbortJobRequest, AbortJobResponse};
use futures::future::join_all;

use super::connection::{CallError, Connection, jobs};
use super::outcome::has_ended;
use super::resolve;
use crate::failure;
use crate::output::{self, names};
use crate::values::{self, wire_duration};

/// Which jobs to end.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id, unique prefix, name, or "last"
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// Why, for people
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Time from SIGTERM to SIGKILL; 0 kills at once [default: as the job says]
    #[arg(long, value_parser = values::duration, value_name = "DURATION")]
    grace: Option<Duration>,
}

/// What `timeout` exits with, too.
const STILL_STOPPING: u8 = 124;

/// Ends the jobs, all at once, and prints `ID STATE` for each. One that cannot be ended does not spare the others.
/// One that has not stopped when the call's time is over is told by the exit code.
///
/// # Errors
/// Fails when there is no such job, before any is ended, and as the output does.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    let mut ids = Vec::new();
    for name in &args.jobs {
        let found = resolve::job(connection, name).await;
        if found.is_err() && args.jobs.len() > 1 {
            output::note("berth: none of these jobs was aborted.");
        }
        ids.push(found?.id);
    }
    let answers = join_all(ids.iter().map(|id| abort(connection, id, &args))).await;
    let mut exit = 0;
    for answer in answers {
        match answer {
            Ok(answer) => {
                let job = answer.job.unwrap_or_default();
                output::print_line(&format!("{} {}", job.id, names::state(&job)))?;
                if !has_ended(&job) {
                    exit = exit.max(STILL_STOPPING);
                    output::note(format!(
                        "berth: {} is still being stopped. Wait: berth wait {}",
                        job.id, job.id
                    ));
                }
            }
            Err(error) => exit = exit.max(failure::report(&error.into())),
        }
    }
    Ok(exit)
}

async fn abort(connection: &Connection, id: &str, args: &Args) -> Result<AbortJobResponse, CallError> {
    let request = AbortJobRequest {
        id: id.to_owned(),
        reason: args.reason.clone(),
        grace_period: args.grace.map(wire_duration),
    };
    connection
        .call(|channel| {
            let request = request.clone();
            async move { jobs(channel).abort_job(request).await }
        })
        .await
}
