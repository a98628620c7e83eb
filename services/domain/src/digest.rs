//! Short names of longer things: FNV-1a (64 bits; Fowler, Noll, Vo). One is the digest by which a scheduler and an
//! executor notice that they disagree on what is assigned.

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

#[cfg(test)]
mod tests {
    use crate::ids::JobId;

    use super::*;

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
