//! Which states have the same future: those that differ in names alone, since the executors are alike and
//! so are the replicas; and those that differ in what can no longer matter. Of these one is looked at.

use berth_domain::job::JobState;

use super::state::{Attempt, Author, Commit, Container, End, Exit, Record, Registration, State, Stop, Write};

/// Stands for a write that the store will refuse, whatever happens: records never come back.
const HOPELESS: Write =
    Write::Verdict { executor: 0, base: Registration { session: u8::MAX, is_lost: true, is_fenced: true } };
/// Stands for the executor's current session, and for any that is void.
const CURRENT: u8 = 1;
const VOID: u8 = 2;

/// Gives the state that stands for all that have the same future as this one.
pub(super) fn same_future(state: &State) -> State {
    let mut next = state.clone();
    forget_commits(&mut next);
    forget_sessions(&mut next);
    forget_attempts(&mut next);
    forget_epochs(&mut next);
    for executor in &mut next.executors {
        executor.attempts.sort_unstable();
    }
    same_names(&next)
}

/// Gives the state that stands for all that differ from this one in names alone.
pub(super) fn same_names(state: &State) -> State {
    let mut one = state.clone();
    one.leaders.sort_unstable();
    let mut other = renamed(&one);
    other.leaders.sort_unstable();
    one.min(other)
}

fn commits(state: &mut State) -> impl Iterator<Item = &mut Commit> {
    let of_leaders = state.leaders.iter_mut().filter_map(|leader| leader.pending.as_mut());
    let of_sessions = state.executors.iter_mut().filter_map(|executor| executor.report.as_mut());
    of_leaders.chain(of_sessions).chain(state.stalled.as_mut())
}

/// What a commit says that will be refused does not matter, only by whom it is.
fn forget_commits(state: &mut State) {
    let (epoch, jobs, registrations) = (state.epoch, state.jobs, state.registrations);
    for commit in commits(state) {
        let is_over = match &mut commit.author {
            Author::Leader { epoch: theirs } => {
                let is_over = *theirs != epoch;
                *theirs = if is_over { epoch - 1 } else { epoch };
                is_over
            }
            Author::Session { executor, session } => {
                let known = registrations[usize::from(*executor)];
                let is_over = *session != known.session || known.is_lost;
                *session = if is_over { VOID } else { CURRENT };
                is_over
            }
        };
        let is_outdated = match commit.write {
            Write::Job { job, base, .. } => jobs[usize::from(job)] != base,
            Write::Verdict { executor, base } => registrations[usize::from(executor)] != base,
        };
        if is_over || is_outdated {
            commit.write = HOPELESS;
        }
    }
    // Where no other can be late, one that will be refused is as good as none.
    if state.left.stalls == 0 && state.stalled.is_some_and(|commit| commit.write == HOPELESS) {
        state.stalled = None;
    }
}

/// Of a session it matters only whether it is the current one.
fn forget_sessions(state: &mut State) {
    for commit in commits(state) {
        if let Write::Verdict { base, .. } = &mut commit.write
            && base.session != u8::MAX
        {
            base.session = CURRENT;
        }
    }
    for (known, executor) in state.registrations.iter_mut().zip(&mut state.executors) {
        executor.session = match executor.session {
            0 => 0,
            session if session == known.session && !known.is_lost => CURRENT,
            _ => VOID,
        };
        known.session = CURRENT;
    }
}

/// How an attempt ended does not matter once the store knows, or knows of a later one.
fn forget_attempts(state: &mut State) {
    for record in &mut state.jobs {
        if record.state.is_terminal() {
            *record = Record {
                executor: record.executor.filter(|_| record.state == JobState::Aborted),
                is_to_abort: false,
                own_retries: 0,
                infrastructure_retries: 0,
                ..*record
            };
        }
    }
    let jobs = state.jobs;
    let is_over = |attempt: &Attempt| jobs[usize::from(attempt.job)].current() != Some(attempt.key);
    for attempt in state.executors.iter_mut().flat_map(|executor| &mut executor.attempts) {
        if is_over(attempt) {
            attempt.stop = attempt.stop.map(|_| Stop::Superseded);
            attempt.end = attempt.end.map(|_| End::Fault);
            if let Container::Exited(_) = attempt.container {
                attempt.container = Container::Exited(Exit::Stopped);
            }
        }
    }
    // Where an attempt was assigned matters until its container was started.
    let mut needed = [[false; super::state::MOST_ATTEMPTS]; super::state::JOBS];
    let mut need = |job: usize, key: (u8, u8)| needed[job][usize::from(key.0 - 1)] = true;
    for executor in &state.executors {
        let is_startable = |attempt: &&Attempt| attempt.container == Container::None && attempt.end.is_none();
        for attempt in executor.attempts.iter().filter(is_startable) {
            need(usize::from(attempt.job), attempt.key);
        }
        for (job, told) in executor.down.iter().flatten().enumerate() {
            if let Some((key, _)) = told {
                need(job, *key);
            }
        }
    }
    for (history, needed) in state.assigned.iter_mut().flatten().zip(needed.into_iter().flatten()) {
        if !needed {
            *history = None;
        }
    }
}

/// Attempts of a job are told apart by their numbers: each number is assigned once.
fn forget_epochs(state: &mut State) {
    for record in &mut state.jobs {
        record.epoch = 0;
    }
    let epoch = state.epoch;
    for leader in state.leaders.iter_mut().filter(|leader| leader.epoch != 0) {
        leader.epoch = if leader.epoch == epoch { epoch } else { epoch - 1 };
    }
    for commit in commits(state) {
        if let Write::Job { base, next, attempt, .. } = &mut commit.write {
            (base.epoch, next.epoch) = (0, 0);
            *attempt = attempt.map(|(number, _)| (number, 0));
        }
    }
    for (epoch, _) in state.assigned.iter_mut().flatten().flatten() {
        *epoch = 0;
    }
    for executor in &mut state.executors {
        for attempt in &mut executor.attempts {
            attempt.key.1 = 0;
        }
        for (key, _) in executor.down.iter_mut().flatten().flatten() {
            key.1 = 0;
        }
    }
}

/// The same state with the names of the executors exchanged.
fn renamed(state: &State) -> State {
    let mut next = state.clone();
    next.registrations.swap(0, 1);
    next.executors.swap(0, 1);
    for record in &mut next.jobs {
        rename_record(record);
    }
    for commit in commits(&mut next) {
        if let Author::Session { executor, .. } = &mut commit.author {
            *executor = 1 - *executor;
        }
        match &mut commit.write {
            hopeless if *hopeless == HOPELESS => {}
            Write::Job { base, next, .. } => {
                rename_record(base);
                rename_record(next);
            }
            Write::Verdict { executor, .. } => *executor = 1 - *executor,
        }
    }
    for (_, executor) in next.assigned.iter_mut().flatten().flatten() {
        *executor = 1 - *executor;
    }
    next
}

fn rename_record(record: &mut Record) {
    record.executor = record.executor.map(|executor| 1 - executor);
}
