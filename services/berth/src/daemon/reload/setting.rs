//! Reads SCHEDULER_RELOAD.

use anyhow::bail;

/// The variable that asks for reloads, of schedulers and executors alike.
pub(super) const VARIABLE: &str = "SCHEDULER_RELOAD";

/// Says whether reloads are asked for. Unset and empty mean no.
///
/// # Errors
/// Refuses a word that is neither yes nor no.
pub(super) fn is_on(value: Option<&str>) -> anyhow::Result<bool> {
    let value = value.unwrap_or_default().trim();
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => bail!("{VARIABLE}={value:?} is neither yes nor no: write 1 or 0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_and_no_have_several_words_and_others_are_refused() {
        for yes in ["1", "true", "TRUE", "yes", "on", " on "] {
            assert!(is_on(Some(yes)).expect("is known"), "{yes}");
        }
        for no in [None, Some(""), Some("0"), Some("false"), Some("No"), Some("off")] {
            assert!(!is_on(no).expect("is known"), "{no:?}");
        }
        let refusal = is_on(Some("maybe")).expect_err("is neither");
        assert_eq!(refusal.to_string(), "SCHEDULER_RELOAD=\"maybe\" is neither yes nor no: write 1 or 0");
    }
}
