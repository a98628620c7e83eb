//! The shortest story of a broken promise: parts of the plan are left out for as long as the promise is
//! still broken, and what remains is told.

use std::collections::BTreeSet;
use std::fmt;

use super::plan::{Part, Plan};
use super::run::play;
use crate::history::Violation;

/// The most runs that are spent on one story.
const TRIES: usize = 120;

/// What happened, told with as little as it takes.
#[derive(Debug, Clone)]
pub struct Story {
    /// The seed.
    pub seed: u64,
    /// What was kept of its plan; `None` when that is everything.
    pub only: Option<BTreeSet<Part>>,
    /// What went wrong on purpose, in the order of its begin.
    pub faults: Vec<String>,
    /// What was asked for.
    pub wishes: Vec<String>,
    /// What was not as promised.
    pub violations: Vec<Violation>,
}

impl Story {
    /// The options that play it again.
    pub fn again(&self) -> String {
        let only = self.only.iter().map(|parts| {
            let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
            format!(" --only {}", parts.join(","))
        });
        format!("--seed {}{}", self.seed, only.collect::<String>())
    }
}

impl fmt::Display for Story {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "seed {}:", self.seed)?;
        for line in self.wishes.iter().chain(&self.faults) {
            writeln!(formatter, "  {line}")?;
        }
        for violation in &self.violations {
            writeln!(formatter, "  => {violation}")?;
        }
        write!(formatter, "  again: ./run sim {}", self.again())
    }
}

/// Tells the shortest story found in which the first of the broken promises is broken.
pub fn shortened(plan: &Plan) -> Option<Story> {
    let all: BTreeSet<Part> = plan.parts().into_iter().collect();
    let mut kept = all.clone();
    let mut violations = play(plan).violations();
    let promise = violations.first()?.invariant;
    let mut tries = 1;
    let mut size = kept.len().div_ceil(2);
    while size > 0 && tries < TRIES {
        let mut is_shorter = false;
        let parts: Vec<Part> = plan.parts().into_iter().filter(|part| kept.contains(part)).collect();
        for some in parts.chunks(size) {
            if tries >= TRIES {
                break;
            }
            tries += 1;
            let fewer: BTreeSet<Part> = kept.iter().filter(|part| !some.contains(part)).copied().collect();
            let found = play(&plan.only(&fewer)).violations();
            if found.iter().any(|violation| violation.invariant == promise) {
                (kept, violations, is_shorter) = (fewer, found, true);
            }
        }
        // Single parts are tried again for as long as that helps.
        size = if size == 1 && !is_shorter { 0 } else { (size / 2).max(1) };
    }
    Some(told(&plan.only(&kept), (kept != all).then_some(kept), violations))
}

fn told(plan: &Plan, only: Option<BTreeSet<Part>>, violations: Vec<Violation>) -> Story {
    let wish = |wish: &super::plan::Wish| {
        let mut line = format!("job.{}: {} ({:?})", wish.number, wish.command, wish.on_lost);
        if let Some(after) = wish.abort_after {
            line.push_str(&format!(", aborted after {} ms", after.as_millis()));
        }
        line
    };
    let mut faults = plan.faults.clone();
    faults.sort_by_key(|fault| fault.at);
    let rounds = plan.rounds.iter().map(|round| {
        format!(
            "round.{}: executor-{} is drained at {} ms, for {} ms",
            round.number,
            round.executor + 1,
            round.begins.as_millis(),
            round.lasts.as_millis()
        )
    });
    let cluster = format!("{} schedulers, {} executors", plan.schedulers, plan.machines.len());
    Story {
        seed: plan.seed,
        only,
        faults: faults.iter().map(|fault| format!("fault.{}: {fault}", fault.number)).chain(rounds).collect(),
        wishes: std::iter::once(cluster).chain(plan.jobs.iter().map(wish)).collect(),
        violations,
    }
}
