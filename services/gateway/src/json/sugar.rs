//! Shorter ways to write a job: `cpus`, `memory` and `gpus`, and the spec's fields at top level of a submit
//! body. It rewrites them into the plain fields before these are read.

use berth_domain::quantity::{InvalidQuantity, parse_cpus, parse_gpus, parse_memory};
use prost_reflect::MessageDescriptor;
use serde_json::{Map, Value as Json, json};

use super::input::{Reader, find_field};
use super::nearest;
use super::scalar::{integer, what};

/// The full name of the request whose body may hold the spec's fields.
pub(super) const SUBMIT: &str = "berth.v1.SubmitJobRequest";
const SPEC: &str = "berth.v1.JobSpec";
const RESOURCES: &str = "berth.v1.Resources";

const AMOUNTS: &[&str] = &["cpus", "memory", "gpus"];
const NOT_POSITIVE: &str = "must be positive, or left out for the default";

/// Names that a message takes beside its own fields.
pub(super) fn extra_names(full_name: &str) -> &'static [&'static str] {
    match full_name {
        SUBMIT => &["name"],
        SPEC | RESOURCES => AMOUNTS,
        // Short query parameters, which are folded into `filter` before the rest is read.
        "berth.v1.ListJobsRequest" | "berth.v1.WatchJobsRequest" => {
            &["state", "label", "name", "namespace", "executor", "image"]
        }
        _ => &[],
    }
}

/// Rewrites the short forms that a message knows. `path` is empty or ends with a dot.
pub(super) fn expand(
    reader: &mut Reader,
    descriptor: &MessageDescriptor,
    map: Map<String, Json>,
    path: &str,
) -> Map<String, Json> {
    match descriptor.full_name() {
        SUBMIT => lift(reader, descriptor, map, path),
        SPEC => spec(reader, map, path),
        RESOURCES => resources(reader, map, path),
        _ => map,
    }
}

/// Moves the spec's fields from the top level of a submit body into `spec`.
fn lift(
    reader: &mut Reader,
    request: &MessageDescriptor,
    map: Map<String, Json>,
    path: &str,
) -> Map<String, Json> {
    let Some(spec) = request.parent_pool().get_message_by_name(SPEC) else {
        return map;
    };
    let (mut own, mut lifted) = (Map::new(), Map::new());
    for (key, value) in map {
        if key == "name" {
            if own.contains_key("display_name") || own.contains_key("displayName") {
                reader.refuse(format!("{path}display_name"), "is given twice");
            }
            own.insert("display_name".to_owned(), value);
        } else if find_field(request, &key).is_some() || !is_of_spec(request, &spec, &key) {
            own.insert(key, value);
        } else {
            lifted.insert(key, value);
        }
    }
    if lifted.is_empty() {
        return own;
    }
    match own.entry("spec").or_insert(Json::Null) {
        slot @ Json::Null => *slot = Json::Object(lifted),
        Json::Object(inner) => {
            for (key, value) in lifted.into_iter().filter(|(_, value)| !value.is_null()) {
                let name = canonical(&spec, &key);
                if inner.iter().any(|(given, held)| !held.is_null() && canonical(&spec, given) == name) {
                    reader.refuse(
                        format!("{path}spec.{name}"),
                        "is given at top level and inside spec; keep one",
                    );
                } else {
                    inner.insert(key, value);
                }
            }
        }
        // Refused as no object when it is read.
        Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {}
    }
    own
}

/// Says whether a key that the request does not have is, or was meant to be, one of the spec.
fn is_of_spec(request: &MessageDescriptor, spec: &MessageDescriptor, key: &str) -> bool {
    if find_field(spec, key).is_some() || AMOUNTS.contains(&key) {
        return true;
    }
    let of_request: Vec<String> = request.fields().map(|field| field.name().to_owned()).collect();
    let of_spec: Vec<String> = spec.fields().map(|field| field.name().to_owned()).collect();
    let all = of_spec.iter().chain(&of_request).map(String::as_str).chain(AMOUNTS.iter().copied());
    nearest(key, all).is_none_or(|name| !of_request.iter().any(|own| own == name))
}

fn canonical(descriptor: &MessageDescriptor, key: &str) -> String {
    find_field(descriptor, key).map_or_else(|| key.to_owned(), |field| field.name().to_owned())
}

/// Moves `cpus`, `memory` and `gpus` of a spec into its `resources`.
fn spec(reader: &mut Reader, mut map: Map<String, Json>, path: &str) -> Map<String, Json> {
    let short = amounts(reader, &mut map, path);
    if short.is_empty() {
        return map;
    }
    match map.entry("resources").or_insert(Json::Null) {
        slot @ Json::Null => {
            *slot = Json::Object(short.into_iter().map(|a| (a.field.to_owned(), a.value)).collect())
        }
        Json::Object(inner) => merge(reader, inner, short, path),
        // Refused as no object when it is read.
        Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {}
    }
    map
}

/// Rewrites `cpus`, `memory` and `gpus` inside resources, and refuses what the wire cannot tell from unset.
fn resources(reader: &mut Reader, mut map: Map<String, Json>, path: &str) -> Map<String, Json> {
    let short = amounts(reader, &mut map, path);
    merge(reader, &mut map, short, path);
    for (snake, camel) in [("cpu_millis", "cpuMillis"), ("memory_bytes", "memoryBytes")] {
        for key in [snake, camel] {
            if map.get(key).is_some_and(|value| integer(value).is_ok_and(|amount| amount <= 0)) {
                map.remove(key);
                reader.refuse(format!("{path}{snake}"), NOT_POSITIVE);
            }
        }
    }
    map
}

/// An amount in its plain field, and the short name it was written under.
struct Amount {
    written: &'static str,
    field: &'static str,
    value: Json,
}

fn merge(reader: &mut Reader, into: &mut Map<String, Json>, amounts: Vec<Amount>, path: &str) {
    for Amount { written, field, value } in amounts {
        let camel = match field {
            "cpu_millis" => "cpuMillis",
            "memory_bytes" => "memoryBytes",
            "gpu_count" => "gpuCount",
            _ => "gpuModels",
        };
        if [field, camel, written].iter().any(|key| into.get(*key).is_some_and(|value| !value.is_null())) {
            reader.refuse(format!("{path}{written}"), format!("is given twice, also as {field}; keep one"));
        } else {
            into.insert(field.to_owned(), value);
        }
    }
}

/// Takes the short forms out of a map and reads them.
fn amounts(reader: &mut Reader, map: &mut Map<String, Json>, path: &str) -> Vec<Amount> {
    let mut found = Vec::new();
    for written in AMOUNTS.iter().copied() {
        let Some(value) = map.shift_remove(written).filter(|value| !value.is_null()) else {
            continue;
        };
        let read = match written {
            "cpus" => cpus(&value).map(|millis| vec![("cpu_millis", json!(millis))]),
            "memory" => memory(&value).map(|bytes| vec![("memory_bytes", json!(bytes))]),
            _ => gpus(&value),
        };
        match read {
            Ok(fields) => {
                found.extend(fields.into_iter().map(|(field, value)| Amount { written, field, value }));
            }
            Err(description) => reader.refuse(format!("{path}{written}"), description),
        }
    }
    found
}

fn cpus(value: &Json) -> Result<u64, String> {
    match value {
        Json::Number(number) => positive(&number.to_string(), parse_cpus),
        Json::String(text) => positive(text, parse_cpus),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
            Err(format!("must be a number of CPUs such as 2, 0.5 or \"500m\", not {}", what(value)))
        }
    }
}

fn memory(value: &Json) -> Result<u64, String> {
    match value {
        Json::Number(_) => positive(&integer(value)?.to_string(), parse_memory),
        Json::String(text) => positive(text, parse_memory),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
            Err(format!("must be an amount such as \"512Mi\" or a number of bytes, not {}", what(value)))
        }
    }
}

/// Reads an amount, and says of zero and less what the field needs.
fn positive(text: &str, parse: fn(&str) -> Result<u64, InvalidQuantity>) -> Result<u64, String> {
    parse(text).map_err(|error| {
        let digits = || text.bytes().filter(u8::is_ascii_digit);
        let is_zero =
            matches!(error, InvalidQuantity::OutOfRange { .. }) && digits().all(|digit| digit == b'0');
        let is_negative = text.trim().starts_with('-') && digits().count() > 0;
        if is_zero || is_negative { NOT_POSITIVE.to_owned() } else { error.to_string() }
    })
}

fn gpus(value: &Json) -> Result<Vec<(&'static str, Json)>, String> {
    let (models, count) = match value {
        Json::Number(_) => (Vec::new(), gpu_count(value)?),
        Json::String(text) => {
            let (model, count) = parse_gpus(text).map_err(|error| error.to_string())?;
            (model.into_iter().map(Json::String).collect(), i128::from(count))
        }
        Json::Object(object) => typed_gpus(object)?,
        Json::Null | Json::Bool(_) | Json::Array(_) => {
            return Err(format!(
                "must be 1, \"a100:2\" or {{\"type\":\"a100\",\"count\":2}}, not {}",
                what(value)
            ));
        }
    };
    let count = i32::try_from(count).map_err(|_| format!("asks for {count} GPUs; that is out of range"))?;
    let mut fields = vec![("gpu_count", json!(count))];
    if !models.is_empty() {
        fields.push(("gpu_models", Json::Array(models)));
    }
    Ok(fields)
}

fn gpu_count(value: &Json) -> Result<i128, String> {
    let count = integer(value)?;
    if count < 0 { Err(format!("is {count}; it must not be negative")) } else { Ok(count) }
}

fn typed_gpus(object: &Map<String, Json>) -> Result<(Vec<Json>, i128), String> {
    let (mut models, mut count) = (Vec::new(), 1);
    for (key, value) in object {
        match (key.as_str(), value) {
            ("type" | "model", Json::String(model)) => models.push(json!(model.to_ascii_lowercase())),
            ("type" | "model" | "count", Json::Null) => {}
            ("type" | "model", other) => {
                return Err(format!("has a {key} that must be a text such as \"a100\", not {}", what(other)));
            }
            ("count", value) => {
                count = gpu_count(value).map_err(|error| format!("has a count that {error}"))?;
            }
            _ => return Err(format!("has {key:?}; it takes \"type\" and \"count\"")),
        }
    }
    if models.len() > 1 {
        return Err("has both \"type\" and \"model\", which are the same; keep one".to_owned());
    }
    Ok((models, count))
}
