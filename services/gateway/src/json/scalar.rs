//! Single values: reads JSON into what a field of some kind holds, or says what to write instead.

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use prost_reflect::{EnumDescriptor, Kind, Value};
use serde_json::Value as Json;

use super::nearest::nearest;

/// Whole numbers up to here are exact in a double; a larger one with a fraction or exponent may not be
/// the number that was meant.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a value of a kind that is no message. `lenient` also takes texts for booleans, as a query must.
pub(super) fn read_scalar(kind: &Kind, value: &Json, lenient: bool) -> Result<Value, String> {
    match kind {
        Kind::Bool => read_bool(value, lenient).map(Value::Bool),
        Kind::String => read_text(value).map(Value::String),
        Kind::Bytes => read_bytes(value).map(Value::Bytes),
        Kind::Enum(descriptor) => read_enum(descriptor, value).map(Value::EnumNumber),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => ranged(value).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => ranged(value).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => ranged(value).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => ranged(value).map(Value::U64),
        Kind::Double => read_double(value).map(Value::F64),
        // Not exact by nature: the nearest single is what was asked for.
        Kind::Float => read_double(value).map(|double| Value::F32(double as f32)),
        Kind::Message(_) => Err(format!("must be an object, not {}", what(value))),
    }
}

/// Names the kind of a JSON value for people.
pub(super) fn what(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// Cuts what a user wrote to a length that fits a message.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Reads a whole number, also one written as a text.
pub(super) fn integer(value: &Json) -> Result<i128, String> {
    match value {
        Json::Number(number) => {
            if let Some(integer) = number.as_i64() {
                return Ok(integer.into());
            }
            if let Some(integer) = number.as_u64() {
                return Ok(integer.into());
            }
            match number.as_f64() {
                Some(double) if double.fract() == 0.0 && double.abs() <= MAX_EXACT => Ok(double as i128),
                Some(double) if double.fract() == 0.0 => Err(format!(
                    "is {number}, which is not exact; write every digit, without a fraction or exponent"
                )),
                Some(_) | None => Err(format!("must be a whole number, not {number}")),
            }
        }
        Json::String(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("must be a whole number, not {:?}", shorten(text)));
            }
            text.parse().map_err(|_| format!("must be a whole number, not {:?}", shorten(text)))
        }
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
            Err(format!("must be a whole number, not {}", what(value)))
        }
    }
}

trait Ranged: TryFrom<i128> {
    const RANGE: &'static str;
}

impl Ranged for i32 {
    const RANGE: &'static str = "-2147483648 to 2147483647";
}

impl Ranged for i64 {
    const RANGE: &'static str = "-9223372036854775808 to 9223372036854775807";
}

impl Ranged for u32 {
    const RANGE: &'static str = "0 to 4294967295";
}

impl Ranged for u64 {
    const RANGE: &'static str = "0 to 18446744073709551615";
}

fn ranged<T: Ranged>(value: &Json) -> Result<T, String> {
    let integer = integer(value)?;
    T::try_from(integer).map_err(|_| format!("is {integer}; use {}", T::RANGE))
}

fn read_bool(value: &Json, lenient: bool) -> Result<bool, String> {
    match value {
        Json::Bool(value) => Ok(*value),
        Json::String(text) if lenient => match text.as_str() {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("must be true or false, not {:?}", shorten(text))),
        },
        Json::String(_) | Json::Null | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
            Err(format!("must be true or false, not {}", what(value)))
        }
    }
}

fn read_text(value: &Json) -> Result<String, String> {
    match value {
        Json::String(text) => Ok(text.clone()),
        Json::Bool(_) | Json::Number(_) => {
            let text = shorten(&value.to_string());
            Err(format!("must be a text, not {}. Write \"{text}\".", what(value)))
        }
        Json::Null | Json::Array(_) | Json::Object(_) => Err(format!("must be a text, not {}", what(value))),
    }
}

fn read_double(value: &Json) -> Result<f64, String> {
    match value {
        Json::Number(number) => number.as_f64().ok_or_else(|| format!("is {number}, which is out of range")),
        Json::Null | Json::Bool(_) | Json::String(_) | Json::Array(_) | Json::Object(_) => {
            Err(format!("must be a number, not {}", what(value)))
        }
    }
}

fn read_bytes(value: &Json) -> Result<bytes::Bytes, String> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    let Json::String(text) = value else {
        return Err(format!("must be base64 in a text, not {}", what(value)));
    };
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .map(bytes::Bytes::from)
        .map_err(|error| format!("is not base64: {error}"))
}

/// Gives what every name of an enum starts with: `JOB_STATE_` for `JobState`.
pub(super) fn enum_prefix(descriptor: &EnumDescriptor) -> String {
    let mut prefix = String::new();
    for c in descriptor.name().chars() {
        if c.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(c.to_ascii_uppercase());
    }
    prefix + "_"
}

/// Reads an enum's value by its short or full name in any case, or by its number.
///
/// # Errors
/// Says which names there are.
pub(crate) fn read_enum(descriptor: &EnumDescriptor, value: &Json) -> Result<i32, String> {
    let prefix = enum_prefix(descriptor);
    let short = |name: &str| name.strip_prefix(&prefix).unwrap_or(name).to_owned();
    let names: Vec<String> =
        descriptor.values().filter(|value| value.number() != 0).map(|value| short(value.name())).collect();
    match value {
        Json::String(text) => {
            let wanted = short(&text.to_ascii_uppercase().replace('-', "_"));
            if let Some(found) = descriptor.values().find(|value| short(value.name()) == wanted) {
                return Ok(found.number());
            }
            let hint = match nearest(&wanted, names.iter().map(String::as_str)) {
                Some(name) => format!("did you mean {name:?}?"),
                None => format!("use {}", names.join(", ")),
            };
            Err(format!("must not be {:?}; {hint}", shorten(text)))
        }
        Json::Number(_) => {
            let number = integer(value)?;
            let known = descriptor.values().find(|value| i128::from(value.number()) == number);
            known.map(|value| value.number()).ok_or_else(|| format!("is {number}; use {}", names.join(", ")))
        }
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
            Err(format!("must be a name, not {}; use {}", what(value), names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_are_exact_or_refused() {
        assert_eq!(integer(&json!(9_007_199_254_740_993_i64)), Ok(9_007_199_254_740_993));
        assert_eq!(integer(&json!("-9223372036854775808")), Ok(i128::from(i64::MIN)));
        assert_eq!(integer(&json!(1e3)), Ok(1_000));
        assert_eq!(integer(&json!(-0.0)), Ok(0));
        for bad in [json!(1.5), json!(1e308), json!("1.5"), json!(""), json!("-"), json!("+1"), json!(true)] {
            assert!(integer(&bad).is_err(), "{bad}");
        }
    }
}
