//! Errors as HTTP answers: AIP-193 bodies, or RFC 9457 where the client asks for it.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use berth_api::status::Problem;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::json::ErrorBody;

/// How long to wait where an error that may be repeated does not say.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);
const PROBLEM_JSON: &str = "application/problem+json";

/// A request that was not answered as it asked.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    body: ErrorBody,
    allow: Option<String>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { body: ErrorBody::from(problem), allow: None }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self { body: ErrorBody::from(&status), allow: None }
    }
}

impl Failure {
    /// Makes the failure of a path that does not exist.
    pub(crate) fn no_path(path: &str, near: Option<String>) -> Self {
        let path: String = path.chars().take(200).collect();
        let hint = match near {
            Some(near) => format!("did you mean {near:?}?"),
            None => "GET / lists what there is".to_owned(),
        };
        let message = format!("{path}: no such path; {hint}");
        Self { body: ErrorBody::http(404, "NOT_FOUND", "NO_SUCH_PATH", message), allow: None }
    }

    /// Makes the failure of a path that is served with other methods only.
    pub(crate) fn no_method(method: &Method, allowed: &[&str]) -> Self {
        let allow = allowed.join(", ");
        let message = format!("{method} is not served here; use {allow}");
        Self {
            body: ErrorBody::http(405, "UNIMPLEMENTED", "METHOD_NOT_ALLOWED", message),
            allow: Some(allow),
        }
    }

    /// Makes the failure of a body over the limit.
    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes; pass large inputs by reference");
        Self { body: ErrorBody::http(413, "INVALID_ARGUMENT", "BODY_TOO_LARGE", message), allow: None }
    }

    /// Makes the failure of a compressed body.
    pub(crate) fn encoded(encoding: &str) -> Self {
        let encoding: String = encoding.chars().take(60).collect();
        let message = format!("bodies with Content-Encoding {encoding:?} are not read; send it plain");
        Self { body: ErrorBody::http(415, "INVALID_ARGUMENT", "BODY_ENCODED", message), allow: None }
    }

    /// Makes the failure of a body that does not arrive.
    pub(crate) fn slow_body(limit: Duration) -> Self {
        let message = format!("the body did not arrive within {} s", limit.as_secs());
        Self { body: ErrorBody::http(408, "DEADLINE_EXCEEDED", "BODY_TIMEOUT", message), allow: None }
    }

    /// Makes the failure of a call that the services did not answer in time.
    pub(crate) fn no_answer(limit: Duration) -> Self {
        let message =
            format!("no answer within {} s; whether the call took effect is not known", limit.as_secs());
        Self { body: ErrorBody::http(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", message), allow: None }
    }

    /// Shows the body of AIP-193.
    pub(crate) fn to_json(&self) -> Value {
        json!({"error": self.body.to_json()})
    }

    /// Makes the answer to a request with these headers.
    pub(crate) fn respond(&self, request_headers: &HeaderMap) -> Response {
        let status = StatusCode::from_u16(self.body.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(status = self.body.status, reason = self.body.message, "request failed");
        }
        let (content_type, body) = if accepts(request_headers, PROBLEM_JSON) {
            (PROBLEM_JSON, self.to_problem(status))
        } else {
            ("application/json", self.to_json())
        };
        let mut response = Response::new(Body::from(format!("{body}\n")));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            let wait = self.body.retry_after.unwrap_or(DEFAULT_RETRY);
            // Whole seconds, rounded up: an early repeat would fail again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Some(allow) = self.allow.as_ref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        response
    }

    fn to_problem(&self, status: StatusCode) -> Value {
        json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": self.body.message,
            "code": self.body.status,
            "details": self.body.details,
        })
    }
}

/// Says whether the `Accept` headers name a media type.
pub(crate) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|range| {
            range.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media_type))
        })
    })
}
