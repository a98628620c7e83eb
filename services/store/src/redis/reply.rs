//! Reads the replies of scripts.

use berth_domain::ids::JobId;
use bytes::Bytes;
use fred::types::Value;

use crate::{Conflict, StoreError, Verdict};

/// The values of a list, taken one after the other.
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    /// Takes a reply that is a list.
    pub(super) fn new(value: Value) -> Result<Self, StoreError> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            other => Err(strange(&other)),
        }
    }

    /// How many values are left.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a value.
    pub(super) fn value(&mut self) -> Result<Value, StoreError> {
        self.0.next().ok_or_else(|| StoreError::Corrupt { reason: "redis replied too little".to_owned() })
    }

    /// Takes bytes, or nothing where the record has none.
    pub(super) fn bytes(&mut self) -> Result<Option<Bytes>, StoreError> {
        let value = self.value()?;
        Ok(if value.is_null() { None } else { value.into_bytes() })
    }

    /// Takes a text.
    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        let value = self.value()?;
        value.as_string().ok_or_else(|| strange(&value))
    }

    /// Takes a number.
    pub(super) fn number(&mut self) -> Result<u64, StoreError> {
        let value = self.value()?;
        value.as_u64().ok_or_else(|| strange(&value))
    }

    /// Takes a list.
    pub(super) fn list(&mut self) -> Result<Self, StoreError> {
        Self::new(self.value()?)
    }
}

/// Reads a verdict: a letter, and what belongs to it.
pub(super) fn verdict(text: &str) -> Result<Verdict, StoreError> {
    let mut chars = text.chars();
    let letter = chars.next().unwrap_or(' ');
    let rest = chars.as_str();
    let revision = || rest.parse().map_err(|_| strange(&Value::from(text)));
    Ok(match letter {
        'A' => Verdict::Applied(revision()?),
        'E' => Verdict::Existing(JobId::trusted(rest)),
        'I' => Verdict::Conflict(Conflict::Idempotency(JobId::trusted(rest))),
        'J' => Verdict::Conflict(Conflict::JobExists),
        'M' => Verdict::Conflict(Conflict::Missing),
        'R' => Verdict::Conflict(Conflict::Revision(revision()?)),
        'S' => Verdict::Conflict(Conflict::Session),
        'T' => Verdict::Conflict(Conflict::Attempt),
        'N' => Verdict::Conflict(Conflict::ExecutorNotActive),
        'C' => Verdict::Conflict(Conflict::Capacity),
        'D' => Verdict::Conflict(Conflict::Device),
        _ => return Err(strange(&Value::from(text))),
    })
}

/// Says that a reply has another form than the scripts give it.
pub(super) fn strange(value: &Value) -> StoreError {
    StoreError::Corrupt { reason: format!("redis replied {value:?}") }
}
