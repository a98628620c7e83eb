//! A sorted set that tells how many of its members come before one, without looking at each: members stand in pieces, and
//! pieces are counted whole.

/// A piece with more members than this is cut in two.
const MOST: usize = 1_024;

/// The set.
#[derive(Debug, Clone)]
pub struct Ranked<T> {
    /// Sorted, each of them and one after the other; none is empty.
    pieces: Vec<Vec<T>>,
}

impl<T> Default for Ranked<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T: Ord> Ranked<T> {
    /// Adds a member, unless it is there.
    pub fn insert(&mut self, member: T) {
        let at = self.piece(&member);
        let Some(piece) = self.pieces.get_mut(at) else {
            self.pieces.push(vec![member]);
            return;
        };
        if let Err(place) = piece.binary_search(&member) {
            piece.insert(place, member);
        }
        if piece.len() > MOST {
            let rest = piece.split_off(MOST / 2);
            self.pieces.insert(at + 1, rest);
        }
    }

    /// Takes a member out.
    pub fn remove(&mut self, member: &T) {
        let at = self.piece(member);
        let Some(piece) = self.pieces.get_mut(at) else { return };
        if let Ok(place) = piece.binary_search(member) {
            piece.remove(place);
        }
        if piece.is_empty() {
            self.pieces.remove(at);
        }
    }

    /// Counts the members that come before this one, which need not be there itself.
    pub fn rank(&self, member: &T) -> usize {
        let at = self.piece(member);
        let before: usize = self.pieces[..at].iter().map(Vec::len).sum();
        let within = self.pieces.get(at).map_or(0, |piece| piece.partition_point(|one| one < member));
        before + within
    }

    /// All members, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    /// The piece that a member stands in, or would.
    fn piece(&self, member: &T) -> usize {
        let begun = self.pieces.partition_point(|piece| piece.first().is_some_and(|first| first <= member));
        begun.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn it_is_what_a_sorted_set_is(changes in prop::collection::vec((any::<bool>(), 0..6_000_u32), 0..9_000)) {
            let (mut ranked, mut set) = (Ranked::default(), BTreeSet::new());
            for (is_new, member) in &changes {
                if *is_new || member % 3 == 0 {
                    ranked.insert(*member);
                    set.insert(*member);
                } else {
                    ranked.remove(member);
                    set.remove(member);
                }
            }
            prop_assert!(ranked.iter().eq(&set));
            prop_assert!(ranked.pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= MOST));
            for member in (0..6_000).step_by(97) {
                prop_assert_eq!(ranked.rank(&member), set.range(..member).count());
            }
        }
    }
}
