//! What went wrong, as exit codes and as lines on stderr. The one table of exit codes beside that of `berth run`.

use std::error::Error;
use std::fmt;
use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::client::connection::CallError;
use crate::output;

/// Something failed that no other code names.
pub const ERROR: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// There is no such thing.
pub const NOT_FOUND: u8 = 3;
/// No scheduler answered.
pub const UNREACHABLE: u8 = 4;
/// The cluster refused the request.
pub const REFUSED: u8 = 5;

/// A failure that this program found itself.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: u8,
    /// A sentence.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// Makes a failure of a wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: USAGE, message: message.into(), hint: None }
    }

    /// Makes a failure of something that is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { exit: NOT_FOUND, message: message.into(), hint: None }
    }

    /// Says what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

/// Says on stderr what went wrong, and gives the exit code.
pub fn report(error: &anyhow::Error) -> u8 {
    if is_broken_pipe(error) {
        // Who read our output has had enough: that is no failure.
        return 0;
    }
    for line in lines(error) {
        output::note(line);
    }
    exit_code(error)
}

/// Says whether output failed because its reader is gone.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Gives the exit code of an error, for every command but `run`.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit;
    }
    match error.downcast_ref::<CallError>() {
        Some(CallError::Unreachable { .. }) => UNREACHABLE,
        Some(CallError::Answered(status)) => exit_of(status.code()),
        None => ERROR,
    }
}

fn exit_of(code: Code) -> u8 {
    match code {
        Code::NotFound => NOT_FOUND,
        Code::Unavailable => UNREACHABLE,
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::ResourceExhausted => REFUSED,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => ERROR,
    }
}

/// Words an error: `error: ...`, the refused fields, and a hint where there is one.
pub fn lines(error: &anyhow::Error) -> Vec<String> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return worded(&format!("{error:#}"), &[], failure.hint.clone());
    }
    match error.downcast_ref::<CallError>() {
        Some(CallError::Answered(status)) => status_lines(status),
        Some(unreachable @ CallError::Unreachable { said_by_scheduler: true, .. }) => {
            worded(&unreachable.to_string(), &[], None)
        }
        Some(unreachable @ CallError::Unreachable { addresses, .. }) => worded(
            &unreachable.to_string(),
            &[],
            Some(format!(
                "Set BERTH_ADDR or --addr to the gRPC address of a scheduler (now {addresses}). \
                 Check: berth health. Start a cluster on this machine: berth dev"
            )),
        ),
        None => worded(&format!("{error:#}"), &[], None),
    }
}

fn status_lines(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map(|b| b.field_violations).unwrap_or_default();
    if violations.len() < 2 {
        // The message says all there is about a single field.
        return worded(status.message(), &[], hint(status));
    }
    let fields: Vec<String> = violations
        .iter()
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect();
    worded(&format!("{} fields of the request were refused:", fields.len()), &fields, hint(status))
}

fn hint(status: &Status) -> Option<String> {
    let reason = berth_api::status::reason_of(status);
    match (status.code(), reason.as_deref()) {
        (Code::NotFound, Some("JOB_NOT_FOUND")) => Some("See all jobs: berth ps -a".to_owned()),
        (Code::ResourceExhausted, _) => {
            let delay = status.get_details_retry_info()?.retry_delay?;
            Some(format!("Try again in {}", humantime::format_duration(delay)))
        }
        _ => None,
    }
}

fn worded(message: &str, details: &[String], hint: Option<String>) -> Vec<String> {
    let mut lines = vec![format!("error: {}", output::plain(message))];
    lines.extend(details.iter().map(|detail| format!("  {}", output::plain(detail))));
    lines.extend(hint.map(|hint| format!("hint: {hint}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_api::status::{Problem, Violation};

    fn answered(problem: Problem) -> anyhow::Error {
        CallError::Answered(problem.into()).into()
    }

    fn violation(field: &str, description: &str) -> Violation {
        Violation { field: field.into(), description: description.into() }
    }

    #[test]
    fn every_refused_field_is_listed() {
        let error = answered(Problem::Invalid(vec![
            violation("spec.image", "must not be empty"),
            violation("spec.priority", "is 200; use 0 to 100, higher first"),
        ]));
        assert_eq!(
            lines(&error),
            [
                "error: 2 fields of the request were refused:",
                "  spec.image: must not be empty",
                "  spec.priority: is 200; use 0 to 100, higher first",
            ]
        );
        assert_eq!(exit_code(&error), REFUSED);
    }

    #[test]
    fn one_refused_field_is_one_line() {
        assert_eq!(
            lines(&answered(Problem::field("spec.image", "must not be empty"))),
            ["error: spec.image must not be empty"]
        );
    }

    #[test]
    fn a_missing_job_names_the_next_command() {
        let error = answered(Problem::no_job("abc"));
        assert_eq!(lines(&error), ["error: job \"abc\" does not exist", "hint: See all jobs: berth ps -a"]);
        assert_eq!(exit_code(&error), NOT_FOUND);
    }

    #[test]
    fn an_unreachable_cluster_names_its_addresses() {
        let error = anyhow::Error::from(CallError::Unreachable {
            addresses: "127.0.0.1:50051".into(),
            cause: "Connection refused".into(),
            said_by_scheduler: false,
            tried_for: std::time::Duration::from_secs(15),
        });
        assert_eq!(
            lines(&error),
            [
                "error: no scheduler answered at 127.0.0.1:50051 within 15s: Connection refused",
                "hint: Set BERTH_ADDR or --addr to the gRPC address of a scheduler (now 127.0.0.1:50051). \
                 Check: berth health. Start a cluster on this machine: berth dev",
            ]
        );
        assert_eq!(exit_code(&error), UNREACHABLE);
    }

    #[test]
    fn exit_codes_follow_the_table() {
        let precondition = |reason| Problem::Precondition { reason, message: "no".into() };
        let exists = Problem::AlreadyExists { reason: "REQUEST_ID_CONFLICT", message: "other spec".into() };
        assert_eq!(exit_code(&answered(precondition("JOB_ENDED"))), REFUSED);
        assert_eq!(exit_code(&answered(exists)), REFUSED);
        assert_eq!(exit_code(&answered(Problem::Internal("broken".into()))), ERROR);
        assert_eq!(exit_code(&Failure::usage("bad").into()), USAGE);
        assert_eq!(exit_code(&anyhow::anyhow!("anything")), ERROR);
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let gone = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
        assert!(is_broken_pipe(&gone));
        assert_eq!(report(&gone), 0);
    }
}
