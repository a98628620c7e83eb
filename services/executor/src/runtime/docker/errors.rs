//! What Docker's answers mean. It tells most failures apart by their text alone.

use bollard::errors::Error;

use crate::runtime::{EngineError, PullError, StartError};

/// An answer with a status code and the engine's words, or no answer.
pub(super) enum Answer {
    Status(u16, String),
    None(String),
}

/// Reads an error.
pub(super) fn answer(error: &Error) -> Answer {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            Answer::Status(*status_code, message.trim().to_owned())
        }
        Error::DockerStreamError { error } => Answer::Status(500, error.trim().to_owned()),
        // Everything else happened on the way, so that nothing is known of what the engine did.
        other => Answer::None(innermost(other)),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Makes an engine's error of it.
pub(super) fn engine(error: &Error) -> EngineError {
    match answer(error) {
        Answer::Status(_, message) => EngineError::Failed(message),
        Answer::None(message) => EngineError::Unavailable(message),
    }
}

/// Reads why a start failed. Docker answers a command that cannot be run with 400, and some
/// failures of its own too; only what speaks of the command counts as the job's.
pub(super) fn start(error: &Error) -> StartError {
    match answer(error) {
        Answer::Status(404, _) => StartError::Gone,
        Answer::Status(_, message) => match command_code(&message) {
            Some(code) => StartError::Command { code, message },
            None => StartError::Engine(EngineError::Failed(message)),
        },
        Answer::None(message) => StartError::Engine(EngineError::Unavailable(message)),
    }
}

fn command_code(message: &str) -> Option<i32> {
    let text = message.to_ascii_lowercase();
    let has = |part: &str| text.contains(part);
    if has("docker-init") || has("cgroup") {
        return None;
    }
    let of_command = has("exec: \"") || has("exec /") || has("executable file not found");
    let of_folder = has("chdir to cwd");
    if !of_command && !of_folder {
        return None;
    }
    let not_runnable = ["permission denied", "is a directory", "not a directory", "exec format error"];
    Some(if not_runnable.iter().any(|part| has(part)) { 126 } else { 127 })
}

/// Reads why a pull failed.
pub(super) fn pull(error: &Error) -> PullError {
    match answer(error) {
        Answer::Status(_, message) if pull_is_permanent(&message) => PullError::Permanent(message),
        Answer::Status(_, message) => PullError::Transient(message),
        Answer::None(message) => PullError::Transient(message),
    }
}

fn pull_is_permanent(message: &str) -> bool {
    let text = message.to_ascii_lowercase();
    let any = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let on_the_way = [
        "no such host",
        "connection refused",
        "connection reset",
        "timeout",
        "timed out",
        "deadline exceeded",
        "eof",
        "server misbehaving",
        "network is unreachable",
        "toomanyrequests",
        "too many requests",
        "service unavailable",
        "bad gateway",
        "internal server error",
    ];
    let for_ever = [
        "manifest unknown",
        "not found",
        "does not exist",
        "denied",
        "unauthorized",
        "authentication required",
        "invalid reference",
        "no matching manifest",
        "name unknown",
        "must be lowercase",
    ];
    !any(&on_the_way) && any(&for_ever)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.to_owned() }
    }

    #[test]
    fn pulls_that_can_never_succeed_are_told_from_those_that_may() {
        let permanent = [
            "manifest for x:1 not found: manifest unknown: manifest unknown",
            "pull access denied for x, repository does not exist or may require 'docker login'",
            "invalid reference format",
            "no matching manifest for linux/amd64 in the manifest list entries",
        ];
        for text in permanent {
            assert!(matches!(pull(&said(404, text)), PullError::Permanent(_)), "{text}");
        }
        let transient = [
            "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host",
            "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
            "Get \"https://r/v2/\": net/http: TLS handshake timeout",
            "toomanyrequests: You have reached your pull rate limit",
            "unexpected EOF",
            "something new",
        ];
        for text in transient {
            assert!(matches!(pull(&said(500, text)), PullError::Transient(_)), "{text}");
        }
    }

    #[test]
    fn a_command_that_cannot_be_run_is_the_jobs_own_failure() {
        let runc = "OCI runtime create failed: runc create failed: unable to start container process: ";
        let cases = [
            ("exec: \"nope\": executable file not found in $PATH: unknown", 127),
            ("exec: \"/nope\": stat /nope: no such file or directory: unknown", 127),
            ("exec: \"/etc\": permission denied: unknown", 126),
            ("exec /x: exec format error", 126),
        ];
        for (text, code) in cases {
            let error = start(&said(400, &format!("{runc}{text}")));
            assert!(matches!(&error, StartError::Command { code: c, .. } if *c == code), "{text}: {error:?}");
        }
    }

    #[test]
    fn an_engine_that_cannot_start_anything_is_a_fault() {
        let faults = [
            "failed to create endpoint x on network bridge: could not find bridge docker0: route ip+net",
            "OCI runtime create failed: container init: cgroup: no such file or directory",
            "exec: \"docker-init\": executable file not found in $PATH",
        ];
        for text in faults {
            let error = start(&said(500, text));
            assert!(matches!(error, StartError::Engine(EngineError::Failed(_))), "{text}: {error:?}");
        }
        assert_eq!(start(&said(404, "No such container: x")), StartError::Gone);
    }

    #[test]
    fn no_answer_says_nothing_of_the_attempt() {
        assert!(matches!(engine(&Error::RequestTimeoutError), EngineError::Unavailable(_)));
        assert!(matches!(engine(&said(500, "x")), EngineError::Failed(_)));
    }
}
