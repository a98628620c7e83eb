//! `berth get`: shows one job in full.

use super::connection::Connection;
use super::resolve;
use crate::output::{self, Format, Forms, age, json};

/// Which job to show, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id, unique prefix, name, or "last"
    job: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Shows the job.
///
/// # Errors
/// Fails when there is no such job, and as the calls and the output do.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    let job = resolve::job(connection, &args.job).await?;
    let now = age::now();
    let forms = Forms {
        table: &|_wide| output::jobs::detail(&job, now),
        json: &|| Ok(json::render("berth.v1.Job", &job)),
    };
    output::print_one(args.output, &job.id, &forms)?;
    Ok(0)
}
