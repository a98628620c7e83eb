//! The store at a commit's arrival: what it compares, what it writes, and which promises of the
//! protocol a write would break. It compares what the shipped stores compare; in place of revisions, the
//! record that a decision was made from: no record comes back once it has changed, so that both say the same.

use berth_domain::job::JobState;

use super::case::Weakness;
use super::state::{Author, Commit, Container, Exit, Record, State, Write};

/// Promises that a single step can break, as bits of `State::broken`.
pub mod broken {
    /// A job that had ended was changed.
    pub const TERMINAL: u16 = 1;
    /// A step of a job's life that does not exist, or an attempt that is not the next one.
    pub const STEP: u16 = 2;
    /// The commit of a leader that no longer leads changed something.
    pub const DEPOSED: u16 = 4;
    /// A job succeeded although its attempt did not exit with 0.
    pub const SUCCESS: u16 = 8;
    /// A report of an attempt that is not the current one changed the job.
    pub const SUPERSEDED: u16 = 16;
    /// A report of a void session changed a job.
    pub const SESSION: u16 = 32;
    /// A container started without an assignment in the store, or a second time for one attempt.
    pub const START: u16 = 64;
    /// A job was given to an executor that was lost.
    pub const PLACE: u16 = 128;
}

/// Why a commit is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its leader no longer leads.
    Fenced,
    /// Its session is not the executor's current one.
    Session,
    /// Its attempt is not the job's current one.
    Attempt,
    /// The record is not the one it was decided from.
    Record,
    /// The executor takes no jobs.
    NotActive,
}

/// Compares a commit's expectations with what is stored.
///
/// # Errors
/// Says which expectation does not hold; nothing is written then.
pub fn check(state: &State, commit: &Commit, weakness: Weakness) -> Result<(), Refusal> {
    let only_if = |holds: bool, refusal| if holds { Ok(()) } else { Err(refusal) };
    only_if(is_from_leader(state, commit) || weakness == Weakness::NoEpochCheck, Refusal::Fenced)?;
    only_if(is_from_session(state, commit) || weakness == Weakness::NoSessionCheck, Refusal::Session)?;
    match commit.write {
        Write::Verdict { executor, base } => {
            let stored = state.registrations[usize::from(executor)];
            only_if(stored == base || weakness == Weakness::NoRecordCheck, Refusal::Record)
        }
        Write::Job { job, base, next, attempt } => {
            let stored = &state.jobs[usize::from(job)];
            let is_current = attempt.is_none() || stored.current() == attempt;
            only_if(is_current || weakness == Weakness::NoAttemptCheck, Refusal::Attempt)?;
            only_if(*stored == base || weakness == Weakness::NoRecordCheck, Refusal::Record)?;
            only_if(takes_it(state, stored, &next), Refusal::NotActive)
        }
    }
}

/// Says whether the author leads, if it claims to.
pub fn is_from_leader(state: &State, commit: &Commit) -> bool {
    match commit.author {
        Author::Leader { epoch } => epoch == state.epoch,
        Author::Session { .. } => true,
    }
}

fn is_from_session(state: &State, commit: &Commit) -> bool {
    match commit.author {
        Author::Session { executor, session } => {
            let stored = state.registrations[usize::from(executor)];
            stored.session == session && !stored.is_lost
        }
        Author::Leader { .. } => true,
    }
}

/// A job that becomes assigned needs an executor that takes jobs.
fn takes_it(state: &State, stored: &Record, next: &Record) -> bool {
    let held = stored.current().and(stored.executor);
    match next.current().and(next.executor) {
        Some(wanted) if held != Some(wanted) => !state.registrations[usize::from(wanted)].is_lost,
        Some(_) | None => true,
    }
}

/// Writes a commit whose expectations hold, and takes note of promises that this breaks.
pub fn write(state: &mut State, commit: &Commit) {
    note(state, !is_from_leader(state, commit), broken::DEPOSED);
    note(state, !is_from_session(state, commit), broken::SESSION);
    match commit.write {
        Write::Verdict { executor, .. } => {
            let stored = &mut state.registrations[usize::from(executor)];
            (stored.is_lost, stored.is_fenced) = (true, false);
        }
        Write::Job { job, next, attempt, .. } => {
            let stored = state.jobs[usize::from(job)];
            note(state, stored.state.is_terminal(), broken::TERMINAL);
            note(state, !is_step(&stored, &next, state.epoch), broken::STEP);
            note(state, !takes_it(state, &stored, &next), broken::PLACE);
            let is_report = matches!(commit.author, Author::Session { .. });
            note(state, is_report && stored.current() != attempt, broken::SUPERSEDED);
            let is_success = next.state == JobState::Succeeded;
            note(state, is_success && !has_exited_with_0(state, job, &next), broken::SUCCESS);
            if next.current().is_some() && next.attempt != stored.attempt {
                let history = &mut state.assigned[usize::from(job)];
                history[usize::from(next.attempt - 1)] = next.executor.map(|executor| (next.epoch, executor));
            }
            state.jobs[usize::from(job)] = next;
        }
    }
}

/// Takes note of a broken promise.
pub fn note(state: &mut State, is_broken: bool, promise: u16) {
    if is_broken {
        state.broken |= promise;
    }
}

/// Says whether one write may lead from a record to the other: attempts rise by one, with an assignment
/// and in the epoch of the lock, and in no other way.
fn is_step(stored: &Record, next: &Record, epoch: u8) -> bool {
    let is_legal = stored.state.may_become(next.state);
    let is_same = (stored.attempt, stored.epoch) == (next.attempt, next.epoch);
    let is_assignment = next.state == JobState::Assigned && stored.state == JobState::Pending;
    is_legal
        && if is_assignment { next.attempt == stored.attempt + 1 && next.epoch == epoch } else { is_same }
}

fn has_exited_with_0(state: &State, job: u8, next: &Record) -> bool {
    let mut attempts = state.executors.iter().flat_map(|executor| &executor.attempts);
    attempts.any(|attempt| {
        let is_it = attempt.job == job && attempt.key == (next.attempt, next.epoch);
        is_it && attempt.container == Container::Exited(Exit::Zero)
    })
}
