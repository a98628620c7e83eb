//! Readers of option values. Each refuses with a sentence that says what to write instead.

use std::time::Duration;

use berth_domain::quantity;

/// GPUs as asked for: how many, and of which model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpus {
    /// The model in lower case; `None` takes any.
    pub model: Option<String>,
    /// Whole devices.
    pub count: i32,
}

/// Reads a number of CPUs into thousandths.
pub fn cpus(text: &str) -> Result<i64, String> {
    let millis = quantity::parse_cpus(text).map_err(|e| e.to_string())?;
    i64::try_from(millis).map_err(|_| "too many CPUs".to_owned())
}

/// Reads an amount of memory into bytes.
pub fn memory(text: &str) -> Result<i64, String> {
    let bytes = quantity::parse_memory(text).map_err(|e| e.to_string())?;
    i64::try_from(bytes).map_err(|_| "too much memory".to_owned())
}

/// Reads GPUs as `2`, `a100` or `a100:2`; asks how many where `all` is given.
pub fn gpus(text: &str) -> Result<Gpus, String> {
    if text.eq_ignore_ascii_case("all") {
        return Err(
            "how many? A cluster has no \"all\": write --gpus 1, or --gpus a100:2 for a model".to_owned()
        );
    }
    let (model, count) = quantity::parse_gpus(text).map_err(|e| e.to_string())?;
    let count = i32::try_from(count).map_err(|_| "too many GPUs".to_owned())?;
    Ok(Gpus { model, count })
}

/// Reads a duration as `90s`, `1h30m`, or `90`, which is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    if let Ok(seconds) = trimmed.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(trimmed)
        .map_err(|_| format!("{trimmed:?} is not a duration: write 90s, 10m, 1h30m or a number of seconds"))
}

/// Reads `KEY=VALUE`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

/// Reads the name of a job's state, in any case, with or without its prefix.
pub fn state(text: &str) -> Result<&'static str, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("JOB_STATE_").unwrap_or(&upper);
    let known = berth_domain::job::JOB_STATES.map(|state| state.name());
    known
        .into_iter()
        .find(|state| *state == name)
        .ok_or_else(|| format!("states are {}", known.join(", ").to_ascii_lowercase()))
}

/// Makes a wire duration.
pub fn wire_duration(duration: Duration) -> prost_types::Duration {
    berth_api::convert::duration(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_gpus_asks_how_many() {
        let question = gpus("all").expect_err("must be refused");
        assert!(question.starts_with("how many?"), "{question}");
        assert_eq!(gpus("A100:2"), Ok(Gpus { model: Some("a100".into()), count: 2 }));
        assert_eq!(gpus("1"), Ok(Gpus { model: None, count: 1 }));
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert!(duration("soon").is_err_and(|e| e.contains("write 90s")));
    }

    #[test]
    fn states_are_read_in_any_case() {
        assert_eq!(state("failed"), Ok("FAILED"));
        assert_eq!(state("JOB_STATE_RUNNING"), Ok("RUNNING"));
        assert!(state("done").is_err_and(|e| e.contains("succeeded")));
    }

    #[test]
    fn a_pair_needs_a_key() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(key_value("=b").is_err());
        assert!(key_value("a").is_err());
    }
}
