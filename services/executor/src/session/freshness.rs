//! Which assignment messages are news. Replicas learn of a change at different times, so that after
//! a change of replica an older message may come after a newer one.

use berth_api::v1::Position;

/// Remembers the newest message, over all sessions of this process.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    /// Generation and epoch.
    newest: (i64, i64),
    /// Generation and revision.
    applied: (i64, i64),
}

impl Freshness {
    /// Says whether an assignment message counts. Older by (generation, epoch) does not; and a
    /// whole set older by (generation, revision) than what was applied does not either: it would
    /// stop what was started since.
    pub fn accepts(&mut self, position: Option<&Position>, epoch: i64, full_set: bool) -> bool {
        let (generation, revision) = position.map_or((0, 0), |at| (at.generation, at.revision));
        if (generation, epoch) < self.newest || (full_set && (generation, revision) < self.applied) {
            return false;
        }
        self.newest = (generation, epoch);
        self.applied = self.applied.max((generation, revision));
        true
    }

    /// The newest position that was applied.
    pub fn applied(&self) -> Position {
        Position { generation: self.applied.0, revision: self.applied.1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(generation: i64, revision: i64) -> Position {
        Position { generation, revision }
    }

    #[test]
    fn a_message_of_an_older_leader_is_ignored() {
        let mut fresh = Freshness::default();
        assert!(fresh.accepts(Some(&at(1, 10)), 5, false));
        assert!(!fresh.accepts(Some(&at(1, 11)), 4, false));
        assert!(fresh.accepts(Some(&at(1, 12)), 5, false), "the same leader goes on");
        assert!(fresh.accepts(Some(&at(2, 1)), 1, true), "a new generation starts its own epochs");
        assert!(!fresh.accepts(Some(&at(1, 99)), 9, true), "an older generation is over");
    }

    #[test]
    fn a_whole_set_from_a_replica_that_lags_is_ignored() {
        let mut fresh = Freshness::default();
        assert!(fresh.accepts(Some(&at(1, 10)), 5, true));
        assert!(!fresh.accepts(Some(&at(1, 9)), 5, true));
        assert!(fresh.accepts(Some(&at(1, 10)), 5, true), "the same set again is harmless");
        assert_eq!(fresh.applied(), at(1, 10));
    }
}
