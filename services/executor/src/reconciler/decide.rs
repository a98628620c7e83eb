//! Asks the domain what to do next for one attempt, and adds what only an executor knows: that its
//! knowledge may be stale, and that its lease may have ended.

use std::collections::BTreeMap;

use berth_domain::ids::AttemptRef;
use berth_domain::reconcile::{Assignment, ContainerState, Situation, Step, reconcile};
use berth_domain::spec::{DEFAULT_STOP_GRACE_MS, JobSpec};

use super::attempt::Attempt;
use super::steps::Act;

/// What is the same for every attempt at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The name is this executor's own: it may touch containers.
    pub entitled: bool,
    /// The engine has named its containers.
    pub containers_known: bool,
    pub assignments_known: bool,
    pub cleanup_after_ms: u64,
    pub remember_ms: u64,
    /// Until when the schedulers count on this executor.
    pub lease_until_ms: u64,
    pub now_ms: u64,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// This, now.
    Do(Act),
    /// Nothing before that time.
    LookAgainAt(u64),
    /// Nothing until something happens.
    Nothing,
}

/// Decides the next thing to do for one attempt.
pub(super) fn decide(key: &AttemptRef, attempt: &Attempt, rules: &Rules) -> Decision {
    if attempt.memory.busy || !rules.containers_known {
        return Decision::Nothing;
    }
    if attempt.stale {
        return match attempt.memory.retry_at_ms.filter(|at| *at > rules.now_ms) {
            Some(at) => Decision::LookAgainAt(at),
            None => Decision::Do(Act::Look),
        };
    }
    let lease_over = rules.lease_until_ms <= rules.now_ms;
    let running = matches!(attempt.container, Some(ContainerState::Running { .. }));
    let fence_grace_ms = attempt.fence_grace_ms.filter(|_| attempt.end.is_none() && !attempt.stranger);
    let fence = fence_grace_ms.filter(|_| lease_over && running);
    let assignments = only(key, assignment(attempt, fence));
    let plan = reconcile(&Situation {
        assignments: &assignments,
        assignments_known: (rules.assignments_known && !attempt.confirmed && !attempt.stranger)
            || attempt.dismissed,
        containers: &only(key, attempt.container),
        memory: &only(key, Some(attempt.memory.clone())),
        cleanup_after_ms: rules.cleanup_after_ms,
        remember_ms: rules.remember_ms,
        now_ms: rules.now_ms,
    });
    match plan.steps.first() {
        // Without a lease, a job that may start only once may be given up elsewhere by now.
        Some((_, Step::Create | Step::Start)) if lease_over && fence_grace_ms.is_some() => Decision::Nothing,
        // Another process may hold the name: its containers are only looked at.
        Some((_, step)) if !rules.entitled && !is_own(attempt, *step) => Decision::Nothing,
        // Whether it ran out of its time is in its order, which follows.
        Some((_, Step::RecordExit)) if attempt.may_have_timed_out() => Decision::Nothing,
        // What an engine says of a container that it never started before the machine went down may be old.
        Some((_, Step::Start)) if attempt.old_boot || attempt.slot_dead => {
            Decision::Do(Act::Step(Step::Remove))
        }
        Some((_, step)) => Decision::Do(Act::Step(*step)),
        None => {
            let lease_end = fence_grace_ms.filter(|_| running && !lease_over).map(|_| rules.lease_until_ms);
            match plan.wake_at_ms.into_iter().chain(lease_end).min() {
                Some(at) => Decision::LookAgainAt(at),
                None => Decision::Nothing,
            }
        }
    }
}

/// What a process may do for which the name is not, or no longer, its own: look, and carry through what it
/// was told to do while it was.
fn is_own(attempt: &Attempt, step: Step) -> bool {
    match step {
        Step::Watch | Step::Kill => true,
        Step::Create | Step::Start | Step::Remove | Step::Forget => false,
        Step::Terminate { .. } | Step::RecordExit | Step::RecordNeverRan(_) | Step::RecordVanished => {
            attempt.order.is_some()
        }
    }
}

fn only<T>(key: &AttemptRef, value: Option<T>) -> BTreeMap<AttemptRef, T> {
    value.map(|value| (key.clone(), value)).into_iter().collect()
}

fn assignment(attempt: &Attempt, fence_grace_ms: Option<u64>) -> Option<Assignment> {
    // A container that outlived its executor's process is fenced before anybody has ordered it.
    if attempt.order.is_none() && fence_grace_ms.is_none() {
        return None;
    }
    let spec: Option<&JobSpec> = attempt.order.as_ref().and_then(|order| order.spec.as_ref().ok());
    Some(Assignment {
        abort_grace_ms: attempt.abort_grace_ms.or(fence_grace_ms),
        run_timeout_ms: spec.and_then(|spec| spec.clocks.run_timeout_ms),
        stop_grace_ms: spec.map_or(DEFAULT_STOP_GRACE_MS, |spec| spec.clocks.stop_grace_ms),
    })
}
