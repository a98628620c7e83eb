//! Messages into JSON. Every field is printed, in the order of its number.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_api::status::Problem;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use serde_json::{Map, Number, Value as Json};

use super::details::ErrorBody;
use super::scalar::enum_prefix;
use super::time::{show_duration, show_timestamp};
use crate::schema;

const LOG_ENTRY: &str = "berth.v1.LogEntry";

/// Shows a generated message, named by its full name, as REST does.
///
/// An unknown name gives the body of an INTERNAL error, as there is nothing better to show.
pub fn render<M: Message>(full_name: &str, message: &M) -> Json {
    decode(full_name, &message.encode_to_vec()).map_or_else(
        |problem| {
            let body = ErrorBody::from(problem);
            Json::Object(Map::from_iter([("error".to_owned(), body.to_json())]))
        },
        |message| to_json(&message),
    )
}

/// Decodes an encoded message, named by its full name.
///
/// # Errors
/// Fails when the API has no such message, or the bytes are none; repeating cannot help.
pub fn decode(full_name: &str, encoded: &[u8]) -> Result<DynamicMessage, Problem> {
    DynamicMessage::decode(schema::message(full_name)?, encoded)
        .map_err(|error| Problem::Internal(format!("a {full_name} cannot be decoded: {error}")))
}

/// Shows a message as REST does.
pub fn to_json(message: &DynamicMessage) -> Json {
    match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => {
            let (seconds, nanos) = seconds_and_nanos(message);
            show_timestamp(seconds, nanos)
        }
        "google.protobuf.Duration" => {
            let (seconds, nanos) = seconds_and_nanos(message);
            show_duration(seconds, nanos)
        }
        "google.rpc.Status" => match message.transcode_to::<tonic_types::pb::Status>() {
            Ok(status) => ErrorBody::new(status.code, &status.message, &status.details).to_json(),
            Err(_) => show_object(message),
        },
        _ => show_object(message),
    }
}

/// Reads the two fields that Timestamp and Duration share.
fn seconds_and_nanos(message: &DynamicMessage) -> (i64, i32) {
    let seconds = message.get_field_by_number(1).and_then(|value| value.as_i64()).unwrap_or(0);
    let nanos = message.get_field_by_number(2).and_then(|value| value.as_i32()).unwrap_or(0);
    (seconds, nanos)
}

fn show_object(message: &DynamicMessage) -> Json {
    let descriptor = message.descriptor();
    let mut object = Map::new();
    for field in descriptor.fields() {
        let shown = if field.supports_presence() && !message.has_field(&field) {
            Json::Null
        } else {
            show_field(&field, &message.get_field(&field))
        };
        object.insert(field.json_name().to_owned(), shown);
        if descriptor.full_name() == LOG_ENTRY && field.name() == "data" {
            let value = message.get_field(&field);
            let text = String::from_utf8_lossy(value.as_bytes().map_or(&[], |bytes| bytes));
            object.insert("text".to_owned(), Json::String(text.into_owned()));
        }
    }
    Json::Object(object)
}

fn show_field(field: &FieldDescriptor, value: &Value) -> Json {
    match value {
        Value::List(items) => items.iter().map(|item| show_value(&field.kind(), item)).collect(),
        Value::Map(entries) => {
            let kind = match field.kind() {
                Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
                other => other,
            };
            let mut entries: Vec<_> =
                entries.iter().map(|(key, value)| (show_key(key), show_value(&kind, value))).collect();
            // The map's own order would change from answer to answer.
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(entries.into_iter().collect())
        }
        single => show_value(&field.kind(), single),
    }
}

fn show_value(kind: &Kind, value: &Value) -> Json {
    match value {
        Value::Bool(value) => Json::Bool(*value),
        Value::I32(value) => Json::from(*value),
        Value::I64(value) => Json::from(*value),
        Value::U32(value) => Json::from(*value),
        Value::U64(value) => Json::from(*value),
        Value::F32(value) => Number::from_f64(f64::from(*value)).map_or(Json::Null, Json::Number),
        Value::F64(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::String(text) => Json::String(text.clone()),
        Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes)),
        Value::EnumNumber(number) => show_enum(kind, *number),
        Value::Message(message) => to_json(message),
        // A list or map is a whole field, never one value.
        Value::List(_) | Value::Map(_) => Json::Null,
    }
}

fn show_enum(kind: &Kind, number: i32) -> Json {
    let Kind::Enum(descriptor) = kind else {
        return Json::from(number);
    };
    match descriptor.get_value(number) {
        Some(value) if number == 0 && value.name().ends_with("_UNSPECIFIED") => Json::Null,
        Some(value) => {
            let prefix = enum_prefix(descriptor);
            Json::String(value.name().strip_prefix(&prefix).unwrap_or(value.name()).to_owned())
        }
        // A newer server may know more values than this program.
        None => Json::from(number),
    }
}

fn show_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
