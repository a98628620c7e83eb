//! What an error of the client or the server says about the call: applied, not applied, unknown.

use fred::error::{Error, ErrorKind};

use crate::StoreError;

/// Whether a call may change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It only reads, so that a lost reply loses nothing.
    Read,
    /// It may write.
    Write,
}

/// Says whether the server is not the one whose generation is known.
pub(super) fn is_new_server(error: &Error) -> bool {
    code(error) == "NEWSERVER"
}

/// Says whether the server does not know a script by its hash.
pub(super) fn is_no_script(error: &Error) -> bool {
    code(error) == "NOSCRIPT"
}

/// Turns an error into what the caller can act on. In doubt a write's outcome is unknown.
pub(super) fn classify(error: &Error, access: Access) -> StoreError {
    match code(error) {
        "OOM" | "FULL" => StoreError::Full,
        "FENCED" => StoreError::Fenced,
        "GENERATION" => match error.details().split_whitespace().nth(1).and_then(|text| text.parse().ok()) {
            Some(current) => StoreError::Generation { current },
            None => StoreError::Unavailable { reason: error.to_string() },
        },
        // The server refuses these before the script's first line.
        "NEWSERVER" | "NOSCRIPT" | "LOADING" | "READONLY" | "CLUSTERDOWN" | "MASTERDOWN" | "MOVED"
        | "ASK" | "TRYAGAIN" | "BUSY" | "MISCONF" | "NOREPLICAS" | "NOAUTH" | "NOPERM" | "WRONGPASS"
        | "DENIED" => StoreError::Unavailable { reason: error.to_string() },
        _ if was_not_sent(error) => StoreError::Unavailable { reason: error.to_string() },
        _ => lost(access, error.to_string()),
    }
}

/// What a broken or late reply means.
pub(super) fn lost(access: Access, reason: String) -> StoreError {
    match access {
        Access::Read => StoreError::Unavailable { reason },
        Access::Write => StoreError::Unknown { reason },
    }
}

/// Says what a server did that could not be connected to: the end of a sentence about it.
pub(super) fn no_contact(error: &Error) -> String {
    let details = error.details();
    let has = |words: &[&str]| words.iter().any(|word| details.contains(word));
    if has(&["Connection refused", "ConnectionRefused"]) {
        "refused the connection".to_owned()
    } else if has(&["failed to lookup address", "Name or service not known", "No address"]) {
        "has a name that nobody knows".to_owned()
    } else if has(&["NOAUTH", "WRONGPASS", "NOPERM"]) {
        "wants another user or password".to_owned()
    } else {
        format!("cannot be reached ({error})")
    }
}

/// The error code of a server's reply; some other word for the client's own errors.
fn code(error: &Error) -> &str {
    error.details().split_whitespace().next().unwrap_or_default()
}

/// Says whether the client gave up before it wrote to the connection. Only what fred 10.1 raises
/// in no other place counts: an IO error or a cancellation can hit a command in flight as well.
fn was_not_sent(error: &Error) -> bool {
    let is_unrouted = error.details() == "Failed to route command.";
    let is_refused = error.details().contains("ConnectionRefused");
    is_unrouted || is_refused || matches!(error.kind(), ErrorKind::Backpressure | ErrorKind::InvalidCommand)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_error(kind: ErrorKind, details: &'static str) -> StoreError {
        classify(&Error::new(kind, details), Access::Write)
    }

    #[test]
    fn what_the_server_refuses_is_not_applied() {
        for reply in ["LOADING Redis is loading", "READONLY You can't write", "CLUSTERDOWN", "BUSY a script"]
        {
            let error = write_error(ErrorKind::Unknown, reply);
            assert!(matches!(error, StoreError::Unavailable { .. }), "{reply}: {error:?}");
        }
    }

    #[test]
    fn a_write_cut_off_in_flight_is_unknown_and_a_read_is_not() {
        for kind in [ErrorKind::IO, ErrorKind::Timeout, ErrorKind::Canceled, ErrorKind::Protocol] {
            let error = Error::new(kind, "cut off");
            assert!(classify(&error, Access::Write).outcome_unknown());
            assert!(!classify(&error, Access::Read).outcome_unknown());
        }
    }

    #[test]
    fn memory_that_ran_out_is_full() {
        let reply =
            "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'";
        assert!(matches!(write_error(ErrorKind::Unknown, reply), StoreError::Full));
    }
}
