//! Whether states that are taken for one have one future: looked at in every state of a case, each on its own.

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Expectation, Model};

use super::case::Case;
use super::cluster::Cluster;
use super::state::State;
use super::symmetry::same_future;

/// Compares the futures of all states that are taken for one; gives the number of states, and of those that
/// stand for others. It holds all of them in memory, so that only small cases can be looked at.
///
/// # Errors
/// Shows a state that breaks another promise, or leads elsewhere, than one that it is taken for.
pub fn compare(case: Case) -> Result<(usize, usize), String> {
    let cluster = Cluster::new(case);
    let promises = cluster.properties().into_iter().filter(|p| p.expectation == Expectation::Always);
    let promises: Vec<_> = promises.map(|promise| promise.condition).collect();
    let mut futures: BTreeMap<State, (Vec<bool>, BTreeSet<State>)> = BTreeMap::new();
    let mut seen: BTreeSet<State> = cluster.init_states().into_iter().collect();
    let mut open: Vec<State> = seen.iter().cloned().collect();
    while let Some(state) = open.pop() {
        let stands_for_it = same_future(&state);
        let kept = promises.iter().map(|keeps| keeps(&cluster, &state)).collect();
        let (mut events, mut future) = (Vec::new(), BTreeSet::new());
        cluster.actions(&state, &mut events);
        for next in events.into_iter().filter_map(|event| cluster.next_state(&state, event)) {
            future.insert(same_future(&next));
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
        // To stay where one is is no event.
        future.remove(&stands_for_it);
        let own = (kept, future);
        let known = futures.entry(stands_for_it).or_insert_with(|| own.clone());
        if *known != own {
            return Err(format!(
                "{}: this state has another future than one it is taken for: {state:?}",
                case.name
            ));
        }
    }
    Ok((seen.len(), futures.len()))
}
