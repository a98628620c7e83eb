//! `berth drain`, `resume` and `fence`: what operators do to executors.

use std::time::Duration;

use berth_api::v1::{
    DrainExecutorRequest, Executor, ExecutorState, FenceExecutorRequest, ResumeExecutorRequest,
};

use super::connection::{Connection, cluster};
use super::listing::all_executors;
use crate::failure::Failure;
use crate::output::age::instant;
use crate::output::{self, names};
use crate::values::{self, wire_duration};

/// Time between two looks at a draining executor.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which executor to take out of service.
#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    /// How long its jobs may go on; what still runs then is stopped and put back [default: without limit, or as
    /// said before; 0s: without limit]
    #[arg(long, value_parser = values::duration, value_name = "DURATION")]
    deadline: Option<Duration>,
    /// Why, for people
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Do not wait until its jobs have ended
    #[arg(short, long)]
    detach: bool,
    /// The executor's name
    executor: String,
}

/// Which executor to put back into service.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// The executor's name
    executor: String,
}

/// Which executor is dead.
#[derive(Debug, clap::Args)]
pub struct FenceArgs {
    /// How it is known, for the log
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// The executor's name
    executor: String,
}

/// Drains an executor, and shows how many jobs are left until none is.
///
/// # Errors
/// Fails when there is no such executor, when it is lost meanwhile, and as the calls and the output do.
pub async fn drain(connection: &Connection, args: DrainArgs) -> anyhow::Result<u8> {
    let request = DrainExecutorRequest {
        id: args.executor.clone(),
        deadline: args.deadline.map(wire_duration),
        reason: args.reason,
    };
    let answer = connection
        .call(|channel| {
            let request = request.clone();
            async move { cluster(channel).drain_executor(request).await }
        })
        .await?;
    let mut executor = answer.executor.unwrap_or_default();
    let mut told = None;
    while !args.detach && executor.state() != ExecutorState::Drained {
        if told != Some(executor.running_job_count) {
            told = Some(executor.running_job_count);
            output::note(format!("berth: {} takes no new jobs; {}", executor.id, left(&executor)));
        }
        if executor.state() == ExecutorState::Lost {
            output::note(format!("berth: {} is lost: it is drained once it is back", executor.id));
            if executor.running_job_count == 0 {
                break;
            }
            let said = format!("executor {} is lost, and {}", executor.id, left(&executor));
            let hint = Some("they wait for it, or for: berth fence".to_owned());
            return Err(Failure { exit: crate::failure::ERROR, message: said, hint }.into());
        }
        if executor.state() == ExecutorState::Active {
            let said = format!("executor {} was resumed before it was drained", executor.id);
            return Err(Failure { exit: crate::failure::ERROR, message: said, hint: None }.into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let all = all_executors(connection).await?;
        let found = all.into_iter().find(|known| known.id == executor.id);
        executor = found
            .ok_or_else(|| Failure::not_found(format!("executor \"{}\" does not exist", args.executor)))?;
    }
    show(&executor)?;
    Ok(0)
}

fn left(executor: &Executor) -> String {
    let jobs = match executor.running_job_count {
        1 => "1 job is left".to_owned(),
        count => format!("{count} jobs are left"),
    };
    match instant(executor.drain_deadline.as_ref()) {
        Some(deadline) => {
            format!("{jobs}; what still runs at {} is put back", deadline.strftime("%H:%M:%S UTC"))
        }
        None => jobs,
    }
}

/// Lets an executor take jobs again.
///
/// # Errors
/// Fails when there is no such executor, when it is lost, and as the call and the output do.
pub async fn resume(connection: &Connection, args: ResumeArgs) -> anyhow::Result<u8> {
    let request = ResumeExecutorRequest { id: args.executor };
    let answer = connection
        .call(|channel| {
            let request = request.clone();
            async move { cluster(channel).resume_executor(request).await }
        })
        .await?;
    show(&answer.executor.unwrap_or_default())?;
    Ok(0)
}

/// Declares an executor dead.
///
/// # Errors
/// Fails when there is no such executor, and as the call and the output do.
pub async fn fence(connection: &Connection, args: FenceArgs) -> anyhow::Result<u8> {
    let request = FenceExecutorRequest { id: args.executor, reason: args.reason };
    let answer = connection
        .call(|channel| {
            let request = request.clone();
            async move { cluster(channel).fence_executor(request).await }
        })
        .await?;
    show(&answer.executor.unwrap_or_default())?;
    Ok(0)
}

fn show(executor: &Executor) -> anyhow::Result<()> {
    output::print_line(&format!("{} {}", executor.id, names::executor_state(executor)))
}
