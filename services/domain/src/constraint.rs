//! What a job asks of an executor's labels, in the words of Kubernetes' label selectors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The most constraints that a job may have.
pub const MAX_CONSTRAINTS: usize = 16;
/// The longest constraint as it is shown, in bytes; what was shown can be read again.
pub const MAX_CONSTRAINT_BYTES: usize = 1_024;

/// Labels of an executor.
pub type Labels = BTreeMap<String, String>;

/// One thing that the labels of an executor must meet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Constraint {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Test {
    /// The label is there.
    Exists,
    /// It is not.
    Absent,
    /// It has one of these values.
    In(BTreeSet<String>),
    /// It has none of these values, or is not there.
    NotIn(BTreeSet<String>),
}

/// A text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConstraint {
    /// It has no such form.
    #[error("is not a constraint; write KEY=VALUE, KEY!=VALUE, KEY in (A, B), KEY notin (A, B), KEY or !KEY")]
    Malformed,
    /// It is too long.
    #[error("is longer than {MAX_CONSTRAINT_BYTES} bytes")]
    TooLong,
}

impl Constraint {
    /// Reads a constraint.
    ///
    /// # Errors
    /// Says what forms there are.
    pub fn parse(text: &str) -> Result<Self, InvalidConstraint> {
        // What is not plain about a long text can be left out when it is shown, but not so much of it.
        if text.len() > 4 * MAX_CONSTRAINT_BYTES {
            return Err(InvalidConstraint::TooLong);
        }
        let text = text.trim();
        let parsed = if let Some(key) = text.strip_prefix('!') {
            named(key).map(|key| Self { key, test: Test::Absent })
        } else if let Some((key, value)) = text.split_once("!=") {
            one(value).zip(named(key)).map(|(values, key)| Self { key, test: Test::NotIn(values) })
        } else if let Some((key, value)) = text.split_once('=') {
            let value = value.strip_prefix('=').unwrap_or(value);
            one(value).zip(named(key)).map(|(values, key)| Self { key, test: Test::In(values) })
        } else if let Some((key, list)) = text.split_once(char::is_whitespace) {
            named(key).and_then(|key| Some(Self { key, test: listed(list.trim())? }))
        } else {
            named(text).map(|key| Self { key, test: Test::Exists })
        };
        let parsed = parsed.ok_or(InvalidConstraint::Malformed)?;
        if parsed.to_string().len() > MAX_CONSTRAINT_BYTES {
            return Err(InvalidConstraint::TooLong);
        }
        Ok(parsed)
    }

    /// The label that it is about.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Says whether labels meet it.
    pub fn is_met_by(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.test {
            Test::Exists => f.write_str(key),
            Test::Absent => write!(f, "!{key}"),
            Test::In(values) => list(f, key, "=", "in", values),
            Test::NotIn(values) => list(f, key, "!=", "notin", values),
        }
    }
}

fn list(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    sign: &str,
    word: &str,
    values: &BTreeSet<String>,
) -> fmt::Result {
    match (values.first(), values.len()) {
        (Some(only), 1) => write!(f, "{key}{sign}{only}"),
        _ => {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            write!(f, "{key} {word} ({})", values.join(", "))
        }
    }
}

/// Words several constraints.
pub fn show(constraints: &[Constraint]) -> String {
    constraints.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

fn named(key: &str) -> Option<String> {
    let key = key.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    (!key.is_empty() && key.chars().all(is_plain)).then(|| key.to_owned())
}

fn valued(value: &str) -> Option<String> {
    let value = value.trim();
    let is_plain = |c: char| !c.is_control() && !matches!(c, ',' | '(' | ')' | '=' | '!');
    (!value.is_empty() && value.chars().all(is_plain)).then(|| value.to_owned())
}

fn one(value: &str) -> Option<BTreeSet<String>> {
    valued(value).map(|value| [value].into())
}

fn listed(text: &str) -> Option<Test> {
    let (word, rest) = text.split_once('(')?;
    let values = rest.strip_suffix(')')?;
    let values: BTreeSet<String> = values.split(',').map(valued).collect::<Option<_>>()?;
    match word.trim() {
        "in" => Some(Test::In(values)),
        "notin" => Some(Test::NotIn(values)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_form_is_read_shown_and_held() {
        let a = labels(&[("zone", "a"), ("ssd", "")]);
        let b = labels(&[("zone", "b")]);
        let cases = [
            ("zone=a", "zone=a", true, false),
            (" zone == a ", "zone=a", true, false),
            ("zone!=a", "zone!=a", false, true),
            ("zone in (c,a , a)", "zone in (a, c)", true, false),
            ("zone  in(b)", "zone=b", false, true),
            ("zone notin (b, c)", "zone notin (b, c)", true, false),
            ("ssd", "ssd", true, false),
            ("!ssd", "!ssd", false, true),
            ("rack!=1", "rack!=1", true, true),
            ("rack=1", "rack=1", false, false),
        ];
        for (text, shown, meets_a, meets_b) in cases {
            let constraint = Constraint::parse(text).expect(text);
            assert_eq!(constraint.to_string(), shown);
            assert_eq!((constraint.is_met_by(&a), constraint.is_met_by(&b)), (meets_a, meets_b), "{text}");
            assert_eq!(Constraint::parse(shown), Ok(constraint));
        }
    }

    #[test]
    fn what_has_another_form_is_refused() {
        let bad = [
            "",
            "!",
            "=a",
            "zone=",
            "zone!=",
            "zone in",
            "zone in ()",
            "zone in (a",
            "zone on (a)",
            "zone a",
            "a=b=c",
            "zone in (a,,b)",
            "z one=a",
            "!a=b",
            "zone=a,b",
            "é",
            "a>1",
        ];
        for text in bad {
            assert_eq!(Constraint::parse(text), Err(InvalidConstraint::Malformed), "{text:?}");
        }
        let long = format!("zone={}", "x".repeat(MAX_CONSTRAINT_BYTES));
        assert_eq!(Constraint::parse(&long), Err(InvalidConstraint::TooLong));
    }

    #[test]
    fn a_list_that_grows_when_it_is_shown_is_measured_as_it_is_shown() {
        let list = |count: usize| (0..count).map(|at| format!("node{at:04}")).collect::<Vec<_>>().join(",");
        let (mut read, mut refused) = (0, 0);
        for count in 90..120 {
            match Constraint::parse(&format!("host in ({})", list(count))) {
                Ok(constraint) => {
                    assert_eq!(Constraint::parse(&constraint.to_string()), Ok(constraint));
                    read += 1;
                }
                Err(error) => {
                    assert_eq!(error, InvalidConstraint::TooLong);
                    refused += 1;
                }
            }
        }
        assert!(read > 0 && refused > 0);
    }

    proptest! {
        #[test]
        fn what_is_read_is_shown_so_that_it_reads_the_same(text in "!?[a-z. ]{0,6}(=|!=|==| in | notin |)[(]?[a-z, !=(é]{0,8}[)]?") {
            if let Ok(constraint) = Constraint::parse(&text) {
                prop_assert_eq!(Constraint::parse(&constraint.to_string()), Ok(constraint));
            }
        }
    }
}
