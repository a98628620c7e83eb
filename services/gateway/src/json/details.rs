//! Errors in JSON, in the shape of AIP-193: `code`, `status`, `message` and typed `details`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_api::status::{ERROR_DOMAIN, Problem};
use prost::Message;
use serde_json::{Map, Value, json};
use tonic::Code;
use tonic_types::pb;

use super::time::show_duration;

/// What an error body says; the HTTP status is its `code`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ErrorBody {
    /// The HTTP status.
    pub code: u16,
    /// The name of the gRPC code, for example `INVALID_ARGUMENT`.
    pub status: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The `google.rpc` details, each with its `@type`.
    pub details: Vec<Value>,
    /// How long to wait before a repeat, where the error says so.
    pub retry_after: Option<Duration>,
}

impl ErrorBody {
    /// Makes the body of a status as it came over the wire; one without an ErrorInfo gets one.
    pub(crate) fn new(code: i32, message: &str, details: &[prost_types::Any]) -> Self {
        let (http, status) = names(Code::from_i32(code));
        let mut body = Self {
            code: http,
            status,
            message: message.to_owned(),
            details: show_details(details),
            retry_after: details.iter().find_map(retry_delay),
        };
        // Always there, and always first: programs look at it before all else.
        match details.iter().position(|any| short_type(&any.type_url) == "google.rpc.ErrorInfo") {
            Some(place) => body.details[..=place].rotate_right(1),
            None => body.details.insert(0, error_info(status)),
        }
        body
    }

    /// Makes the body of an error that HTTP knows and gRPC does not.
    pub(crate) fn http(code: u16, status: &'static str, reason: &str, message: String) -> Self {
        Self { code, status, message, details: vec![error_info(reason)], retry_after: None }
    }

    /// Shows the inside of `{"error": ...}`.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "code": self.code,
            "status": self.status,
            "message": self.message,
            "details": self.details,
        })
    }
}

impl From<Problem> for ErrorBody {
    fn from(problem: Problem) -> Self {
        let message = problem.to_string();
        Self { message, ..Self::from(&tonic::Status::from(problem)) }
    }
}

impl From<&tonic::Status> for ErrorBody {
    fn from(status: &tonic::Status) -> Self {
        // Details that do not decode are left out; code and message stand beside them on the wire.
        let details = pb::Status::decode(status.details()).map(|full| full.details).unwrap_or_default();
        Self::new(status.code() as i32, status.message(), &details)
    }
}

fn error_info(reason: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": ERROR_DOMAIN,
        "metadata": {},
    })
}

/// The table of google.rpc.Code: each code's HTTP status and name.
fn names(code: Code) -> (u16, &'static str) {
    match code {
        Code::Ok => (200, "OK"),
        Code::Cancelled => (499, "CANCELLED"),
        Code::Unknown => (500, "UNKNOWN"),
        Code::InvalidArgument => (400, "INVALID_ARGUMENT"),
        Code::DeadlineExceeded => (504, "DEADLINE_EXCEEDED"),
        Code::NotFound => (404, "NOT_FOUND"),
        Code::AlreadyExists => (409, "ALREADY_EXISTS"),
        Code::PermissionDenied => (403, "PERMISSION_DENIED"),
        Code::ResourceExhausted => (429, "RESOURCE_EXHAUSTED"),
        Code::FailedPrecondition => (400, "FAILED_PRECONDITION"),
        Code::Aborted => (409, "ABORTED"),
        Code::OutOfRange => (400, "OUT_OF_RANGE"),
        Code::Unimplemented => (501, "UNIMPLEMENTED"),
        Code::Internal => (500, "INTERNAL"),
        Code::Unavailable => (503, "UNAVAILABLE"),
        Code::DataLoss => (500, "DATA_LOSS"),
        Code::Unauthenticated => (401, "UNAUTHENTICATED"),
    }
}

fn short_type(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

fn retry_delay(any: &prost_types::Any) -> Option<Duration> {
    if short_type(&any.type_url) != "google.rpc.RetryInfo" {
        return None;
    }
    let delay = pb::RetryInfo::decode(any.value.as_slice()).ok()?.retry_delay?;
    Duration::try_from(delay).ok()
}

/// Shows details, each as an object with its `@type`; one of an unknown type keeps its bytes as base64.
fn show_details(details: &[prost_types::Any]) -> Vec<Value> {
    details
        .iter()
        .map(|any| {
            let shown = show_detail(any).unwrap_or_else(|| {
                [("value".to_owned(), json!(STANDARD.encode(&any.value)))].into_iter().collect()
            });
            let typed = Map::from_iter([("@type".to_owned(), json!(any.type_url))]);
            Value::Object(typed.into_iter().chain(shown).collect())
        })
        .collect()
}

fn show_detail(any: &prost_types::Any) -> Option<Map<String, Value>> {
    let bytes = any.value.as_slice();
    let shown = match short_type(&any.type_url) {
        "google.rpc.ErrorInfo" => {
            let info = pb::ErrorInfo::decode(bytes).ok()?;
            // Sorted, as the order of a HashMap would change from answer to answer.
            let metadata: std::collections::BTreeMap<_, _> = info.metadata.into_iter().collect();
            json!({"reason": info.reason, "domain": info.domain, "metadata": metadata})
        }
        "google.rpc.RetryInfo" => {
            let delay = pb::RetryInfo::decode(bytes).ok()?.retry_delay;
            json!({"retryDelay": delay.map(|delay| show_duration(delay.seconds, delay.nanos))})
        }
        "google.rpc.BadRequest" => {
            let violations = pb::BadRequest::decode(bytes).ok()?.field_violations;
            let violations =
                violations.iter().map(|v| json!({"field": v.field, "description": v.description}));
            json!({"fieldViolations": violations.collect::<Vec<_>>()})
        }
        "google.rpc.PreconditionFailure" => {
            let violations = pb::PreconditionFailure::decode(bytes).ok()?.violations;
            let violations = violations
                .iter()
                .map(|v| json!({"type": v.r#type, "subject": v.subject, "description": v.description}));
            json!({"violations": violations.collect::<Vec<_>>()})
        }
        "google.rpc.QuotaFailure" => {
            let violations = pb::QuotaFailure::decode(bytes).ok()?.violations;
            let violations =
                violations.iter().map(|v| json!({"subject": v.subject, "description": v.description}));
            json!({"violations": violations.collect::<Vec<_>>()})
        }
        "google.rpc.ResourceInfo" => {
            let info = pb::ResourceInfo::decode(bytes).ok()?;
            json!({"resourceType": info.resource_type, "resourceName": info.resource_name,
                   "owner": info.owner, "description": info.description})
        }
        "google.rpc.RequestInfo" => {
            let info = pb::RequestInfo::decode(bytes).ok()?;
            json!({"requestId": info.request_id, "servingData": info.serving_data})
        }
        "google.rpc.Help" => {
            let links = pb::Help::decode(bytes).ok()?.links;
            let links = links.iter().map(|link| json!({"description": link.description, "url": link.url}));
            json!({"links": links.collect::<Vec<_>>()})
        }
        _ => return None,
    };
    match shown {
        Value::Object(map) => Some(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    }
}
