//! `berth submit`: stores the jobs of a file, one or a list of them.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use berth_api::status::{Problem, Violation};
use berth_api::v1::batch_submit_jobs_response::result::Outcome;
use berth_api::v1::{BatchSubmitJobsRequest, BatchSubmitJobsResponse, Job, SubmitJobRequest};
use prost::Message;
use serde_json::Value;

use super::connection::{CallError, Connection, jobs};
use super::job_flags::new_request_id;
use crate::failure::{Failure, REFUSED};
use crate::output::{self, Format, Forms, age, json};

/// The most jobs that one call may store.
const LARGEST_BATCH: usize = 1_000;
/// The most bytes that one call may have, with room for its framing.
const LARGEST_BATCH_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;

/// What to submit.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// YAML or JSON: a job, or a list of jobs; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Key that makes a repeat of this command safe for 24 h [default: a new one]
    #[arg(long, value_name = "KEY")]
    request_id: Option<String>,
    /// Check the job and store nothing
    #[arg(long)]
    validate_only: bool,
    /// How to print what was stored
    #[arg(short, long, value_enum, default_value_t = Format::Name)]
    output: Format,
}

/// Stores the jobs and prints their ids.
///
/// # Errors
/// Fails when the file cannot be read, a job is refused, or the cluster is out of reach.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    let document = read(&args.file)?;
    let key = args.request_id.clone();
    match document {
        Value::Array(_) => {
            if args.validate_only {
                return Err(Failure::usage("--validate-only takes one job, not a list").into());
            }
            let batch = requests(document)?;
            submit_list(connection, batch, &key.unwrap_or_else(new_request_id), args.output).await
        }
        document => {
            let mut request = parsed(document, "")?;
            if let Some(key) = key {
                request.request_id = key;
            } else if request.request_id.is_empty() {
                request.request_id = new_request_id();
            }
            request.validate_only |= args.validate_only;
            let job = submit_one(connection, request).await?;
            print_job(&job, args.output)?;
            Ok(0)
        }
    }
}

fn print_job(job: &Job, format: Format) -> anyhow::Result<()> {
    let now = age::now();
    let forms = Forms {
        table: &|wide| output::jobs::list(std::slice::from_ref(job), wide, now),
        json: &|| Ok(json::render("berth.v1.Job", job)),
    };
    output::print_one(format, &job.id, &forms)
}

/// Reads a file of jobs.
///
/// # Errors
/// Fails when it cannot be read, or is neither YAML nor JSON.
pub fn read(path: &Path) -> anyhow::Result<Value> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
    } else {
        text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    }
    document(&text).map_err(|what| Failure::usage(format!("{}: {what}", path.display())).into())
}

/// Reads JSON, or YAML, of which JSON is nearly a part.
fn document(text: &str) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    match serde_yaml_ng::from_str(text) {
        Ok(Value::Null) => Err("it is empty; a job needs at least \"image: NAME\"".to_owned()),
        Ok(value) => Ok(value),
        Err(error) => Err(format!("not valid YAML or JSON: {error}")),
    }
}

/// Reads the job of a document, or the jobs of a list.
///
/// # Errors
/// Fails when there is none, or one is not a job.
pub fn requests(document: Value) -> anyhow::Result<Vec<SubmitJobRequest>> {
    let Value::Array(items) = document else { return Ok(vec![parsed(document, "")?]) };
    if items.is_empty() {
        return Err(Failure::usage("the list of jobs is empty").into());
    }
    let items = items.into_iter().enumerate();
    items.map(|(index, item)| parsed(item, &format!("[{index}]."))).collect()
}

/// Reads one job; refused fields are named with `prefix` before them.
fn parsed(document: Value, prefix: &str) -> anyhow::Result<SubmitJobRequest> {
    json::parse_submit(document)
        .map_err(|problem| CallError::Answered(prefixed(problem, prefix).into()).into())
}

fn prefixed(problem: Problem, prefix: &str) -> Problem {
    match problem {
        Problem::Invalid(violations) => Problem::Invalid(
            violations
                .into_iter()
                .map(|v| Violation { field: format!("{prefix}{}", v.field), ..v })
                .collect(),
        ),
        other => other,
    }
}

/// Makes the call.
///
/// # Errors
/// See [`CallError`].
pub async fn submit_one(connection: &Connection, request: SubmitJobRequest) -> Result<Job, CallError> {
    let answer = connection
        .call(|channel| {
            let request = request.clone();
            async move { jobs(channel).submit_job(request).await }
        })
        .await?;
    Ok(answer.job.unwrap_or_default())
}

async fn submit_list(
    connection: &Connection,
    requests: Vec<SubmitJobRequest>,
    key: &str,
    format: Format,
) -> anyhow::Result<u8> {
    let total = requests.len();
    let mut stored = Vec::new();
    let mut refused = 0;
    for (number, requests) in chunks(requests).into_iter().enumerate() {
        // A repeat with the same key cuts the same list in the same way.
        let key = if number == 0 { key.to_owned() } else { format!("{key}-{number}") };
        let answer = submit_batch(connection, BatchSubmitJobsRequest { requests, request_id: key }).await;
        let answer = answer.inspect_err(|_| {
            let done = stored.len() + refused;
            if done > 0 {
                output::note(format!("berth: {done} of {total} jobs were dealt with before this error."));
            }
        })?;
        for (index, result) in answer.results.into_iter().enumerate() {
            match result.outcome {
                Some(Outcome::Job(job)) => stored.push(job),
                Some(Outcome::Error(status)) => {
                    refused += 1;
                    output::note(format!(
                        "error: job {index} of batch {number}: {}",
                        output::plain(&status.message)
                    ));
                }
                None => refused += 1,
            }
        }
    }
    print_jobs(&stored, format)?;
    if refused > 0 {
        output::note(format!(
            "hint: {refused} of {total} jobs were not stored; --request-id {key} tries them again."
        ));
        return Ok(REFUSED);
    }
    Ok(0)
}

async fn submit_batch(
    connection: &Connection,
    batch: BatchSubmitJobsRequest,
) -> Result<BatchSubmitJobsResponse, CallError> {
    connection
        .call(|channel| {
            let batch = batch.clone();
            async move { jobs(channel).batch_submit_jobs(batch).await }
        })
        .await
}

fn print_jobs(stored: &[Job], format: Format) -> anyhow::Result<()> {
    let now = age::now();
    let ids: Vec<&str> = stored.iter().map(|job| job.id.as_str()).collect();
    let forms =
        Forms { table: &|wide| output::jobs::list(stored, wide, now), json: &|| Ok(json::jobs(stored)) };
    output::print_list(format, &ids, "jobs", &forms)
}

/// Cuts a list into calls that are small enough.
fn chunks(requests: Vec<SubmitJobRequest>) -> Vec<Vec<SubmitJobRequest>> {
    let mut chunks: Vec<Vec<SubmitJobRequest>> = Vec::new();
    let mut bytes = 0;
    for request in requests {
        let size = request.encoded_len() + 8;
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < LARGEST_BATCH && bytes + size <= LARGEST_BATCH_BYTES => {
                bytes += size;
                chunk.push(request);
            }
            Some(_) | None => {
                bytes = size;
                chunks.push(vec![request]);
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_are_read_alike() {
        let yaml = document("image: busybox\ncommand: [sh, -c, exit 3]\n").expect("is valid");
        let json = document("{\"image\": \"busybox\",\n\t\"command\": [\"sh\", \"-c\", \"exit 3\"]}");
        assert_eq!(Ok(yaml), json);
        assert!(document("").is_err_and(|what| what.contains("empty")));
        assert!(document("a: [").is_err_and(|what| what.starts_with("not valid YAML")));
    }

    #[test]
    fn a_refused_item_is_named_by_its_place() {
        let problem = prefixed(Problem::field("spec.image", "must not be empty"), "[2].");
        assert_eq!(problem, Problem::field("[2].spec.image", "must not be empty"));
    }

    #[test]
    fn a_long_list_is_cut_into_calls() {
        let small = vec![SubmitJobRequest::default(); 2_500];
        assert_eq!(chunks(small).iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        let large = SubmitJobRequest { display_name: "x".repeat(1 << 20), ..Default::default() };
        assert_eq!(chunks(vec![large; 7]).iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
    }
}
