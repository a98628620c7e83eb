//! Reads a request body as JSON and refuses what JSON readers disagree on: keys that stand twice,
//! invalid UTF-8, nesting without end.

use std::fmt;

use berth_api::status::Problem;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The deepest nesting that is read; serde_json stops there by itself.
const MAX_DEPTH: usize = 128;

/// Reads JSON text; an empty text is `{}`.
///
/// # Errors
/// Says what is wrong and where: invalid UTF-8, a syntax error, a key that stands twice, or nesting deeper
/// than 128 levels. Repeating cannot help.
pub fn parse(body: &[u8]) -> Result<Value, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Problem::field("body", format!("is not UTF-8: byte {} is invalid", error.valid_up_to() + 1))
    })?;
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_str::<Strict>(text).map(|strict| strict.0).map_err(|error| {
        let what = error.to_string();
        Problem::field(
            "body",
            if what.starts_with("recursion limit exceeded") {
                format!("is nested deeper than {MAX_DEPTH} levels")
            } else if what.starts_with(TWICE) {
                format!("must not repeat a key: {what}")
            } else {
                format!("is not JSON: {what}")
            },
        )
    })
}

const TWICE: &str = "the key";

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = access.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                let shown: String = key.chars().take(60).collect();
                return Err(A::Error::custom(format!("{TWICE} {shown:?} stands twice")));
            }
            let Strict(value) = access.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &[u8]) -> String {
        parse(body).expect_err("it must be refused").to_string()
    }

    #[test]
    fn what_readers_disagree_on_is_refused_with_the_place() {
        assert_eq!(
            refused(br#"{"a": {"b": 1, "b": 2}}"#),
            "body must not repeat a key: the key \"b\" stands twice at line 1 column 18"
        );
        assert_eq!(refused(b"{\"a\": \"\xff\"}"), "body: is not UTF-8: byte 8 is invalid");
        assert_eq!(refused(&b"[".repeat(100_000)), "body: is nested deeper than 128 levels");
        for bad in ["{\"a\": NaN}", "{", "{} {}", "{\"a\": 1e999}", "\"\\ud800\"", "image=busybox"] {
            assert!(refused(bad.as_bytes()).starts_with("body: is not JSON: "), "{bad}");
        }
    }

    #[test]
    fn numbers_keep_every_digit_that_fits_64_bits() {
        let value = parse(b"[9007199254740993, -9223372036854775808, 18446744073709551615, -0]");
        assert_eq!(
            value.map(|v| v.to_string()),
            Ok("[9007199254740993,-9223372036854775808,18446744073709551615,-0.0]".to_owned())
        );
    }

    #[test]
    fn nothing_reads_as_an_empty_object() {
        assert_eq!(parse(b" \n"), Ok(Value::Object(Map::new())));
    }
}
