//! A replica's side of an executor's session: registration, the assignments that go down, the reports that
//! come up. It tells again what the shipped sessions do around the lifecycle's answers.

use berth_domain::job::JobState;
use berth_domain::lifecycle::Refused;

use super::case::Weakness;
use super::cluster::Cluster;
use super::decide::Happens;
use super::executor;
use super::happen::{abandon, small};
use super::state::{Attempt, Author, Commit, Container, JOBS, Record, State, Told, Write};
use super::store::Refusal;

/// What a replica makes of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reported {
    /// It is to be committed.
    Commit(Commit),
    /// It is answered at once; this is what the executor then knows of the attempt.
    Answered(Attempt),
}

impl Cluster {
    /// What a session tells its executor: the whole set of assignments.
    pub(super) fn told(&self, state: &State, place: usize) -> [Told; JOBS] {
        let its = |record: &Record| {
            let key = record.current().filter(|_| record.executor.map(usize::from) == Some(place))?;
            Some((key, record.is_to_abort))
        };
        let mut set = state.jobs.map(|record| its(&record));
        if self.case.weakness == Weakness::ToldBeforeCommit {
            for commit in state.leaders.iter().filter_map(|leader| leader.pending) {
                if let Write::Job { job, next, .. } = commit.write {
                    set[usize::from(job)] = set[usize::from(job)].or(its(&next));
                }
            }
        }
        set
    }

    /// Says whether the executor's set differs from the store's: then it is sent again.
    pub(super) fn has_news(&self, state: &State, place: usize) -> bool {
        let mut executor = state.executors[place].clone();
        executor::hear(&mut executor, &self.told(state, place));
        executor != state.executors[place]
    }

    /// What a replica makes of what the executor has to tell of an attempt; `None` where that changes nothing.
    pub(super) fn reported(&self, state: &State, place: usize, number: usize) -> Option<Reported> {
        let executor = &state.executors[place];
        if executor.session == 0 || executor.report.is_some() {
            return None;
        }
        let mut attempt = executor.attempts[number];
        let (job, key) = (usize::from(attempt.job), attempt.key);
        let base = state.jobs[job];
        let said = match self.case.weakness {
            Weakness::NoAttemptCheck => base.current().unwrap_or(key),
            _ => key,
        };
        let end = attempt.end.filter(|_| executor::has_end_to_tell(&attempt));
        let has_started = attempt.container != Container::None;
        let happens = match end {
            Some(end) => Happens::Ended { attempt: said, end, has_started },
            None if executor::has_start_to_tell(&attempt) => Happens::Started { attempt: said },
            None => return None,
        };
        // An executor speaks for its own jobs alone.
        let is_its = base.executor.map(usize::from) == Some(place);
        let decided =
            if is_its { self.lifecycle(job).decide(&base, happens) } else { Err(Refused::NotCurrent) };
        match decided {
            Ok(next) => {
                let author = Author::Session { executor: small(place), session: executor.session };
                let write = Write::Job { job: attempt.job, base, next, attempt: Some(key) };
                return Some(Reported::Commit(Commit { author, write }));
            }
            Err(Refused::Already) => return None,
            Err(Refused::NotCurrent | Refused::Ended(_) | Refused::State(_)) => {}
        }
        let is_settled = (base.attempt, base.epoch) == key && base.state.is_terminal();
        match end {
            Some(_) => executor::note(&mut attempt),
            None if is_settled => return None,
            None => executor::dismiss(&mut attempt),
        }
        Some(Reported::Answered(attempt))
    }

    pub(super) fn report(&self, state: &mut State, place: usize, number: usize) {
        match self.reported(state, place, number) {
            Some(Reported::Answered(attempt)) => state.executors[place].attempts[number] = attempt,
            Some(Reported::Commit(commit)) => {
                state.executors[place].report = Some(commit);
                if self.case.weakness == Weakness::NotedBeforeCommit && is_of_an_end(&commit) {
                    executor::note(&mut state.executors[place].attempts[number]);
                }
            }
            None => {}
        }
    }

    pub(super) fn settle(&self, state: &mut State, place: usize, is_heard: bool) {
        let Some(commit) = state.executors[place].report.take() else { return };
        let settled = self.commit(state, Some(commit));
        let executor = &mut state.executors[place];
        match settled {
            Ok(()) if is_heard && is_of_an_end(&commit) => {
                let Write::Job { job, attempt: key, .. } = commit.write else { return };
                let is_it = |known: &&mut Attempt| known.job == job && Some(known.key) == key;
                executor.attempts.iter_mut().find(is_it).map(executor::note);
            }
            Err(Refusal::Session) => executor::lose_session(executor),
            // What lost a race is decided again.
            Ok(()) | Err(_) => {}
        }
    }

    /// Says whether the executor has to register, and whether it would be let in.
    pub(super) fn may_register(&self, state: &State, place: usize) -> bool {
        let (executor, known) = (&state.executors[place], state.registrations[place]);
        let has_none = executor.session == 0 || executor.session != known.session || known.is_lost;
        has_none && (!known.is_fenced || self.assigned_to(state, place).next().is_none())
    }

    pub(super) fn register(&self, state: &mut State, place: usize) {
        let set = self.told(state, place);
        let known = &mut state.registrations[place];
        known.session += 1;
        (known.is_lost, known.is_fenced) = (false, false);
        let executor = &mut state.executors[place];
        executor::lose_session(executor);
        executor.session = known.session;
        executor.is_told = false;
        for attempt in executor.attempts.iter_mut().filter(|attempt| attempt.end.is_none()) {
            // The answer names what runs there and is not wanted.
            let is_wanted = set[usize::from(attempt.job)].is_some_and(|(key, _)| key == attempt.key);
            if !is_wanted {
                executor::dismiss(attempt);
            }
        }
        let report = executor.report.take();
        abandon(state, report);
    }
}

/// Says whether a report's commit tells of an end.
pub(super) fn is_of_an_end(commit: &Commit) -> bool {
    match commit.write {
        Write::Job { next, .. } => next.state != JobState::Running,
        Write::Verdict { .. } => false,
    }
}
