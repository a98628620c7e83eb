//! An executor's side: orders taken, containers started and stopped, ends written to disk before they
//! are told, and what a kill of the process or an outage of the machine leaves of it.

use berth_domain::reconcile::Step;

use super::case::Weakness;
use super::decide::{concluded, next_step};
use super::state::{Attempt, Container, End, Executor, Exit, JOBS, Machine, Told};

/// Takes the whole set of assignments.
pub fn hear(executor: &mut Executor, set: &[Told; JOBS]) {
    for attempt in &mut executor.attempts {
        let is_wanted = set[usize::from(attempt.job)].is_some_and(|(key, _)| key == attempt.key);
        if !is_wanted {
            leave_out(attempt);
        }
    }
    executor.is_told = true;
    for (job, told) in (0..).zip(set) {
        let Some((key, is_to_abort)) = *told else { continue };
        let place = executor.attempts.iter().position(|known| known.job == job && known.key == key);
        let place = place.unwrap_or_else(|| {
            executor.attempts.push(unknown(job, key));
            executor.attempts.len() - 1
        });
        order(&mut executor.attempts[place], is_to_abort);
    }
    executor.attempts.sort_unstable();
}

fn unknown(job: u8, key: (u8, u8)) -> Attempt {
    Attempt {
        job,
        key,
        is_ordered: false,
        is_to_abort: false,
        is_dismissed: false,
        container: Container::None,
        stop: None,
        end: None,
        is_noted: false,
    }
}

/// An order is taken once, and not after its end was noted; a stop may follow.
fn order(attempt: &mut Attempt, is_to_abort: bool) {
    if !attempt.is_noted && !attempt.is_ordered {
        (attempt.is_ordered, attempt.is_dismissed) = (true, false);
    }
    // Once it has ended, a stop changes nothing.
    attempt.is_to_abort |= is_to_abort && attempt.is_ordered && attempt.end.is_none();
}

/// The whole set does not have it; an end that nobody took note of is told all the same.
fn leave_out(attempt: &mut Attempt) {
    match attempt.end {
        Some(_) => attempt.is_ordered = false,
        None => dismiss(attempt),
    }
}

/// The schedulers do not want it here.
pub fn dismiss(attempt: &mut Attempt) {
    (attempt.is_ordered, attempt.is_to_abort, attempt.is_dismissed) = (false, false, true);
}

/// The schedulers have taken note of its end.
pub fn note(attempt: &mut Attempt) {
    (attempt.is_ordered, attempt.is_to_abort, attempt.is_noted) = (false, false, true);
    attempt.is_dismissed = false;
}

/// Says whether the executor has an end to tell.
pub fn has_end_to_tell(attempt: &Attempt) -> bool {
    let is_acknowledged = attempt.is_noted || (attempt.is_dismissed && !attempt.is_ordered);
    attempt.end.is_some() && !is_acknowledged
}

/// Says whether the executor has a start to tell.
pub fn has_start_to_tell(attempt: &Attempt) -> bool {
    attempt.end.is_none() && attempt.container == Container::Running && !attempt.is_dismissed
}

/// What a step made of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// Another attempt, of which this much is known now.
    Changed(Attempt),
    /// A container of it was made and started.
    Started(Attempt),
    /// Nothing is known of it any more.
    Forgotten,
}

/// Carries out the next step of an attempt; `None` where there is nothing to do.
pub fn step(executor: &Executor, attempt: &Attempt, weakness: Weakness) -> Option<Stepped> {
    let mut next = *attempt;
    match next_step(attempt, executor.is_told, false)? {
        // A container is made and started in one go: nothing can be seen of it in between.
        Step::Create => match next_step(attempt, executor.is_told, true)? {
            Step::Start => {
                next.container = Container::Running;
                return Some(Stepped::Started(next));
            }
            Step::Create
            | Step::Watch
            | Step::Terminate { .. }
            | Step::Kill
            | Step::RecordExit
            | Step::RecordNeverRan(_)
            | Step::RecordVanished
            | Step::Remove
            | Step::Forget => return None,
        },
        Step::Terminate { cause, .. } => next.stop = Some(cause.into()),
        Step::RecordExit => {
            let Container::Exited(exit) = attempt.container else { return None };
            next.end = Some(match exit {
                Exit::Stopped if weakness == Weakness::StopIsSuccess => End::Zero,
                Exit::Zero | Exit::One | Exit::Stopped | Exit::Cut => concluded(exit, attempt.stop),
            });
        }
        Step::RecordNeverRan(_) => next.end = Some(End::Aborted),
        Step::RecordVanished => next.end = Some(End::Fault),
        Step::Forget => return Some(Stepped::Forgotten),
        // Exits are always waited for, and a container that was asked to stop may take its time.
        Step::Start | Step::Watch | Step::Kill | Step::Remove => return None,
    }
    if next.end.is_some() {
        // What led to it is of no interest any more.
        (next.stop, next.is_to_abort) = (None, false);
    }
    Some(Stepped::Changed(next))
}

/// The session is gone: nothing that was on its way down arrives.
pub fn lose_session(executor: &mut Executor) {
    executor.session = 0;
    executor.down = None;
}

/// The process is gone: what is on disk and in the engine stays.
pub fn lose_process(executor: &mut Executor) {
    lose_session(executor);
    executor.machine = Machine::Down;
    executor.is_told = false;
    executor.attempts.retain(|attempt| attempt.container != Container::None || attempt.end.is_some());
    for attempt in &mut executor.attempts {
        (attempt.is_ordered, attempt.is_to_abort, attempt.is_dismissed) = (false, false, false);
    }
    executor.attempts.sort_unstable();
}

/// The machine is off: containers end with it, and nobody sees how.
pub fn lose_machine(executor: &mut Executor) {
    lose_process(executor);
    executor.machine = Machine::Off;
    for attempt in &mut executor.attempts {
        if attempt.container == Container::Running {
            attempt.container = Container::Exited(Exit::Cut);
        }
    }
    executor.attempts.sort_unstable();
}
