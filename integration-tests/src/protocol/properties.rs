//! What must hold in every state of the small cluster, and what must be reached in some: a check that
//! never meets a fault proves nothing.

use berth_domain::job::JobState;
use berth_domain::spec::OnLost;
use stateright::Property;

use super::case::Bounds;
use super::cluster::Cluster;
use super::executor::has_end_to_tell;
use super::state::{Attempt, Container, EXECUTORS, End, Exit, JOBS, Record, State};
use super::store::{Refusal, broken, check};

/// Lists what is promised in every case, and what a case must come across.
pub(super) fn properties(cluster: &Cluster) -> Vec<Property<Cluster>> {
    let met = refused(cluster).into_iter().chain(stories(cluster));
    let met = met.filter_map(|(is_possible, property)| is_possible.then_some(property));
    promises().into_iter().chain(met).collect()
}

fn promises() -> Vec<Property<Cluster>> {
    vec![
        always("a job that has ended never changes", |_, s| s.broken & broken::TERMINAL == 0),
        always("a job takes legal steps, and its attempts rise by one", |_, s| s.broken & broken::STEP == 0),
        always("a deposed leader changes nothing", |_, s| s.broken & broken::DEPOSED == 0),
        always("success is an exit with 0 of the job's attempt", |_, s| s.broken & broken::SUCCESS == 0),
        always("a superseded attempt's report changes nothing", |_, s| s.broken & broken::SUPERSEDED == 0),
        always("a void session's report changes nothing", |_, s| s.broken & broken::SESSION == 0),
        always("no container starts without its assignment in the store", |_, s| {
            s.broken & broken::START == 0
        }),
        always("no job is given to a lost executor", |_, s| s.broken & broken::PLACE == 0),
        always("a job on hold never runs twice at once", |cluster, state| {
            of_wish(cluster, OnLost::Hold).all(|job| count(state, job, Container::is_running) <= 1)
        }),
        always("a job that may start once starts at most once", |cluster, state| {
            of_wish(cluster, OnLost::Fail).all(|job| count(state, job, Container::was_started) <= 1)
        }),
        always("an end is noted only once the store has it", |_, state| {
            attempts(state)
                .filter(|attempt| attempt.is_noted)
                .all(|noted| state.jobs[usize::from(noted.job)].current() != Some(noted.key))
        }),
        always("nothing of an attempt runs once its abort is confirmed", |_, state| {
            attempts(state).filter(|attempt| attempt.container.is_running()).all(|running| {
                let record = &state.jobs[usize::from(running.job)];
                let is_confirmed = record.state == JobState::Aborted && !record.is_unconfirmed;
                !(is_last(record, running) && is_confirmed)
            })
        }),
        always("where nothing is left to happen, every job has ended", |cluster, state| {
            let is_out = |record: &Record| {
                record.state == JobState::Pending && record.attempt >= cluster.case.bounds.attempts
            };
            state.jobs.iter().all(|record| record.state.is_terminal() || is_out(record)) || {
                let mut events = Vec::new();
                cluster.events(state, &mut events);
                !events.is_empty()
            }
        }),
    ]
}

/// What is refused, in cases where it can be.
fn refused(cluster: &Cluster) -> Vec<(bool, Property<Cluster>)> {
    let Bounds { epochs, troubles, .. } = cluster.case.bounds;
    let is_lossy = troubles.verdicts > 0;
    vec![
        (
            true,
            sometimes("an end that the store has is told again", |_, state| {
                untold(state).any(|(attempt, record)| record.state.is_terminal() && is_last(record, attempt))
            }),
        ),
        (
            epochs > 1,
            sometimes("a deposed leader's commit is refused", |cluster, state| {
                refusals(cluster, state).any(|refusal| refusal == Refusal::Fenced)
            }),
        ),
        (
            epochs > 1,
            sometimes("a commit is refused, as its record has changed", |cluster, state| {
                refusals(cluster, state).any(|refusal| matches!(refusal, Refusal::Attempt | Refusal::Record))
            }),
        ),
        (
            is_lossy,
            sometimes("a void session's report is refused", |cluster, state| {
                refusals(cluster, state).any(|refusal| refusal == Refusal::Session)
            }),
        ),
        (
            is_lossy && troubles.stalls > 0,
            sometimes("a job is not given to an executor that was lost meanwhile", |cluster, state| {
                refusals(cluster, state).any(|refusal| refusal == Refusal::NotActive)
            }),
        ),
    ]
}

/// How jobs end, in cases where they can end so.
fn stories(cluster: &Cluster) -> Vec<(bool, Property<Cluster>)> {
    let Bounds { attempts: most, troubles, .. } = cluster.case.bounds;
    let is_lossy = troubles.verdicts > 0;
    let has_retry = cluster.case.has(OnLost::Retry) && most > 1;
    let has_hold = cluster.case.has(OnLost::Hold);
    vec![
        (
            true,
            sometimes("a job succeeds at its first attempt", |_, state| {
                state.jobs.iter().any(|job| job.state == JobState::Succeeded && job.attempt == 1)
            }),
        ),
        (
            is_lossy && has_retry,
            sometimes("a job succeeds after its executor was judged lost", |_, state| {
                let has_lost = state.registrations.iter().any(|known| known.is_lost);
                has_lost && (0..JOBS).any(|job| succeeded_elsewhere(state, job))
            }),
        ),
        (
            is_lossy && has_retry,
            sometimes("a superseded attempt's end is told", |_, state| {
                untold(state).any(|(attempt, record)| attempt.key.0 < record.attempt)
            }),
        ),
        (
            is_lossy && has_hold,
            sometimes("a job on hold succeeds while its executor counts as lost", |_, state| {
                state.executors.iter().zip(&state.registrations).any(|(executor, known)| {
                    let has_succeeded = |attempt: &Attempt| {
                        attempt.end == Some(End::Zero)
                            && is_current(&state.jobs[usize::from(attempt.job)], attempt)
                    };
                    known.is_lost && executor.attempts.iter().any(has_succeeded)
                })
            }),
        ),
        (
            troubles.outages > 0 && has_hold,
            sometimes("a job on hold runs elsewhere once its executor was fenced", |_, state| {
                let is_fenced = state.registrations.iter().any(|known| known.is_fenced);
                is_fenced && (0..JOBS).any(|job| succeeded_elsewhere(state, job))
            }),
        ),
        (
            troubles.aborts > 0,
            sometimes("an abort stops a container", |_, state| {
                untold(state).any(|(attempt, record)| {
                    let was_stopped = attempt.container == Container::Exited(Exit::Stopped);
                    was_stopped && record.is_to_abort && is_current(record, attempt)
                })
            }),
        ),
    ]
}

fn of_wish(cluster: &Cluster, wish: OnLost) -> impl Iterator<Item = usize> {
    (0..JOBS).filter(move |job| cluster.on_lost(*job) == wish)
}

fn attempts(state: &State) -> impl Iterator<Item = &Attempt> {
    state.executors.iter().flat_map(|executor| &executor.attempts)
}

fn count(state: &State, job: usize, is_such: fn(Container) -> bool) -> usize {
    attempts(state).filter(|attempt| usize::from(attempt.job) == job && is_such(attempt.container)).count()
}

fn is_last(record: &Record, attempt: &Attempt) -> bool {
    (record.attempt, record.epoch) == attempt.key
}

fn is_current(record: &Record, attempt: &Attempt) -> bool {
    record.current() == Some(attempt.key)
}

/// Lists the attempts whose ends are still to be told, with the records of their jobs.
fn untold(state: &State) -> impl Iterator<Item = (&Attempt, &Record)> {
    let told = attempts(state).filter(|attempt| has_end_to_tell(attempt));
    told.map(|attempt| (attempt, &state.jobs[usize::from(attempt.job)]))
}

/// Lists why commits that are under way would be refused now.
fn refusals(cluster: &Cluster, state: &State) -> impl Iterator<Item = Refusal> {
    let of_leaders = state.leaders.iter().filter_map(|leader| leader.pending.as_ref());
    let of_sessions = state.executors.iter().filter_map(|executor| executor.report.as_ref());
    let weakness = cluster.case.weakness;
    of_leaders.chain(of_sessions).filter_map(move |commit| check(state, commit, weakness).err())
}

/// Says whether a job succeeded while the executor of the attempt before was another one.
fn succeeded_elsewhere(state: &State, job: usize) -> bool {
    let record = &state.jobs[job];
    let has = |place: usize, number: u8| {
        let is_it = |attempt: &Attempt| usize::from(attempt.job) == job && attempt.key.0 == number;
        state.executors[place].attempts.iter().any(is_it)
    };
    let before = record.attempt.saturating_sub(1);
    record.state == JobState::Succeeded
        && before > 0
        && (0..EXECUTORS).any(|place| has(place, before) && has(1 - place, record.attempt))
}

fn always(name: &'static str, condition: fn(&Cluster, &State) -> bool) -> Property<Cluster> {
    Property::always(name, condition)
}

fn sometimes(name: &'static str, condition: fn(&Cluster, &State) -> bool) -> Property<Cluster> {
    Property::sometimes(name, condition)
}
