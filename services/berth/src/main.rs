//! The one binary: reads the command line, runs the chosen role or client command, and turns what came of it
//! into an exit code. It knows nothing of jobs.

mod cli;
mod client;
mod daemon;
mod doctor;
mod failure;
mod logging;
mod output;
mod values;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// Made for what a scheduler allocates: many small records, by several threads.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error.into())),
    };
    let outcome = runtime.block_on(cli::execute(cli));
    // A reader that stopped reading our output must not keep the process alive.
    runtime.shutdown_background();
    finish(daemon::reload::exec_if_changed(outcome))
}

fn finish(outcome: anyhow::Result<u8>) -> ExitCode {
    ExitCode::from(outcome.unwrap_or_else(|error| failure::report(&error)))
}
