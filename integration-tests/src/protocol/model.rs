//! The small cluster as a model of `stateright`, and the check of one case: every order of events.

use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use super::case::Case;
use super::case::Weakness;
use super::cluster::{Action, Cluster};
use super::properties::properties;
use super::state::State;
use super::symmetry::{same_future, same_names};

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first_state()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.events(state, actions);
    }

    fn next_state(&self, state: &State, event: Action) -> Option<State> {
        Some(self.after(state, event))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties(self)
    }
}

/// What the check of a case has shown.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The case.
    pub case: Case,
    /// States that differ in more than names.
    pub states: usize,
    /// The most events in a row that led to a state nobody had seen.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Promises that hold in every state.
    pub kept: Vec<&'static str>,
    /// Promises that do not, each with the events that break it.
    pub broken: Vec<(&'static str, Vec<Action>)>,
    /// Events that were come across, as they must.
    pub met: Vec<&'static str>,
    /// Events that never happened, so that too little was tried.
    pub missed: Vec<&'static str>,
}

impl Checked {
    /// Says whether every promise holds, and nothing was missed.
    pub fn is_ok(&self) -> bool {
        self.broken.is_empty() && self.missed.is_empty()
    }
}

/// Looks at every order of events of a case.
pub fn check(case: Case, threads: usize) -> Checked {
    let began = Instant::now();
    // What cannot matter by the rules may matter where one is left out.
    let alike = if case.weakness == Weakness::None { same_future } else { same_names };
    let checker = Cluster::new(case).checker().threads(threads).symmetry_fn(alike).spawn_dfs().join();
    checked(case, &checker, began)
}

/// Looks at the orders of events of a case, shortest first, until one breaks a promise or the time is over.
/// It takes no state for another.
pub fn shortest(case: Case, limit: Duration) -> Checked {
    let began = Instant::now();
    let finish = HasDiscoveries::AnyFailures;
    let checker = Cluster::new(case).checker().finish_when(finish).timeout(limit).spawn_bfs().join();
    checked(case, &checker, began)
}

fn checked(case: Case, checker: &impl Checker<Cluster>, began: Instant) -> Checked {
    let mut checked = Checked {
        case,
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: began.elapsed(),
        kept: Vec::new(),
        broken: Vec::new(),
        met: Vec::new(),
        missed: Vec::new(),
    };
    let mut found = checker.discoveries();
    for Property { expectation, name, condition } in checker.model().properties() {
        match (expectation, found.remove(name)) {
            (Expectation::Sometimes, Some(_)) => checked.met.push(name),
            (Expectation::Sometimes, None) => checked.missed.push(name),
            (Expectation::Always | Expectation::Eventually, None) => checked.kept.push(name),
            (Expectation::Always | Expectation::Eventually, Some(path)) => {
                checked.broken.push((name, up_to_the_break(checker.model(), condition, path.into_vec())));
            }
        }
    }
    checked
}

/// The events that led to the first state in which a promise was broken.
fn up_to_the_break(
    cluster: &Cluster,
    keeps: fn(&Cluster, &State) -> bool,
    path: Vec<(State, Option<Action>)>,
) -> Vec<Action> {
    let before = path.into_iter().take_while(|(state, _)| keeps(cluster, state));
    before.filter_map(|(_, event)| event).collect()
}
