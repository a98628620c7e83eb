//! Says in one sentence why Docker cannot be reached, and what to do about it: once for each change
//! of the cause, however often it is tried. It knows nothing of what is asked of the engine.

use std::io;
use std::sync::{Mutex, PoisonError};

use bollard::errors::Error;

use super::errors;
use crate::runtime::EngineError;

/// The way to the engine, and what was last said of it.
#[derive(Debug)]
pub(super) struct Reach {
    host: String,
    /// The sentence that holds now; empty while the engine answers. Held for moments only.
    said: Mutex<String>,
}

impl Reach {
    /// Watches the way to an engine, which nothing has been said of.
    pub(super) fn new(host: String) -> Self {
        Self { host, said: Mutex::default() }
    }

    /// Where the engine is, as in DOCKER_HOST.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Reads the error of a call. Where the engine was not reached at all, it says so.
    pub(super) fn judge(&self, error: &Error) -> EngineError {
        match obstacle(error) {
            None => errors::engine(error),
            Some(obstacle) => {
                let sentence = sentence(&self.host, &obstacle);
                self.say(&sentence);
                EngineError::Unreachable(sentence)
            }
        }
    }

    /// Takes note that the engine answers.
    pub(super) fn answered(&self) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.is_empty() {
            said.clear();
            tracing::info!(host = self.host, "the container engine answers again");
        }
    }

    fn say(&self, sentence: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said == sentence {
            tracing::debug!("the container engine is still out of reach");
        } else {
            sentence.clone_into(&mut said);
            tracing::warn!(reason = %sentence, "waiting for the container engine, as long as it takes");
        }
    }
}

/// What stands in the way to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Obstacle {
    /// The socket is there, and this user may not use it.
    Permission,
    /// Anything else, in a few words.
    Other(String),
}

/// Finds out whether a call failed before it reached the engine.
fn obstacle(error: &Error) -> Option<Obstacle> {
    match error {
        // A folder on the way that may not be entered looks like a missing file.
        Error::SocketNotFoundError(path) => match std::fs::metadata(path) {
            Err(error) => of_io(&error),
            Ok(_) => Some(Obstacle::Other("no such file".to_owned())),
        },
        Error::UnsupportedURISchemeError { .. } => {
            Some(Obstacle::Other("write unix://PATH or tcp://HOST:PORT".to_owned()))
        }
        Error::HyperLegacyError { err } if err.is_connect() => Some(on_the_way(err)),
        _ => None,
    }
}

fn on_the_way(error: &(dyn std::error::Error + 'static)) -> Obstacle {
    let mut cause = error;
    loop {
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && let Some(obstacle) = of_io(io)
        {
            return obstacle;
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return Obstacle::Other(cause.to_string()),
        }
    }
}

/// Words what the system says; `None` where the error only wraps another.
fn of_io(error: &io::Error) -> Option<Obstacle> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Some(Obstacle::Permission),
        io::ErrorKind::NotFound => Some(Obstacle::Other("no such file".to_owned())),
        io::ErrorKind::ConnectionRefused => Some(Obstacle::Other("connection refused".to_owned())),
        io::ErrorKind::TimedOut => Some(Obstacle::Other("timed out".to_owned())),
        _ if error.raw_os_error().is_some() => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or(&text);
            Some(Obstacle::Other(text.to_ascii_lowercase()))
        }
        _ => None,
    }
}

fn sentence(host: &str, obstacle: &Obstacle) -> String {
    match (obstacle, host.strip_prefix("unix://")) {
        (Obstacle::Permission, Some(path)) => {
            format!("No permission on {path}. Add this user to group \"docker\", then log in again.")
        }
        (Obstacle::Permission, None) => unreachable_at(host, "permission denied"),
        (Obstacle::Other(cause), _) => unreachable_at(host, cause),
    }
}

fn unreachable_at(host: &str, cause: &str) -> String {
    format!("Docker is not reachable at {host} ({cause}). Start it, or set DOCKER_HOST. Check: docker info")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: io::ErrorKind) -> Obstacle {
        of_io(&io::Error::from(kind)).expect("it is an obstacle")
    }

    #[test]
    fn the_sentence_names_place_cause_and_remedy() {
        assert_eq!(
            sentence("unix:///var/run/docker.sock", &of(io::ErrorKind::ConnectionRefused)),
            "Docker is not reachable at unix:///var/run/docker.sock (connection refused). Start it, or set \
             DOCKER_HOST. Check: docker info"
        );
        assert_eq!(
            sentence("unix:///var/run/docker.sock", &of(io::ErrorKind::PermissionDenied)),
            "No permission on /var/run/docker.sock. Add this user to group \"docker\", then log in again."
        );
        let tcp = sentence("tcp://h:2375", &of(io::ErrorKind::PermissionDenied));
        assert!(tcp.starts_with("Docker is not reachable at tcp://h:2375 (permission denied)"), "{tcp}");
    }

    #[test]
    fn what_the_system_says_is_kept_without_its_number() {
        let host_down = io::Error::from_raw_os_error(113);
        assert_eq!(of_io(&host_down), Some(Obstacle::Other("no route to host".to_owned())));
        assert_eq!(of_io(&io::Error::other("wraps another")), None);
    }

    #[test]
    fn an_answer_is_no_obstacle() {
        let answer = Error::DockerResponseServerError { status_code: 500, message: "x".to_owned() };
        let reach = Reach::new("unix:///x".to_owned());
        assert!(matches!(reach.judge(&answer), EngineError::Failed(_)));
        let gone = reach.judge(&Error::SocketNotFoundError("/x".to_owned()));
        assert!(matches!(gone, EngineError::Unreachable(_)), "{gone:?}");
    }
}
