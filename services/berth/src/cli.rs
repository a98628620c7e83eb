//! The command line: every subcommand, and which function carries it out.

use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::client::addresses::Addresses;
use crate::client::connection::Connection;
use crate::client::{
    abort, demo, executors, explain, get, health, logs, operate, ps, run, status, submit, version, wait,
};
use crate::{daemon, doctor, logging, output, values};

/// Runs container jobs on a fleet of machines.
#[derive(Debug, Parser)]
#[command(name = "berth", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "JOB is an id, a unique prefix of one (4 characters or more), a name (the newest job of \
                        that name), or \"last\"."
)]
pub struct Cli {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    command: Command,
}

/// How a client command reaches the cluster.
#[derive(Debug, clap::Args)]
struct ClusterArgs {
    /// gRPC addresses of schedulers; any of them will do
    #[arg(
        long,
        global = true,
        env = "BERTH_ADDR",
        default_value = Addresses::DEFAULT,
        value_name = "HOST:PORT,..",
        help_heading = "Cluster"
    )]
    addr: Addresses,
    /// How long an unreachable cluster is tried
    #[arg(
        long,
        global = true,
        env = "BERTH_RETRY_FOR",
        default_value = "15s",
        value_parser = values::duration,
        value_name = "DURATION",
        hide_env = true,
        help_heading = "Cluster"
    )]
    retry_for: Duration,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a job, show its output and exit with its exit code
    Run(Box<run::Args>),
    /// Submit jobs from a file
    Submit(submit::Args),
    /// Say whether jobs of a file would start now, and store nothing; 0: all do, 3: some wait, 5: some never fit
    Plan(explain::PlanArgs),
    /// List jobs: those that are active and those that ended in the last hour
    Ps(ps::Args),
    /// Show one job in full
    Get(get::Args),
    /// Say why a job waits, executor by executor
    Explain(explain::ExplainArgs),
    /// Print the output of a job
    Logs(logs::Args),
    /// Wait until jobs have ended; 0: all succeeded, 1: some did not, 124: timed out
    Wait(wait::Args),
    /// End jobs
    Abort(abort::Args),
    /// List the machines that run jobs
    Executors(executors::Args),
    /// Give an executor no new jobs, and wait until those it has have ended
    Drain(operate::DrainArgs),
    /// Let a drained executor take jobs again
    Resume(operate::ResumeArgs),
    /// Declare an executor dead: jobs that wait for it may run elsewhere. Were it alive, they could run twice
    Fence(operate::FenceArgs),
    /// Show the cluster: who leads, its store, its jobs
    Status(status::Args),
    /// Run a whole cluster on this machine: scheduler, store and executor in one process
    Dev(Box<daemon::dev::Args>),
    /// Submit a mixed batch of jobs and compare how each ends with how it should
    Demo(demo::Args),
    /// Ask every address whether it serves, or whether executors are connected; 0: all do, 1: some do not
    Health(health::Args),
    /// Look at all that a cluster rests on, and say what to mend; 0: nothing failed, 1: something did
    Doctor(Box<doctor::Args>),
    /// Run a scheduler replica
    Scheduler(Box<daemon::scheduler::Args>),
    /// Run an executor
    Executor(Box<daemon::executor::Args>),
    /// Print the version
    Version(version::Args),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// Carries out what the command line asks for and gives the exit code.
///
/// # Errors
/// Fails as the command does; [`crate::failure::report`] makes the exit code of it.
pub async fn execute(cli: Cli) -> anyhow::Result<u8> {
    let ClusterArgs { addr, retry_for } = cli.cluster;
    let connect = || {
        logging::start(None);
        Connection::new(&addr, retry_for)
    };
    match cli.command {
        Command::Dev(args) => daemon::dev::run(*args).await,
        Command::Scheduler(args) => daemon::scheduler::run(*args).await,
        Command::Executor(args) => daemon::executor::run(*args).await,
        Command::Demo(args) => demo::execute(&connect()?, args).await,
        Command::Run(args) => run::execute(&connect()?, *args).await,
        Command::Submit(args) => submit::execute(&connect()?, args).await,
        Command::Plan(args) => explain::plan(&connect()?, args).await,
        Command::Explain(args) => explain::explain(&connect()?, args).await,
        Command::Ps(args) => ps::execute(&connect()?, args).await,
        Command::Get(args) => get::execute(&connect()?, args).await,
        Command::Logs(args) => logs::execute(&connect()?, args).await,
        Command::Wait(args) => wait::execute(&connect()?, args).await,
        Command::Abort(args) => abort::execute(&connect()?, args).await,
        Command::Executors(args) => executors::execute(&connect()?, args).await,
        Command::Drain(args) => operate::drain(&connect()?, args).await,
        Command::Resume(args) => operate::resume(&connect()?, args).await,
        Command::Fence(args) => operate::fence(&connect()?, args).await,
        Command::Status(args) => status::execute(&connect()?, args).await,
        Command::Health(args) => health::execute(&connect()?, args).await,
        Command::Doctor(args) => doctor::execute(&connect()?, *args).await,
        Command::Version(args) => version::execute(&args),
        Command::Completion { shell } => completion(shell),
    }
}

fn completion(shell: Shell) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "berth", &mut script);
    output::print_bytes(&script)?;
    Ok(0)
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
