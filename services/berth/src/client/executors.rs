//! `berth executors`: lists the machines that run jobs.

use berth_api::v1::ListExecutorsResponse;

use super::connection::Connection;
use super::listing::all_executors;
use crate::output::{self, Format, Forms, age, json};

/// How to list executors.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Lists the executors.
///
/// # Errors
/// Fails as the calls and the output do.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    let executors = all_executors(connection).await?;
    let now = age::now();
    let ids: Vec<&str> = executors.iter().map(|executor| executor.id.as_str()).collect();
    let answer = || ListExecutorsResponse { executors: executors.clone(), next_page_token: String::new() };
    let forms = Forms {
        table: &|wide| output::executors::list(&executors, wide, now),
        json: &|| Ok(json::render("berth.v1.ListExecutorsResponse", &answer())),
    };
    output::print_list(args.output, &ids, "executors", &forms)?;
    Ok(0)
}
