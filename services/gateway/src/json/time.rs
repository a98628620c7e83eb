//! Times and durations in JSON, as pairs of seconds and nanoseconds on the wire.

use serde_json::Value;

const NANOS: i128 = 1_000_000_000;
/// The most that `google.protobuf.Duration` holds, in seconds: about 10,000 years.
const MAX_SECONDS: i128 = 315_576_000_000;
const EXAMPLES: &str = "write a number of seconds, \"90s\", \"1h30m\" or \"500ms\"";

/// Shows a time as RFC 3339 in UTC with milliseconds; `null` for one outside the years that it can write.
pub(super) fn show_timestamp(seconds: i64, nanos: i32) -> Value {
    match jiff::Timestamp::new(seconds, nanos / 1_000_000 * 1_000_000) {
        Ok(time) => Value::String(time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()),
        Err(_) => Value::Null,
    }
}

/// Reads an RFC 3339 time.
pub(super) fn read_timestamp(value: &Value) -> Result<(i64, i32), String> {
    let example = "write RFC 3339, for example \"2026-01-31T12:00:00Z\"";
    let Value::String(text) = value else {
        return Err(format!("must be a time; {example}"));
    };
    let time: jiff::Timestamp =
        text.parse().map_err(|_| format!("{:?} is no time; {example}", super::scalar::shorten(text)))?;
    let nanos = time.as_nanosecond();
    let seconds = i64::try_from(nanos.div_euclid(NANOS)).unwrap_or(i64::MAX);
    Ok((seconds, i32::try_from(nanos.rem_euclid(NANOS)).unwrap_or(0)))
}

/// Shows a duration in seconds, `"90s"`, with as many decimals as it needs.
pub(super) fn show_duration(seconds: i64, nanos: i32) -> Value {
    let total = i128::from(seconds) * NANOS + i128::from(nanos);
    let sign = if total < 0 { "-" } else { "" };
    let (whole, fraction) = (total.abs() / NANOS, total.abs() % NANOS);
    let decimals = format!(".{fraction:09}");
    Value::String(format!("{sign}{whole}{}s", decimals.trim_end_matches('0').trim_end_matches('.')))
}

/// Reads a duration: a number of seconds, or a text of amounts with units from `ns` to `d`.
pub(crate) fn read_duration(value: &Value) -> Result<(i64, i32), String> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(format!("must be a duration; {EXAMPLES}"));
        }
    };
    let shown = || super::scalar::shorten(&text);
    if text.trim_start().starts_with('-') && text != "-0.0" {
        return Err(format!("is {}; a duration must not be negative", shown()));
    }
    let total = amounts(text.trim().trim_start_matches('-'))
        .ok_or_else(|| format!("{:?} is no duration; {EXAMPLES}", shown()))?;
    if total > MAX_SECONDS * NANOS {
        return Err(format!("is {}; that is longer than 10,000 years", shown()));
    }
    Ok((i64::try_from(total / NANOS).unwrap_or(i64::MAX), i32::try_from(total % NANOS).unwrap_or(0)))
}

/// Sums amounts such as `1h30m`, in nanoseconds; one amount alone may go without a unit.
fn amounts(text: &str) -> Option<i128> {
    let mut rest = text;
    let mut total = 0_i128;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let scale = match unit {
            "" if rest.len() == text.len() && next.is_empty() => NANOS,
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => NANOS,
            "m" | "min" => 60 * NANOS,
            "h" => 3_600 * NANOS,
            "d" => 86_400 * NANOS,
            _ => return None,
        };
        total = total.checked_add(scaled(number, scale)?)?;
        rest = next.trim_start();
        if rest.is_empty() {
            return Some(total);
        }
    }
}

/// Multiplies a decimal number with a scale; what is finer than a nanosecond is cut off.
fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || fraction.len() > 18 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let denominator = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(scale)?.checked_add(part * scale / denominator)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_read_in_every_documented_form() {
        for (text, seconds, nanos) in [
            (json!(90), 90, 0),
            (json!("90"), 90, 0),
            (json!("90s"), 90, 0),
            (json!("1h30m"), 5_400, 0),
            (json!("1h 30m"), 5_400, 0),
            (json!("500ms"), 0, 500_000_000),
            (json!("1.5s"), 1, 500_000_000),
            (json!(1.5), 1, 500_000_000),
            (json!(0), 0, 0),
            (json!(-0.0), 0, 0),
        ] {
            assert_eq!(read_duration(&text), Ok((seconds, nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in [
            json!(""),
            json!("s"),
            json!("1x"),
            json!("1h30"),
            json!("1..5s"),
            json!(-1),
            json!("-1s"),
            json!(1e308),
            json!("9".repeat(60)),
            json!(i64::MIN),
            json!(true),
            json!([]),
        ] {
            assert!(read_duration(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_milliseconds_and_durations_what_they_need() {
        assert_eq!(show_timestamp(1_767_225_600, 123_999_999), json!("2026-01-01T00:00:00.123Z"));
        assert_eq!(read_timestamp(&json!("1969-12-31T23:59:59.5Z")), Ok((-1, 500_000_000)));
        assert_eq!(show_duration(90, 0), json!("90s"));
        assert_eq!(show_duration(1, 500_000_000), json!("1.5s"));
        assert_eq!(show_duration(0, 0), json!("0s"));
        assert_eq!(show_duration(100, 0), json!("100s"));
    }

    proptest! {
        #[test]
        fn a_shown_duration_reads_back(seconds in 0..315_576_000_000_i64, nanos in 0..1_000_000_000_i32) {
            prop_assert_eq!(read_duration(&show_duration(seconds, nanos)), Ok((seconds, nanos)));
        }

        #[test]
        fn no_text_breaks_the_readers(text in ".{0,40}") {
            let _ = (read_duration(&json!(text)), read_timestamp(&json!(text)));
        }
    }
}
