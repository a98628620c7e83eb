//! Query strings as JSON objects: `?pageSize=10&after.revision=7` is `{"pageSize":"10","after":{"revision":"7"}}`.

use berth_api::status::Problem;
use prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Map, Value as Json};

use crate::filters::{FILTERED, fold};
use crate::json::{Reader, find_field};
use crate::template::percent_decode;

/// Messages nest less deeply than this.
const MAX_PARTS: usize = 4;

/// Reads a query string into the fields of a request.
///
/// # Errors
/// Fails only when the API crate was built wrong; what the client got wrong goes to the reader.
pub(crate) fn read(
    reader: &mut Reader,
    query: &str,
    request: &MessageDescriptor,
) -> Result<Map<String, Json>, Problem> {
    let mut parameters = pairs(reader, query);
    if FILTERED.contains(&request.full_name()) {
        parameters = fold(reader, parameters)?;
    }
    let mut object = Map::new();
    for (key, value) in parameters {
        let parts: Vec<&str> = key.split('.').collect();
        if parts.len() > MAX_PARTS {
            reader.refuse(shown(&key), "no such query parameter");
        } else if !insert(&mut object, &parts, value, is_list(request, &parts)) {
            reader.refuse(shown(&key), "is given twice");
        }
    }
    Ok(object)
}

fn shown(key: &str) -> String {
    key.chars().take(60).collect()
}

/// Splits and decodes a query string; a name without `=` has an empty value.
fn pairs(reader: &mut Reader, query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode(&text.replace('+', " "));
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decode(key), decode(value)) {
            (Some(key), Some(value)) => pairs.push((key, value)),
            (None, _) | (_, None) => reader.refuse(shown(key), "is not percent-encoded UTF-8"),
        }
    }
    pairs
}

/// Says whether a dotted name leads to a list, whose parameter may be repeated.
fn is_list(request: &MessageDescriptor, parts: &[&str]) -> bool {
    let mut descriptor = request.clone();
    for (index, part) in parts.iter().enumerate() {
        let Some(field) = find_field(&descriptor, part) else {
            return false;
        };
        if index + 1 == parts.len() {
            return field.is_list();
        }
        let Kind::Message(inner) = field.kind() else {
            return false;
        };
        descriptor = inner;
    }
    false
}

/// Puts a value at a dotted name; false when the name is taken.
fn insert(object: &mut Map<String, Json>, parts: &[&str], value: String, list: bool) -> bool {
    match parts {
        [] => false,
        [last] if list => {
            let slot = object.entry(*last).or_insert_with(|| Json::Array(Vec::new()));
            slot.as_array_mut().map(|items| items.push(Json::String(value))).is_some()
        }
        [last] => object.insert((*last).to_owned(), Json::String(value)).is_none(),
        [first, rest @ ..] => {
            let slot = object.entry(*first).or_insert_with(|| Json::Object(Map::new()));
            slot.as_object_mut().is_some_and(|inner| insert(inner, rest, value, list))
        }
    }
}
