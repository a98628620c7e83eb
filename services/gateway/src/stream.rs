//! Streams of answers as server-sent events or as JSON lines.

use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use berth_api::status::Problem;
use bytes::Bytes;
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value as Json;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::failure::{Failure, accepts};
use crate::json::to_json;

/// How often a quiet event stream shows that it lives; proxies cut silent connections after 30 s or more.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// What an event stream begins with: a browser reconnects after 2 s.
const PREAMBLE: &str = "retry: 2000\n\n";

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `text/event-stream`.
    Events,
    /// `application/x-ndjson`: one JSON value a line.
    Lines,
}

impl Format {
    /// Chooses as the client accepts.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        if accepts(headers, "text/event-stream") { Self::Events } else { Self::Lines }
    }

    /// Makes an answer with this body.
    pub(crate) fn respond(self, body: Body) -> Response {
        let content_type = match self {
            Self::Events => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        // nginx holds answers back unless told.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

/// A stream being written. Dropping it ends the call behind it.
struct Feed {
    source: Streaming<Bytes>,
    message: MessageDescriptor,
    format: Format,
    /// The job that a log was asked of; entries of another are members of an array, which has no offsets.
    subject: String,
    keepalive: Interval,
    shutdown: CancellationToken,
    begun: bool,
    done: bool,
}

/// Makes the body of a stream. `shutdown` ends it with a line that says so.
pub(crate) fn body(
    source: Streaming<Bytes>,
    message: MessageDescriptor,
    format: Format,
    subject: String,
    shutdown: CancellationToken,
) -> Body {
    let mut keepalive = tokio::time::interval(KEEPALIVE);
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keepalive.reset();
    let feed = Feed { source, message, format, subject, keepalive, shutdown, begun: false, done: false };
    Body::from_stream(stream::unfold(feed, |mut feed| async move {
        let chunk = feed.next().await?;
        Some((Ok::<_, Infallible>(chunk), feed))
    }))
}

impl Feed {
    async fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        if !self.begun && self.format == Format::Events {
            self.begun = true;
            return Some(Bytes::from_static(PREAMBLE.as_bytes()));
        }
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {
                self.done = true;
                Some(self.failed(&Failure::from(Problem::Unavailable {
                    reason: "SHUTTING_DOWN",
                    message: "this replica is shutting down; resume on another".to_owned(),
                    retry_after: Duration::from_secs(1),
                })))
            }
            answer = self.source.message() => match answer {
                Ok(Some(encoded)) => {
                    self.keepalive.reset();
                    Some(self.show(&encoded))
                }
                Ok(None) => {
                    self.done = true;
                    // Without it a browser would take the end for a broken connection and come back.
                    (self.format == Format::Events).then(|| event(Some("end"), None, &Json::Object(Default::default())))
                }
                Err(status) => {
                    self.done = true;
                    Some(self.failed(&Failure::from(status)))
                }
            },
            _ = self.keepalive.tick(), if self.format == Format::Events => {
                Some(Bytes::from_static(b": keepalive\n\n"))
            }
        }
    }

    fn show(&mut self, encoded: &[u8]) -> Bytes {
        match DynamicMessage::decode(self.message.clone(), encoded) {
            Ok(message) => match self.format {
                Format::Lines => line(&to_json(&message)),
                Format::Events => {
                    let name = message.has_field_by_name("resync").then_some("resync");
                    event(name, resume_id(&message, &self.subject), &to_json(&message))
                }
            },
            Err(error) => {
                self.done = true;
                let what = format!("an answer cannot be decoded: {error}");
                self.failed(&Failure::from(Problem::Internal(what)))
            }
        }
    }

    fn failed(&self, failure: &Failure) -> Bytes {
        match self.format {
            Format::Lines => line(&failure.to_json()),
            Format::Events => event(Some("error"), None, &failure.to_json()),
        }
    }
}

fn line(value: &Json) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

/// Writes one event; compact JSON has no line ends of its own.
fn event(name: Option<&str>, id: Option<String>, value: &Json) -> Bytes {
    let mut text = String::new();
    if let Some(name) = name {
        text = format!("event: {name}\n");
    }
    if let Some(id) = id.filter(|id| !id.is_empty() && !id.contains(['\n', '\r', '\0'])) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "id: {id}");
    }
    let _ = write!(text, "data: {value}\n\n");
    Bytes::from(text)
}

/// Says what `Last-Event-ID` should bring back: the resume token, an event's id, or a place in a log.
fn resume_id(message: &DynamicMessage, subject: &str) -> Option<String> {
    let text = |message: &DynamicMessage, name: &str| {
        message.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned))
    };
    if let Some(token) = text(message, "resume_token") {
        return Some(token);
    }
    if let Some(entries) = message.get_field_by_name("entries") {
        return entries.as_list()?.iter().rev().find_map(|entry| {
            let entry = entry.as_message()?;
            let is_output = entry.get_field_by_name("stream")?.as_enum_number()? != SYSTEM;
            if !is_output || text(entry, "job_id")? != subject {
                return None;
            }
            let attempt = entry.get_field_by_name("attempt")?.as_i32()?;
            let begin = entry.get_field_by_name("offset_bytes")?.as_i64()?;
            let length = i64::try_from(entry.get_field_by_name("data")?.as_bytes()?.len()).ok()?;
            Some(format!("{attempt}:{}", begin.saturating_add(length)))
        });
    }
    message.get_field_by_name("event").and_then(|event| text(event.as_message()?, "id"))
}

const SYSTEM: i32 = berth_api::v1::log_entry::Stream::System as i32;
