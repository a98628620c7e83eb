//! Amounts as people write them: CPUs, memory and durations, and back.

use thiserror::Error;

/// Says why a text is not an amount, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidQuantity {
    /// `MB` and `GB` mean 10^6 to some and 2^20 to others.
    #[error("{0:?} is ambiguous: write \"{1}i\" for powers of 1024, as in 512Mi or 2Gi")]
    Ambiguous(String, String),
    /// Not a number with a known unit.
    #[error("{text:?} is not {what}: write {example}")]
    Malformed {
        /// What was read.
        text: String,
        /// What it should have been.
        what: &'static str,
        /// Examples.
        example: &'static str,
    },
    /// Zero, negative, or too large to count.
    #[error("{text:?} is out of range: {what} must be {range}")]
    OutOfRange {
        /// What was read.
        text: String,
        /// What it should have been.
        what: &'static str,
        /// The range.
        range: &'static str,
    },
}

const MEMORY: &str = "an amount of memory";
const MEMORY_EXAMPLE: &str = "512Mi, 2Gi, 512m (Docker's) or a number of bytes";

/// Reads an amount of memory with Docker's meaning: `512m` and `512Mi` are 512 MiB, a plain number is bytes.
///
/// # Errors
/// Refuses `MB`, `GB` and their like as ambiguous, and what is no positive amount.
pub fn parse_memory(text: &str) -> Result<u64, InvalidQuantity> {
    let malformed =
        || InvalidQuantity::Malformed { text: shorten(text), what: MEMORY, example: MEMORY_EXAMPLE };
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "ki" | "kib" => 10,
        "m" | "mi" | "mib" => 20,
        "g" | "gi" | "gib" => 30,
        "t" | "ti" | "tib" => 40,
        "kb" | "mb" | "gb" | "tb" => {
            let better = trimmed[..trimmed.len() - 1].to_owned();
            return Err(InvalidQuantity::Ambiguous(shorten(text), better));
        }
        _ => return Err(malformed()),
    };
    let (whole, fraction) = decimal(number).ok_or_else(malformed)?;
    let bytes = (u128::from(whole) << shift) + ((u128::from(fraction) << shift) / 1_000_000_000);
    match u64::try_from(bytes) {
        Ok(bytes) if bytes > 0 && bytes <= i64::MAX as u64 => Ok(bytes),
        Ok(_) | Err(_) => {
            Err(InvalidQuantity::OutOfRange { text: shorten(text), what: "memory", range: "1 byte to 8 EiB" })
        }
    }
}

/// Reads a number of CPUs, `1.5` or `1500m`, into thousandths.
///
/// # Errors
/// Refuses what is no number, has a finer fraction than a thousandth, or is not positive.
pub fn parse_cpus(text: &str) -> Result<u64, InvalidQuantity> {
    let malformed = || InvalidQuantity::Malformed {
        text: shorten(text),
        what: "a number of CPUs",
        example: "2, 0.5 or 500m",
    };
    let trimmed = text.trim();
    let millis = match trimmed.strip_suffix('m') {
        Some(millis) => millis.parse::<u64>().ok().map(u128::from).ok_or_else(malformed)?,
        None => {
            let (whole, fraction) = decimal(trimmed).ok_or_else(malformed)?;
            if fraction % 1_000_000 != 0 {
                return Err(malformed());
            }
            u128::from(whole) * 1_000 + u128::from(fraction / 1_000_000)
        }
    };
    match u64::try_from(millis) {
        Ok(millis) if (1..=1_000_000_000).contains(&millis) => Ok(millis),
        Ok(_) | Err(_) => {
            Err(InvalidQuantity::OutOfRange { text: shorten(text), what: "CPUs", range: "0.001 to 1000000" })
        }
    }
}

/// Reads GPUs as `2`, `a100:2` or `a100`; gives the model, if named, and the count.
///
/// # Errors
/// Refuses what has another form; `all` is refused with the question how many.
pub fn parse_gpus(text: &str) -> Result<(Option<String>, u32), InvalidQuantity> {
    let malformed = || InvalidQuantity::Malformed {
        text: shorten(text),
        what: "a number of GPUs (how many, not \"all\")",
        example: "1, a100 or a100:2",
    };
    let trimmed = text.trim();
    if let Ok(count) = trimmed.parse::<u32>() {
        return Ok((None, count));
    }
    let (model, count) = match trimmed.split_once(':') {
        Some((model, count)) => (model, count.parse::<u32>().map_err(|_| malformed())?),
        None => (trimmed, 1),
    };
    let plain = !model.is_empty()
        && model.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !plain || model == "all" {
        return Err(malformed());
    }
    Ok((Some(model.to_ascii_lowercase()), count))
}

/// Shows thousandths of a CPU as a plain number: `1500` is `1.5`.
pub fn show_cpus(cpu_millis: u64) -> String {
    let text = format!("{}.{:03}", cpu_millis / 1_000, cpu_millis % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Words a number of CPUs: `1 CPU`, `1.5 CPUs`.
pub fn count_of_cpus(cpu_millis: u64) -> String {
    format!("{} {}", show_cpus(cpu_millis), if cpu_millis == 1_000 { "CPU" } else { "CPUs" })
}

/// Words a number of GPUs: `1 GPU`, `2 GPUs`.
pub fn count_of_gpus(count: u32) -> String {
    format!("{count} {}", if count == 1 { "GPU" } else { "GPUs" })
}

/// Shows bytes with the largest binary unit that keeps at most one decimal: `512Mi`, `1.5Gi`.
pub fn show_memory(bytes: u64) -> String {
    for (shift, unit) in [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if bytes >= 1 << shift {
            let tenths = (u128::from(bytes) * 10) >> shift;
            return if tenths % 10 == 0 {
                format!("{}{unit}", tenths / 10)
            } else {
                format!("{}.{}{unit}", tenths / 10, tenths % 10)
            };
        }
    }
    format!("{bytes}B")
}

/// Splits a non-negative decimal into whole part and billionths.
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || fraction.len() > 9
    {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    Some((whole, format!("{fraction:0<9}").parse().ok()?))
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_has_dockers_meaning() {
        assert_eq!(parse_memory("512m"), Ok(512 << 20));
        assert_eq!(parse_memory("512Mi"), Ok(512 << 20));
        assert_eq!(parse_memory("1.5g"), Ok(3 << 29));
        assert_eq!(parse_memory("1000"), Ok(1000));
    }

    #[test]
    fn ambiguous_and_meaningless_memory_is_refused_with_a_hint() {
        let message = parse_memory("2GB").expect_err("must be refused").to_string();
        assert_eq!(message, "\"2GB\" is ambiguous: write \"2Gi\" for powers of 1024, as in 512Mi or 2Gi");
        for bad in ["", "-1", "0", "m", "1e9", "2 bananas", "99999999999999999999g", "NaN"] {
            assert!(parse_memory(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn cpus_are_read_in_thousandths() {
        assert_eq!(parse_cpus("0.5"), Ok(500));
        assert_eq!(parse_cpus("1500m"), Ok(1500));
        for bad in ["", "0", "-1", "0.0001", "1e308", "NaN", "inf", "2x"] {
            assert!(parse_cpus(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn gpus_are_a_count_or_a_model_with_a_count() {
        assert_eq!(parse_gpus("2"), Ok((None, 2)));
        assert_eq!(parse_gpus("A100:2"), Ok((Some("a100".into()), 2)));
        assert!(parse_gpus("all").is_err());
    }

    #[test]
    fn one_of_a_kind_is_singular() {
        let cpus = [500, 1_000, 1_500, 2_000].map(count_of_cpus);
        assert_eq!(cpus, ["0.5 CPUs", "1 CPU", "1.5 CPUs", "2 CPUs"]);
        assert_eq!([0, 1, 2].map(count_of_gpus), ["0 GPUs", "1 GPU", "2 GPUs"]);
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_parser(text in ".{0,40}") {
            let _ = (parse_memory(&text), parse_cpus(&text), parse_gpus(&text));
        }

        #[test]
        fn shown_cpus_read_back(millis in 1_u64..1_000_000_000) {
            prop_assert_eq!(parse_cpus(&show_cpus(millis)), Ok(millis));
        }
    }
}
