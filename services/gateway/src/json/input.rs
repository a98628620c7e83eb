//! JSON into messages, refusing what has no place in them. Every finding names its field.

use std::collections::HashMap;

use berth_api::status::{Problem, Violation};
use berth_api::v1;
use prost::Message;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use serde_json::{Map, Value as Json};

use super::scalar::{integer, read_scalar, shorten, what};
use super::time::{read_duration, read_timestamp};
use super::{nearest, sugar};
use crate::schema;

/// More findings than these help nobody.
const MAX_VIOLATIONS: usize = 16;

/// Reads a message, named by its full name, from JSON.
///
/// # Errors
/// Lists the fields that were refused, with what to write instead. Repeating cannot help.
pub fn from_json(full_name: &str, value: Json) -> Result<DynamicMessage, Problem> {
    let mut message = DynamicMessage::new(schema::message(full_name)?);
    let mut reader = Reader::strict();
    reader.body(&mut message, value);
    reader.finish().map(|()| message)
}

/// Reads a request to submit a job, as `POST /jobs` does: every field of the spec may stand at top level.
///
/// # Errors
/// Lists the fields that were refused, with what to write instead. Repeating cannot help.
pub fn parse_submit(value: Json) -> Result<v1::SubmitJobRequest, Problem> {
    let message = from_json(sugar::SUBMIT, value)?;
    v1::SubmitJobRequest::decode(message.encode_to_vec().as_slice())
        .map_err(|error| Problem::Internal(format!("the request cannot be encoded: {error}")))
}

/// Finds a field by its JSON name or its name in the proto file.
pub(crate) fn find_field(descriptor: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    descriptor.get_field_by_json_name(name).or_else(|| descriptor.get_field_by_name(name))
}

/// Fills a message from one or more JSON values and gathers what it refuses.
pub(crate) struct Reader {
    violations: Vec<Violation>,
    /// What an unknown name is none of: "field" or "query parameter".
    noun: &'static str,
    /// Takes texts where a query has nothing else.
    lenient: bool,
}

impl Reader {
    /// Makes a reader of bodies.
    pub(crate) fn strict() -> Self {
        Self { violations: Vec::new(), noun: "field", lenient: false }
    }

    /// Makes a reader of queries, in which every value is a text.
    pub(crate) fn lenient() -> Self {
        Self { violations: Vec::new(), noun: "query parameter", lenient: true }
    }

    /// Notes a refused field.
    pub(crate) fn refuse(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation { field: field.into(), description: description.into() });
        }
    }

    fn is_full(&self) -> bool {
        self.violations.len() >= MAX_VIOLATIONS
    }

    /// Ends the reading.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.violations.is_empty() { Ok(()) } else { Err(Problem::Invalid(self.violations)) }
    }

    /// Reads a whole body into a message.
    pub(crate) fn body(&mut self, message: &mut DynamicMessage, value: Json) {
        match value {
            Json::Object(map) => self.object(message, map, ""),
            other => self.refuse("body", format!("must be an object, not {}", what(&other))),
        }
    }

    /// Reads an object into a message that may hold fields from elsewhere. `path` is empty or ends with a dot.
    pub(crate) fn object(&mut self, message: &mut DynamicMessage, map: Map<String, Json>, path: &str) {
        let descriptor = message.descriptor();
        let map = sugar::expand(self, &descriptor, map, path);
        let mut seen: Vec<FieldDescriptor> = Vec::new();
        for (key, value) in map {
            if self.is_full() {
                return;
            }
            let Some(field) = find_field(&descriptor, &key) else {
                self.unknown(&descriptor, &key, path);
                continue;
            };
            if value.is_null() {
                continue;
            }
            let at = format!("{path}{}", field.name());
            if seen.contains(&field) {
                self.refuse(at, "is given twice");
                continue;
            }
            if let Some(other) = seen.iter().find(|other| same_oneof(other, &field)) {
                self.refuse(at, format!("excludes {path}{}; give only one", other.name()));
                continue;
            }
            seen.push(field.clone());
            let Some(value) = self.field(&field, value, &at) else {
                continue;
            };
            if message.has_field(&field) && *message.get_field(&field) != value {
                self.refuse(at, "is given twice, with different values");
            } else if let Err(error) = message.try_set_field(&field, value) {
                self.refuse(at, error.to_string());
            }
        }
    }

    fn unknown(&mut self, descriptor: &MessageDescriptor, key: &str, path: &str) {
        let snake = key.contains('_');
        let mut known: Vec<String> = descriptor
            .fields()
            .map(|field| if snake { field.name().to_owned() } else { field.json_name().to_owned() })
            .collect();
        known.extend(sugar::extra_names(descriptor.full_name()).iter().map(|name| (*name).to_owned()));
        let hint = match nearest(key, known.iter().map(String::as_str)) {
            Some(name) => format!("did you mean {name:?}?"),
            None if known.is_empty() => "there is none here".to_owned(),
            None => format!("there are {}", known.join(", ")),
        };
        self.refuse(format!("{path}{}", shorten(key)), format!("no such {}; {hint}", self.noun));
    }

    fn field(&mut self, field: &FieldDescriptor, value: Json, at: &str) -> Option<Value> {
        if field.is_list() {
            self.list(field, value, at)
        } else if field.is_map() {
            self.map(field, value, at)
        } else {
            self.single(&field.kind(), value, at)
        }
    }

    fn list(&mut self, field: &FieldDescriptor, value: Json, at: &str) -> Option<Value> {
        let items = match value {
            Json::Array(items) => items,
            other => {
                let hint = list_hint(field, &other);
                self.refuse(at, format!("must be a list{hint}"));
                return None;
            }
        };
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            if self.is_full() {
                return None;
            }
            values.push(self.single(&field.kind(), item, &format!("{at}[{index}]"))?);
        }
        Some(Value::List(values))
    }

    fn map(&mut self, field: &FieldDescriptor, value: Json, at: &str) -> Option<Value> {
        let Kind::Message(entry) = field.kind() else {
            return None;
        };
        let Json::Object(object) = value else {
            self.refuse(
                at,
                format!("must be an object such as {{\"NAME\":\"value\"}}, not {}", what(&value)),
            );
            return None;
        };
        let (key_kind, kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let mut values = HashMap::with_capacity(object.len());
        for (key, item) in object {
            let shown = format!("{at}[{:?}]", shorten(&key));
            let Some(map_key) = map_key(&key_kind, key) else {
                self.refuse(shown, "is no valid key");
                return None;
            };
            values.insert(map_key, self.single(&kind, item, &shown)?);
        }
        Some(Value::Map(values))
    }

    fn single(&mut self, kind: &Kind, value: Json, at: &str) -> Option<Value> {
        let read = match kind {
            Kind::Message(descriptor) => match (descriptor.full_name(), value) {
                ("google.protobuf.Timestamp", value) => {
                    read_timestamp(&value).map(|(s, n)| seconds_and_nanos(descriptor, s, n))
                }
                ("google.protobuf.Duration", value) => {
                    read_duration(&value).map(|(s, n)| seconds_and_nanos(descriptor, s, n))
                }
                (_, Json::Object(map)) => {
                    let mut message = DynamicMessage::new(descriptor.clone());
                    self.object(&mut message, map, &format!("{at}."));
                    Ok(Value::Message(message))
                }
                (_, other) => Err(format!("must be an object, not {}", what(&other))),
            },
            scalar => read_scalar(scalar, &value, self.lenient),
        };
        read.map_err(|description| self.refuse(at, description)).ok()
    }
}

/// Says how a text that should have been a list is written.
fn list_hint(field: &FieldDescriptor, value: &Json) -> String {
    /// A longer line would bury the advice.
    const MAX_SHOWN_CHARS: usize = 1_000;
    match value {
        Json::String(text) if text.chars().count() <= MAX_SHOWN_CHARS => {
            let quoted = Json::String(text.clone()).to_string();
            if field.full_name() == "berth.v1.JobSpec.command" {
                format!(". Write [\"sh\",\"-c\",{quoted}].")
            } else {
                format!(". Write [{quoted}].")
            }
        }
        other => format!(", not {}", what(other)),
    }
}

fn same_oneof(a: &FieldDescriptor, b: &FieldDescriptor) -> bool {
    a.containing_oneof().is_some_and(|oneof| Some(oneof) == b.containing_oneof())
}

fn map_key(kind: &Kind, key: String) -> Option<MapKey> {
    if matches!(kind, Kind::String) {
        return Some(MapKey::String(key));
    }
    if matches!(kind, Kind::Bool) {
        return key.parse().ok().map(MapKey::Bool);
    }
    integer(&Json::String(key.clone())).ok()?;
    read_scalar(kind, &Json::String(key), true).ok()?.into_map_key()
}

/// Makes a Timestamp or Duration, whose two fields have the same numbers.
fn seconds_and_nanos(descriptor: &MessageDescriptor, seconds: i64, nanos: i32) -> Value {
    let mut message = DynamicMessage::new(descriptor.clone());
    for (number, value) in [(1, Value::I64(seconds)), (2, Value::I32(nanos))] {
        if let Some(field) = descriptor.get_field(number) {
            // The value's kind is the field's by the definition of these two messages.
            let _ = message.try_set_field(&field, value);
        }
    }
    Value::Message(message)
}
