//! The order of the ready queue.

/// What one level of priority is worth: more than any revision a cluster will reach, and small
/// enough that every score is exact in a double.
const LEVEL: u64 = 1 << 44;

/// The part of a ready job's score that its priority makes; its submit revision is added. Lower
/// scores come first.
pub(crate) fn priority_base(priority: u8) -> u64 {
    u64::from(100_u8.saturating_sub(priority)) * LEVEL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_of_priority_outweighs_every_revision() {
        let newest = LEVEL - 1;
        assert!(priority_base(51) + newest < priority_base(50) + 1);
        assert_eq!(priority_base(100), 0);
    }

    #[test]
    fn every_score_is_exact_in_a_double() {
        assert!(priority_base(0) + LEVEL < 1 << 53);
    }
}
