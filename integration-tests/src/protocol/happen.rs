//! What each event makes of the small cluster, and what leaders decide on the way.

use super::case::Weakness;
use super::cluster::{Action, Cluster};
use super::decide::Happens;
use super::executor::{self, Stepped};
use super::state::{Author, Commit, Container, Executor, Machine, State, Write};
use super::store::{self, Refusal, broken, check, note};

impl Cluster {
    /// Gives the state after an event.
    pub(super) fn after(&self, state: &State, event: Action) -> State {
        let mut next = state.clone();
        match event {
            Action::TakeLock(place) => {
                let pending = next.leaders[place].pending.take();
                abandon(&mut next, pending);
                next.epoch += 1;
                next.leaders[place].epoch = next.epoch;
            }
            Action::Assign(place, job, executor) => {
                let happens = Happens::Assigned { executor, epoch: next.leaders[place].epoch };
                self.send(&mut next, place, job, happens);
            }
            Action::BecomeDue(place, job) => self.send(&mut next, place, job, Happens::Due),
            Action::Bury(place, job) => {
                let write = self.buried(state, job);
                let author = Author::Leader { epoch: next.leaders[place].epoch };
                next.leaders[place].pending = write.map(|write| Commit { author, write });
            }
            Action::Judge(place, executor) => {
                next.left.verdicts -= 1;
                let author = Author::Leader { epoch: next.leaders[place].epoch };
                let base = next.registrations[executor];
                let write = Write::Verdict { executor: small(executor), base };
                next.leaders[place].pending = Some(Commit { author, write });
            }
            Action::Arrive(place) => {
                let pending = next.leaders[place].pending.take();
                if self.commit(&mut next, pending) == Err(Refusal::Fenced) {
                    next.leaders[place].epoch = 0;
                }
            }
            Action::GiveUp(place) => {
                let pending = next.leaders[place].pending.take();
                abandon(&mut next, pending);
            }
            Action::ArriveLate => {
                let stalled = next.stalled.take();
                // Nobody waits for the answer.
                let _ = self.commit(&mut next, stalled);
            }
            Action::Abort(job) => {
                next.left.aborts -= 1;
                if let Ok(record) = self.lifecycle(job).decide(&state.jobs[job], Happens::Abort) {
                    next.jobs[job] = record;
                }
            }
            Action::Fence(place) => {
                let known = &mut next.registrations[place];
                (known.is_lost, known.is_fenced) = (true, true);
            }
            Action::Tell(place) => next.executors[place].down = Some(self.told(state, place)),
            Action::Hear(place) => {
                if let Some(set) = next.executors[place].down.take() {
                    executor::hear(&mut next.executors[place], &set);
                }
            }
            Action::Step(place, number) => self.step(&mut next, place, number),
            Action::Exit(place, number, exit) => {
                next.executors[place].attempts[number].container = Container::Exited(exit);
                // An executor that is there writes it down at once. A kill in between leaves what a kill
                // before leaves.
                if next.executors[place].machine == Machine::Up {
                    self.step(&mut next, place, number);
                }
            }
            Action::Report(place, number) => self.report(&mut next, place, number),
            Action::Settle(place, is_heard) => self.settle(&mut next, place, is_heard),
            Action::Break(_) | Action::Kill(_) | Action::Outage(_) => trouble(&mut next, event),
            Action::Restart(place) => next.executors[place].machine = Machine::Up,
            Action::Register(place) => self.register(&mut next, place),
        }
        next
    }

    pub(super) fn commit(&self, state: &mut State, commit: Option<Commit>) -> Result<(), Refusal> {
        let Some(commit) = commit else { return Ok(()) };
        check(state, &commit, self.case.weakness)?;
        store::write(state, &commit);
        Ok(())
    }

    /// A leader decides on a job, and sends the commit.
    fn send(&self, state: &mut State, place: usize, job: usize, happens: Happens) {
        let base = state.jobs[job];
        let author = Author::Leader { epoch: state.leaders[place].epoch };
        let next = self.lifecycle(job).decide(&base, happens);
        let write = next.map(|next| Write::Job { job: small(job), base, next, attempt: None });
        state.leaders[place].pending = write.ok().map(|write| Commit { author, write });
    }

    /// What a leader makes of a job whose executor is lost; `None` where there is nothing to be done.
    pub(super) fn buried(&self, state: &State, job: usize) -> Option<Write> {
        let base = state.jobs[job];
        let executor = base.current().and(base.executor)?;
        let known = state.registrations[usize::from(executor)];
        let is_free = self.case.weakness == Weakness::HoldIsPutBack;
        let happens = Happens::Lost { is_fenced: known.is_fenced || is_free };
        let next = match self.case.weakness {
            Weakness::FailStartsAgain => self.lifecycle(job).as_retry().decide(&base, happens),
            _ => self.lifecycle(job).decide(&base, happens),
        };
        let next = next.ok().filter(|_| known.is_lost)?;
        Some(Write::Job { job: small(job), base, next, attempt: base.current() })
    }

    fn step(&self, state: &mut State, place: usize, number: usize) {
        let executor = &mut state.executors[place];
        let attempt = executor.attempts[number];
        match executor::step(executor, &attempt, self.case.weakness) {
            Some(Stepped::Changed(next)) => executor.attempts[number] = next,
            Some(Stepped::Forgotten) => {
                executor.attempts.remove(number);
            }
            Some(Stepped::Started(next)) => {
                executor.attempts[number] = next;
                let (number, epoch) = attempt.key;
                let assigned = state.assigned[usize::from(attempt.job)][usize::from(number - 1)];
                note(state, assigned != Some((epoch, small(place))), broken::START);
            }
            None => {}
        }
    }
}

fn trouble(state: &mut State, event: Action) {
    let (Action::Break(place) | Action::Kill(place) | Action::Outage(place)) = event else { return };
    let (left, executor) = (&mut state.left, &mut state.executors[place]);
    let (count, lose): (&mut u8, fn(&mut Executor)) = match event {
        Action::Break(_) => (&mut left.breaks, executor::lose_session),
        Action::Kill(_) => (&mut left.kills, executor::lose_process),
        _ => (&mut left.outages, executor::lose_machine),
    };
    *count -= 1;
    lose(executor);
    let report = executor.report.take();
    abandon(state, report);
}

/// The author waits no longer: the commit may still arrive, if there is room for it to be late.
pub(super) fn abandon(state: &mut State, commit: Option<Commit>) {
    if commit.is_some() && state.stalled.is_none() && state.left.stalls > 0 {
        state.left.stalls -= 1;
        state.stalled = commit;
    }
}

/// A place in the words of a record.
pub(super) fn small(place: usize) -> u8 {
    u8::try_from(place).expect("there are few of everything")
}
