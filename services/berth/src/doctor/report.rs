//! What was found out, and how it is shown. It looks at nothing itself.

use serde::Serialize;
use serde_json::{Value, json};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and something should be done.
    Warn,
    /// It does not work.
    Fail,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A word for programs, for example `redis-version`.
    pub name: &'static str,
    /// How it went.
    pub status: Status,
    /// A sentence on what was found.
    pub message: String,
    /// A sentence on what to do; empty where all is well.
    pub remedy: String,
}

impl Check {
    /// Makes a check that found all well.
    pub fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, message: message.into(), remedy: String::new() }
    }

    /// Makes a check that found something to be mended.
    pub fn warn(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, message: message.into(), remedy: remedy.into() }
    }

    /// Makes a check that found something broken.
    pub fn fail(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, message: message.into(), remedy: remedy.into() }
    }
}

/// Says whether no check failed.
pub fn is_ok(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.status != Status::Fail)
}

/// Shows the checks to programs.
pub fn to_json(checks: &[Check]) -> Value {
    json!({ "ok": is_ok(checks), "checks": checks })
}

/// Shows the checks to people: a line each, the remedy below it, and a closing line.
pub fn to_text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        text.push_str(&format!("{:<4}  {:<16} {}\n", check.status.word(), check.name, check.message));
        if !check.remedy.is_empty() {
            text.push_str(&format!("{:23}{}\n", "", check.remedy));
        }
    }
    let count = |status: Status| checks.iter().filter(|check| check.status == status).count();
    let (ok, warn, fail) = (count(Status::Ok), count(Status::Warn), count(Status::Fail));
    text.push_str(&format!("{ok} OK, {warn} WARN, {fail} FAIL\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Vec<Check> {
        vec![
            Check::ok("docker", "Docker answers."),
            Check::warn("file-limit", "1024 files may be open.", "Allow 4096."),
            Check::fail("grpc-port", "Port 1 is taken.", "Set --grpc-listen."),
        ]
    }

    #[test]
    fn each_check_has_its_word_its_sentence_and_its_remedy() {
        assert_eq!(
            to_text(&checks()),
            "OK    docker           Docker answers.\n\
             WARN  file-limit       1024 files may be open.\n\
             \x20                      Allow 4096.\n\
             FAIL  grpc-port        Port 1 is taken.\n\
             \x20                      Set --grpc-listen.\n\
             1 OK, 1 WARN, 1 FAIL\n"
        );
    }

    #[test]
    fn a_warning_is_no_failure() {
        let all = checks();
        assert!(!is_ok(&all));
        assert!(is_ok(&all[..2]));
        assert_eq!(
            to_json(&all[1..2]),
            json!({ "ok": true, "checks": [{ "name": "file-limit", "status": "WARN",
                "message": "1024 files may be open.", "remedy": "Allow 4096." }] })
        );
    }
}
