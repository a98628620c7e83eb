//! HTTP requests as request messages: path, query, body and the few headers that carry fields.

use std::time::Duration;

use berth_api::status::Problem;
use http::HeaderMap;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use serde_json::{Map, Value as Json, json};

use crate::json::{self, Reader, find_field, read_duration};
use crate::query;
use crate::table::{BodyRule, Route};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const LAST_EVENT_ID: &str = "last-event-id";
/// How long a call may take where the client does not say.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
/// How much longer than the client wants to wait a waiting call may take.
const WAIT_SLACK: Duration = Duration::from_secs(5);
/// The longest deadline that is passed on; the services have shorter limits of their own.
const MAX_DEADLINE: Duration = Duration::from_secs(3_600);

/// What an HTTP request says.
pub(crate) struct Parts<'a> {
    /// The path's variables, decoded.
    pub variables: Vec<(String, String)>,
    /// The query string, as sent.
    pub query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
}

/// Makes the request message of a route.
///
/// # Errors
/// Lists what the client got wrong. Repeating cannot help.
pub(crate) fn read(route: &Route, parts: Parts<'_>) -> Result<DynamicMessage, Problem> {
    let input = route.method.input();
    let mut message = DynamicMessage::new(input.clone());
    let body = json::parse(parts.body)?;
    let path: Map<String, Json> =
        parts.variables.into_iter().map(|(name, value)| (name, Json::String(value))).collect();

    let mut lenient = Reader::lenient();
    lenient.object(&mut message, path, "");
    let query = query::read(&mut lenient, parts.query, &input)?;
    lenient.object(&mut message, query, "");
    lenient.finish()?;

    let mut strict = Reader::strict();
    match &route.body {
        BodyRule::Whole => strict.body(&mut message, body),
        BodyRule::Field(name) => {
            strict.object(&mut message, Map::from_iter([(name.clone(), body)]), "");
        }
        BodyRule::None if body == json!({}) => {}
        BodyRule::None => strict.refuse("body", "is not read here; use query parameters"),
    }
    idempotency_key(&mut strict, &mut message, parts.headers);
    if route.method.is_server_streaming() {
        last_event_id(&mut strict, &mut message, parts.headers);
    }
    strict.finish()?;
    Ok(message)
}

/// Takes the key from the header, for requests that have one.
fn idempotency_key(reader: &mut Reader, message: &mut DynamicMessage, headers: &HeaderMap) {
    let Some(field) = message.descriptor().get_field_by_name("request_id") else {
        return;
    };
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(header) = given.next() else {
        return;
    };
    let Ok(key) = header.to_str() else {
        return reader.refuse("Idempotency-Key", "must be plain ASCII");
    };
    if given.any(|other| other != header) {
        return reader.refuse("Idempotency-Key", "is given twice, with different values");
    }
    let in_body = message.get_field(&field).as_str().unwrap_or_default().to_owned();
    if !in_body.is_empty() && in_body != key {
        return reader.refuse("request_id", "differs from the header Idempotency-Key; give only one");
    }
    message.set_field_by_name("request_id", Value::String(key.to_owned()));
}

/// Resumes where a browser's EventSource left off. Its URL still says where the first request began, so the
/// header wins.
fn last_event_id(reader: &mut Reader, message: &mut DynamicMessage, headers: &HeaderMap) {
    let Some(last) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else {
        return;
    };
    let Ok(last) = last.to_str() else {
        return reader.refuse("Last-Event-ID", "must be plain ASCII");
    };
    let descriptor = message.descriptor();
    if descriptor.get_field_by_name("resume_token").is_some() {
        message.set_field_by_name("resume_token", Value::String(last.to_owned()));
    } else if find_field(&descriptor, "offset_bytes").is_some() {
        let position = last
            .split_once(':')
            .and_then(|(attempt, offset)| Some((attempt.parse::<i32>().ok()?, offset.parse::<i64>().ok()?)));
        match position {
            Some((attempt, offset)) => {
                message.clear_field_by_name("tail_lines");
                message.set_field_by_name("attempt", Value::I32(attempt));
                message.set_field_by_name("offset_bytes", Value::I64(offset));
            }
            None => reader.refuse("Last-Event-ID", "must be ATTEMPT:OFFSET, as this stream sends it"),
        }
    }
}

/// Says how long a call may take: as the header `Grpc-Timeout` says (`30S`), else as long as the request
/// itself asks to wait, else 30 s.
pub(crate) fn deadline(message: &DynamicMessage, headers: &HeaderMap) -> Duration {
    let header = headers.get("grpc-timeout").and_then(|value| grpc_timeout(value.to_str().ok()?));
    if let Some(deadline) = header {
        return deadline.min(MAX_DEADLINE);
    }
    if message.descriptor().full_name() != "berth.v1.WaitJobRequest" {
        return DEFAULT_DEADLINE;
    }
    let timeout = message.get_field_by_name("timeout").filter(|_| message.has_field_by_name("timeout"));
    let seconds = timeout.as_deref().and_then(|value| value.as_message()?.get_field_by_number(1)?.as_i64());
    match seconds {
        Some(seconds) => {
            let wanted = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            wanted.saturating_add(WAIT_SLACK).min(MAX_DEADLINE)
        }
        // The services' own limit is shorter.
        None => MAX_DEADLINE,
    }
}

/// Reads gRPC's timeout: at most eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (amount, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if amount.len() > 8 {
        return None;
    }
    let amount: u64 = amount.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3_600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        // What people write: `30s` is not gRPC's unit for anything, and clear.
        _ => {
            let (seconds, nanos) = read_duration(&Json::String(text.to_owned())).ok()?;
            Some(Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?))
        }
    }
}
