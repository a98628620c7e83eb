//! Short names of longer things. FNV-1a (64 bits; Fowler, Noll, Vo) where two that meet do no harm: one is the digest by which
//! a scheduler and an executor notice that they disagree on what is assigned. SHA-256 where none may meet: that names specs.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::ids::AttemptRef;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Computes the digest of a set of attempts, in any order: the wrapping sum of each one's hash over
/// `<job>/<number>/<epoch>`. The empty set gives 0.
pub fn assigned_digest<'a>(attempts: impl Iterator<Item = &'a AttemptRef>) -> u64 {
    attempts.map(attempt_hash).fold(0, u64::wrapping_add)
}

fn attempt_hash(attempt: &AttemptRef) -> u64 {
    text_hash(&format!("{}/{}/{}", attempt.job, attempt.number, attempt.epoch))
}

/// Names a text by its hash, for where two that meet do no harm.
pub fn text_hash(text: &str) -> u64 {
    text.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// Names a spec by its content; by default none that there is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SpecHash([u8; 32]);

impl SpecHash {
    /// Reads one that was stored.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads one that was shown.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }

    /// The bytes that are stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SpecHash {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
    }
}

impl fmt::Debug for SpecHash {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

/// What is named: every part with its length, so that no two contents read alike.
#[derive(Default)]
pub(crate) struct Content(Sha256);

impl Content {
    pub(crate) fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    pub(crate) fn perhaps(&mut self, number: Option<u64>) {
        self.number(u64::from(number.is_some()));
        self.number(number.unwrap_or_default());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    pub(crate) fn texts(&mut self, texts: &[String]) {
        self.number(texts.len() as u64);
        texts.iter().for_each(|text| self.text(text));
    }

    pub(crate) fn pairs(&mut self, pairs: &BTreeMap<String, String>) {
        self.number(pairs.len() as u64);
        for (name, value) in pairs {
            self.text(name);
            self.text(value);
        }
    }

    pub(crate) fn hash(self) -> SpecHash {
        SpecHash(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use crate::ids::JobId;

    use super::*;

    #[test]
    fn the_name_of_a_spec_is_read_as_it_is_shown() {
        let mut content = Content::default();
        content.text("a");
        let hash = content.hash();
        assert_eq!(SpecHash::from_hex(&hash.to_string()), Some(hash));
        assert_eq!(SpecHash::from_bytes(hash.as_bytes()), Some(hash));
        for bad in ["", "ab", &"g".repeat(64), &"a".repeat(63), &"a".repeat(66)] {
            assert_eq!(SpecHash::from_hex(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn order_does_not_matter_and_every_part_does() {
        let attempt = |job: &str, number, epoch| AttemptRef { job: JobId::trusted(job), number, epoch };
        let (a, b) = (attempt("a", 1, 1), attempt("b", 1, 1));
        assert_eq!(assigned_digest([&a, &b].into_iter()), assigned_digest([&b, &a].into_iter()));
        assert_eq!(assigned_digest(std::iter::empty()), 0);
        for other in [attempt("a", 2, 1), attempt("a", 1, 2), attempt("c", 1, 1)] {
            assert_ne!(assigned_digest([&a].into_iter()), assigned_digest([&other].into_iter()));
        }
    }
}
