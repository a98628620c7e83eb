//! What can happen next in the small cluster, and what each event makes of it.

use berth_domain::job::JobState;
use berth_domain::spec::OnLost;

use super::case::Case;
use super::decide::Lifecycle;
use super::executor;
use super::session::is_of_an_end;
use super::state::{
    Container, EXECUTORS, Executor, Exit, JOBS, LEADERS, Leader, MOST_ATTEMPTS, Machine, Record,
    Registration, State,
};
use super::store::check;

/// An event. Leaders, executors, jobs and an executor's attempts are named by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A replica takes the lock; whoever held it does not know yet.
    TakeLock(usize),
    /// A replica that believes to lead decides to give a job to an executor, and sends the commit.
    Assign(usize, usize, u8),
    /// ... that a job's due time has come.
    BecomeDue(usize, usize),
    /// ... that an executor is lost.
    Judge(usize, usize),
    /// ... what becomes of a job whose executor is lost.
    Bury(usize, usize),
    /// The leader's commit arrives, and is answered.
    Arrive(usize),
    /// The leader waits no longer for its commit, which may still arrive.
    GiveUp(usize),
    /// A commit arrives that nobody waits for.
    ArriveLate,
    /// A session reads the whole set of an executor's assignments, and sends it.
    Tell(usize),
    /// It arrives.
    Hear(usize),
    /// The executor does what is next for an attempt.
    Step(usize, usize),
    /// A container ends.
    Exit(usize, usize, Exit),
    /// An attempt's start or end is told; a replica reads the job and decides.
    Report(usize, usize),
    /// The report's commit arrives; its answer is heard, or lost.
    Settle(usize, bool),
    /// A session breaks.
    Break(usize),
    /// An executor's process is killed.
    Kill(usize),
    /// A machine goes off.
    Outage(usize),
    /// An executor's process begins again.
    Restart(usize),
    /// An executor registers, and has a new session.
    Register(usize),
    /// A user asks for the end of a job.
    Abort(usize),
    /// An operator declares an executor dead, whose machine is off.
    Fence(usize),
}

/// The small cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// What is looked at.
    pub case: Case,
    lifecycles: [Lifecycle; JOBS],
}

impl Cluster {
    /// Sets a case up.
    pub fn new(case: Case) -> Self {
        assert!(usize::from(case.bounds.attempts) <= MOST_ATTEMPTS, "the state has room for the attempts");
        let lifecycles = case.jobs.map(|job| {
            let (on_lost, max_retries) = job.unwrap_or_default();
            Lifecycle::new(on_lost, max_retries)
        });
        Self { case, lifecycles }
    }

    /// One replica leads, both executors are registered, and the jobs were just submitted.
    pub fn first_state(&self) -> State {
        let job = |place: usize| {
            let submitted = self.lifecycles[place].submitted();
            let state = if self.case.jobs[place].is_some() { JobState::Pending } else { JobState::Aborted };
            Record { state, ..submitted }
        };
        let executor = || Executor {
            machine: Machine::Up,
            session: 1,
            is_told: true,
            down: None,
            report: None,
            attempts: Vec::new(),
        };
        State {
            epoch: 1,
            jobs: std::array::from_fn(job),
            registrations: [Registration { session: 1, is_lost: false, is_fenced: false }; EXECUTORS],
            leaders: [Leader { epoch: 1, pending: None }, Leader::default()],
            executors: std::array::from_fn(|_| executor()),
            stalled: None,
            assigned: [[None; MOST_ATTEMPTS]; JOBS],
            left: self.case.bounds.troubles,
            broken: 0,
        }
    }

    pub(super) fn lifecycle(&self, job: usize) -> &Lifecycle {
        &self.lifecycles[job]
    }

    /// What becomes of a job when its executor is lost.
    pub fn on_lost(&self, job: usize) -> OnLost {
        self.lifecycles[job].on_lost()
    }

    /// Lists what can happen next: only what changes something.
    pub fn events(&self, state: &State, events: &mut Vec<Action>) {
        for leader in 0..LEADERS {
            self.events_of_leader(state, leader, events);
        }
        for place in 0..EXECUTORS {
            self.events_of_executor(state, place, events);
            self.troubles_of_executor(state, place, events);
        }
        if state.stalled.is_some() {
            events.push(Action::ArriveLate);
        }
        let is_abortable = |record: &Record| !record.state.is_terminal() && !record.is_to_abort;
        if state.left.aborts > 0 {
            let jobs = (0..JOBS).filter(|job| is_abortable(&state.jobs[*job]));
            events.extend(jobs.map(Action::Abort));
        }
    }

    fn events_of_leader(&self, state: &State, place: usize, events: &mut Vec<Action>) {
        let leader = &state.leaders[place];
        let (bounds, left) = (&self.case.bounds, &state.left);
        if state.epoch < bounds.epochs && leader.epoch != state.epoch {
            events.push(Action::TakeLock(place));
        }
        if leader.epoch == 0 {
            return;
        }
        if leader.pending.is_some() {
            events.push(Action::Arrive(place));
            if state.stalled.is_none() && left.stalls > 0 {
                events.push(Action::GiveUp(place));
            }
            return;
        }
        for (job, record) in state.jobs.iter().enumerate() {
            let is_pending = record.state == JobState::Pending;
            if is_pending && record.is_delayed {
                events.push(Action::BecomeDue(place, job));
            } else if is_pending && record.attempt < bounds.attempts {
                let takers = (0..).zip(&state.registrations).filter(|(_, known)| !known.is_lost);
                events.extend(takers.map(|(executor, _)| Action::Assign(place, job, executor)));
            } else if self.buried(state, job).is_some() {
                events.push(Action::Bury(place, job));
            }
        }
        if left.verdicts > 0 {
            let living = (0..EXECUTORS).filter(|executor| !state.registrations[*executor].is_lost);
            events.extend(living.map(|executor| Action::Judge(place, executor)));
        }
    }

    fn events_of_executor(&self, state: &State, place: usize, events: &mut Vec<Action>) {
        let executor = &state.executors[place];
        if let Some(report) = &executor.report {
            events.push(Action::Settle(place, true));
            // Whether any other answer is lost makes no difference.
            if is_of_an_end(report) && check(state, report, self.case.weakness).is_ok() {
                events.push(Action::Settle(place, false));
            }
        }
        for (number, attempt) in executor.attempts.iter().enumerate() {
            if attempt.container == Container::Running {
                // What was asked to stop ends by that; whatever its code is then, it is told as stopped.
                let own: &[Exit] =
                    if attempt.stop.is_some() { &[Exit::Stopped] } else { &[Exit::Zero, Exit::One] };
                events.extend(own.iter().map(|exit| Action::Exit(place, number, *exit)));
            }
        }
        if executor.machine != Machine::Up {
            events.push(Action::Restart(place));
            return;
        }
        if self.may_register(state, place) {
            events.push(Action::Register(place));
        }
        for (number, attempt) in executor.attempts.iter().enumerate() {
            if executor::step(executor, attempt, self.case.weakness).is_some() {
                events.push(Action::Step(place, number));
            }
            if self.reported(state, place, number).is_some() {
                events.push(Action::Report(place, number));
            }
        }
        if executor.down.is_some() {
            events.push(Action::Hear(place));
        } else if executor.session != 0 && self.has_news(state, place) {
            events.push(Action::Tell(place));
        }
    }

    fn troubles_of_executor(&self, state: &State, place: usize, events: &mut Vec<Action>) {
        let (left, executor) = (&state.left, &state.executors[place]);
        if executor.session != 0 && left.breaks > 0 {
            events.push(Action::Break(place));
        }
        if executor.machine == Machine::Up && left.kills > 0 {
            events.push(Action::Kill(place));
        }
        if executor.machine != Machine::Off && left.outages > 0 {
            events.push(Action::Outage(place));
        }
        let is_missed =
            self.assigned_to(state, place).next().is_some() && !state.registrations[place].is_fenced;
        if executor.machine == Machine::Off && is_missed && self.case.has(OnLost::Hold) {
            events.push(Action::Fence(place));
        }
    }

    /// Lists the records of what the store has assigned to an executor.
    pub(super) fn assigned_to<'a>(
        &self,
        state: &'a State,
        place: usize,
    ) -> impl Iterator<Item = &'a Record> + use<'a> {
        let is_its = move |record: &&Record| {
            record.current().is_some() && record.executor.map(usize::from) == Some(place)
        };
        state.jobs.iter().filter(is_its)
    }
}
