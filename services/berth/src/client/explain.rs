//! `berth explain` and `berth plan`: why a job waits, and what would become of one.

use std::path::PathBuf;

use berth_api::v1::pending_reason::Code as Reason;
use berth_api::v1::{ExplainJobRequest, ExplainJobResponse, SubmitJobRequest};
use serde_json::Value;
use tonic::Code;

use super::connection::{CallError, Connection, jobs};
use super::{resolve, submit};
use crate::failure::{USAGE, report};
use crate::output::{self, Format, Forms, json};

/// `berth plan`: every job starts now.
const STARTS: u8 = 0;
/// Some job waits, and each of them fits somewhere.
const WAITS: u8 = 3;
/// Some job fits nowhere, even if nothing else ran.
const NEVER_FITS: u8 = 5;

/// The type of the answer, as it is rendered.
const ANSWER: &str = "berth.v1.ExplainJobResponse";

/// Which job to explain, and how.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// Id, unique prefix, name, or "last"
    job: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What to try, and how to print what would become of it.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// YAML or JSON: a job, or a list of jobs, each tried by itself; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Says why a job waits, executor by executor.
///
/// # Errors
/// Fails when there is no such job, and as the calls and the output do.
pub async fn explain(connection: &Connection, args: ExplainArgs) -> anyhow::Result<u8> {
    let job = resolve::job(connection, &args.job).await?;
    let request = ExplainJobRequest { id: job.id.clone(), spec: None };
    let answer = ask(connection, request).await?;
    let forms = Forms {
        table: &|_wide| output::explain::of_job(&job, &answer),
        json: &|| Ok(json::render(ANSWER, &answer)),
    };
    output::print_one(args.output, &job.id, &forms)?;
    Ok(0)
}

/// Says whether the jobs of a file would start now, and stores nothing.
///
/// # Errors
/// Fails when the file cannot be read, a job is refused, or the cluster is out of reach.
pub async fn plan(connection: &Connection, args: PlanArgs) -> anyhow::Result<u8> {
    let document = submit::read(&args.file)?;
    let is_list = document.is_array();
    let answers = match ask_for_all(connection, document).await {
        Ok(answers) => answers,
        // What the file says is wrong: no plan says so of a job.
        Err(error) if is_refused(&error) => {
            report(&error);
            return Ok(USAGE);
        }
        Err(error) => return Err(error),
    };
    let in_json = || answers.iter().map(|answer| json::render(ANSWER, answer)).collect::<Vec<_>>();
    let forms = Forms {
        table: &|wide| match answers.as_slice() {
            [answer] if !is_list => output::explain::of_spec(answer),
            answers => output::explain::of_list(answers, wide),
        },
        json: &|| match in_json().as_slice() {
            [answer] if !is_list => Ok(answer.clone()),
            answers => Ok(Value::Array(answers.to_vec())),
        },
    };
    let executors: Vec<&str> = answers.iter().map(|answer| answer.executor_id.as_str()).collect();
    match args.output {
        Format::Jsonl => output::print_items(&in_json())?,
        format => output::print_one(format, &executors.join("\n"), &forms)?,
    }
    Ok(answers.iter().map(exit_code).max().unwrap_or(STARTS))
}

async fn ask_for_all(connection: &Connection, document: Value) -> anyhow::Result<Vec<ExplainJobResponse>> {
    let is_list = document.is_array();
    let mut answers = Vec::new();
    for (index, request) in submit::requests(document)?.into_iter().enumerate() {
        answers.push(try_out(connection, request).await.inspect_err(|_| {
            if is_list {
                output::note(format!("berth: this is about job [{index}]."));
            }
        })?);
    }
    Ok(answers)
}

fn is_refused(error: &anyhow::Error) -> bool {
    error.downcast_ref::<CallError>().is_some_and(|error| error.code() == Code::InvalidArgument)
}

/// Asks what would become of a job, if it would be accepted at all.
async fn try_out(
    connection: &Connection,
    mut request: SubmitJobRequest,
) -> Result<ExplainJobResponse, CallError> {
    let spec = request.spec.clone();
    request.validate_only = true;
    submit::submit_one(connection, request).await?;
    ask(connection, ExplainJobRequest { id: String::new(), spec }).await
}

async fn ask(connection: &Connection, request: ExplainJobRequest) -> Result<ExplainJobResponse, CallError> {
    connection
        .call(|channel| {
            let request = request.clone();
            async move { jobs(channel).explain_job(request).await }
        })
        .await
}

fn exit_code(answer: &ExplainJobResponse) -> u8 {
    match answer.reason.as_ref().map(berth_api::v1::PendingReason::code) {
        None => STARTS,
        Some(Reason::TooLarge | Reason::Constraints) => NEVER_FITS,
        Some(_) => WAITS,
    }
}
