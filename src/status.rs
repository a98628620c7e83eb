//! The one table from what went wrong to gRPC codes and `google.rpc` details. Nothing else makes a
//! `tonic::Status`.

use std::collections::HashMap;
use std::time::Duration;

use berth_domain::lifecycle::shorten;
use prost::Message;
use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The domain of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "berth.dev";

/// One field that was refused, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, for example `spec.resources.cpu_millis`.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub description: String,
}

/// What went wrong with a call, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// The request is wrong as it stands; repeating it cannot help.
    #[error("{}", first(.0))]
    Invalid(Vec<Violation>),
    /// There is no such thing.
    #[error("{kind} {id:?} does not exist")]
    NotFound {
        /// `job` or `executor`.
        kind: &'static str,
        /// What was asked for.
        id: String,
    },
    /// Something else already holds what was asked for.
    #[error("{message}")]
    AlreadyExists {
        /// An UPPER_SNAKE name for programs.
        reason: &'static str,
        /// A sentence for people.
        message: String,
    },
    /// The state of things does not allow it.
    #[error("{message}")]
    Precondition {
        /// An UPPER_SNAKE name for programs.
        reason: &'static str,
        /// A sentence for people.
        message: String,
    },
    /// It cannot be done now; repeating it later may help.
    #[error("{message}")]
    Unavailable {
        /// An UPPER_SNAKE name for programs.
        reason: &'static str,
        /// A sentence for people.
        message: String,
        /// How long to wait first.
        retry_after: Duration,
    },
    /// There is no room for it now.
    #[error("{message}")]
    Exhausted {
        /// An UPPER_SNAKE name for programs.
        reason: &'static str,
        /// A sentence for people.
        message: String,
        /// How long to wait first.
        retry_after: Duration,
    },
    /// This version does not do it.
    #[error("{0} is not served by this version")]
    Unimplemented(&'static str),
    /// A promise of ours broke.
    #[error("{0}")]
    Internal(String),
}

/// How many bytes of findings are listed, and how long a sentence and the name of a field may be: they go into the
/// trailers of an answer, and clients refuse those of more than 8 KiB.
const MOST_LISTED: usize = 2_560;
const LONGEST_SENTENCE: usize = 1_024;
const LONGEST_FIELD: usize = 256;

/// The first findings, at least one, as far as there is room for them.
fn listed(violations: &[Violation]) -> Vec<FieldViolation> {
    let mut left = MOST_LISTED;
    let mut list = Vec::new();
    for violation in violations {
        let one = FieldViolation::new(
            shorten(&violation.field, LONGEST_FIELD),
            shorten(&violation.description, LONGEST_SENTENCE),
        );
        let Some(rest) = left.checked_sub(one.field.len() + one.description.len()) else { break };
        left = rest;
        list.push(one);
    }
    list
}

/// Says the first finding in one sentence: `spec.command must be a list.`, `spec.x: no such field`.
fn first(violations: &[Violation]) -> String {
    let Some((first, rest)) = violations.split_first() else { return "the request is invalid".to_owned() };
    let joint = if first.description.starts_with("must ") { "" } else { ":" };
    let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
    format!("{}{joint} {}{more}", first.field, first.description)
}

impl Problem {
    /// Makes the problem of one refused field.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), description: description.into() }])
    }

    /// Makes the problem of a job that does not exist.
    pub fn no_job(id: impl Into<String>) -> Self {
        Self::NotFound { kind: "job", id: id.into() }
    }

    fn parts(&self) -> (Code, &'static str) {
        match self {
            Self::Invalid(_) => (Code::InvalidArgument, "INVALID_FIELD"),
            Self::NotFound { kind: "job", .. } => (Code::NotFound, "JOB_NOT_FOUND"),
            Self::NotFound { .. } => (Code::NotFound, "NOT_FOUND"),
            Self::AlreadyExists { reason, .. } => (Code::AlreadyExists, reason),
            Self::Precondition { reason, .. } => (Code::FailedPrecondition, reason),
            Self::Unavailable { reason, .. } => (Code::Unavailable, reason),
            Self::Exhausted { reason, .. } => (Code::ResourceExhausted, reason),
            Self::Unimplemented(_) => (Code::Unimplemented, "NOT_SERVED"),
            Self::Internal(_) => (Code::Internal, "INTERNAL"),
        }
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let (code, reason) = problem.parts();
        let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
        match &problem {
            Problem::Invalid(violations) => {
                details.set_bad_request(listed(violations));
            }
            Problem::Unavailable { retry_after, .. } | Problem::Exhausted { retry_after, .. } => {
                details.set_retry_info(Some(*retry_after));
            }
            Problem::NotFound { .. }
            | Problem::AlreadyExists { .. }
            | Problem::Precondition { .. }
            | Problem::Unimplemented(_)
            | Problem::Internal(_) => {}
        }
        Status::with_error_details(code, shorten(&problem.to_string(), LONGEST_SENTENCE), details)
    }
}

/// Shows a problem as a message, for answers that hold several outcomes.
pub fn status_message(problem: Problem) -> tonic_types::Status {
    let status = Status::from(problem);
    // The details of our own statuses are such a message.
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: i32::from(status.code()),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// Reads the UPPER_SNAKE reason of a status that a Berth server sent; `None` for any other.
pub fn reason_of(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == ERROR_DOMAIN).then_some(info.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_field_is_named_to_people_and_programs() {
        let status = Status::from(Problem::field("spec.image", "must not be empty"));
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "spec.image must not be empty")
        );
        assert_eq!(reason_of(&status).as_deref(), Some("INVALID_FIELD"));
        let fields = status.get_details_bad_request().expect("fields are listed").field_violations;
        assert_eq!(fields[0].field, "spec.image");
    }

    #[test]
    fn of_many_findings_as_many_are_listed_as_clients_take() {
        let finding =
            |at| Violation { field: format!("requests[{at}].spec.image"), description: "x".repeat(100) };
        let status = Status::from(Problem::Invalid((0..1_000).map(finding).collect()));
        assert!(status.message().ends_with("(and 999 more)"));
        let fields = status.get_details_bad_request().expect("fields are listed").field_violations;
        assert_eq!((fields.len(), fields[0].field.as_str()), (20, "requests[0].spec.image"));
        let status = Status::from(Problem::field("x".repeat(100_000), "y".repeat(100_000)));
        assert!(status.details().len() + status.message().len() < 6_000);
        assert_eq!(status.get_details_bad_request().expect("it is listed").field_violations.len(), 1);
    }
}
