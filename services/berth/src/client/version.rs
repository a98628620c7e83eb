//! `berth version`: names this program's version.

use serde_json::json;

use crate::output::{self, Format, Forms};

/// How to print the version.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Prints the version and the executor protocols served.
///
/// # Errors
/// Fails as the output does.
pub fn execute(args: &Args) -> anyhow::Result<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let (oldest, newest) = (berth_api::MIN_PROTOCOL_VERSION, berth_api::MAX_PROTOCOL_VERSION);
    let forms = Forms {
        table: &|_wide| format!("berth {version}, executor protocol {oldest} to {newest}\n"),
        json: &|| Ok(json!({"version": version, "minProtocolVersion": oldest, "maxProtocolVersion": newest})),
    };
    output::print_one(args.output, version, &forms)?;
    Ok(0)
}
