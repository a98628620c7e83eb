//! Compares what was said with a file beside the tests, word for word.

use std::path::Path;

/// Compares a text with `golden/NAME.txt`, after each variable part has become its placeholder.
///
/// # Panics
/// Panics with both texts when they differ.
pub fn check(name: &str, said: &str, variable: &[(&str, &str)]) {
    let mut seen = said.trim_end().to_owned();
    for (part, placeholder) in variable {
        seen = seen.replace(part, placeholder);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/messages/golden/{name}.txt"));
    let golden =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}\n{seen}", path.display()));
    let golden = golden.trim_end();
    assert!(golden == seen, "{name} is not said as agreed\n  agreed: {golden}\n  said:   {seen}");
}

/// Replaces the number that stands behind some words.
pub fn without_number(text: &str, words: &str, placeholder: &str) -> String {
    let (before, after) = text.split_once(words).unwrap_or_else(|| panic!("{words:?} is said in {text:?}"));
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    assert!(rest.len() < after.len(), "a number follows {words:?} in {text:?}");
    format!("{before}{words}{placeholder}{rest}")
}

/// The reason that a log line names last.
pub fn reason(line: &str) -> &str {
    line.split_once(" reason=").unwrap_or_else(|| panic!("a reason is named in {line:?}")).1
}
