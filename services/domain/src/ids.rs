//! Identifiers as types, so that one kind can never be passed for another. A copy of one shares its text.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Says why a text cannot be an identifier.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{kind} {text:?} is not valid: use 1 to {max} of a-z, A-Z, 0-9, '.', '_' and '-', starting with a letter or digit"
)]
pub struct InvalidId {
    kind: &'static str,
    text: String,
    max: usize,
}

/// The longest identifier accepted, in bytes.
pub const MAX_ID_BYTES: usize = 63;

fn parse(kind: &'static str, text: &str) -> Result<Arc<str>, InvalidId> {
    let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let all_known = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if starts_well && all_known && text.len() <= MAX_ID_BYTES {
        Ok(text.into())
    } else {
        let shown = text.chars().take(80).collect();
        Err(InvalidId { kind, text: shown, max: MAX_ID_BYTES })
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text that came from outside.
            ///
            /// # Errors
            /// Fails when the text is empty, too long, or has characters outside the allowed set.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                parse($kind, text).map(Self)
            }

            /// Takes a text that this program made or stored itself.
            pub fn trusted(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// Shows the identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Names one job for ever; a job run again gets a new one.
    JobId,
    "job id"
);
id!(
    /// Names one executor; the operator chooses it and it survives restarts.
    ExecutorId,
    "executor id"
);
id!(
    /// Names one registration of an executor; a new one voids the one before.
    SessionId,
    "session id"
);
id!(
    /// Names one scheduler replica, as the operator chose it.
    SchedulerId,
    "scheduler id"
);
id!(
    /// Names the tenant a job belongs to.
    Namespace,
    "namespace"
);

/// Identifies one attempt at running a job: its number, and the epoch of the leader that assigned it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptRef {
    /// The job that is attempted.
    pub job: JobId,
    /// Counts the attempts of the job from 1.
    pub number: u32,
    /// The leader's epoch at the assignment.
    pub epoch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_could_break_a_key_or_a_line() {
        for bad in ["", "a b", "../x", "a\nb", "{c}", "-x", "é", &"x".repeat(64)] {
            assert!(ExecutorId::parse(bad).is_err(), "{bad:?} must be refused");
        }
        for good in ["a", "executor-1", "node.local_2", &"x".repeat(63)] {
            assert!(ExecutorId::parse(good).is_ok(), "{good:?} must be accepted");
        }
    }
}
