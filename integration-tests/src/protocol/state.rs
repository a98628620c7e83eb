//! The state of the small cluster: what the store holds, what each process knows, what is on its way,
//! and what containers did. Compact, so that millions of states can be told apart; it decides nothing.

use berth_domain::reconcile::StopCause;

pub use super::records::{Author, Commit, Record, Registration, Write};

/// The number of jobs.
pub const JOBS: usize = 2;
/// The number of executors.
pub const EXECUTORS: usize = 2;
/// The number of replicas that may lead.
pub const LEADERS: usize = 2;
/// The most attempts of a job that any case allows.
pub const MOST_ATTEMPTS: usize = 3;

/// A replica that may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Leader {
    /// The epoch in which it believes to lead; 0 where it does not.
    pub epoch: u8,
    /// Its commit under way.
    pub pending: Option<Commit>,
}

/// What became of a machine and the executor's process on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Machine {
    /// The executor runs.
    Up,
    /// The executor's process is gone; containers run on.
    Down,
    /// The machine is off, and its containers with it.
    Off,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// By itself, with 0.
    Zero,
    /// By itself, with another code.
    One,
    /// The executor stopped it.
    Stopped,
    /// The machine went off.
    Cut,
}

/// A container, as the engine has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Container {
    /// There is none.
    None,
    /// Its main process runs.
    Running,
    /// Its main process has ended.
    Exited(Exit),
}

impl Container {
    /// Says whether its main process runs.
    pub fn is_running(self) -> bool {
        self == Self::Running
    }

    /// Says whether its main process was ever started.
    pub fn was_started(self) -> bool {
        self != Self::None
    }
}

/// How an attempt ended, as it stands in the executor's outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// With exit code 0.
    Zero,
    /// With another exit code.
    One,
    /// Stopped, or never begun, as the job was to be aborted.
    Aborted,
    /// By the executor's or the machine's doing.
    Fault,
}

/// What an executor knows of one attempt; container, stop, end and note outlive its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The job.
    pub job: u8,
    /// The attempt, as (number, epoch).
    pub key: (u8, u8),
    /// The schedulers want it here.
    pub is_ordered: bool,
    /// They want it stopped.
    pub is_to_abort: bool,
    /// They have said that they do not want it here.
    pub is_dismissed: bool,
    /// Its container.
    pub container: Container,
    /// A stop that was begun.
    pub stop: Option<Stop>,
    /// How it ended.
    pub end: Option<End>,
    /// The schedulers have taken note of the end.
    pub is_noted: bool,
}

/// Why a container was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stop {
    /// The job is to be aborted.
    Abort,
    /// The attempt is not wanted here.
    Superseded,
}

impl From<StopCause> for Stop {
    fn from(cause: StopCause) -> Self {
        match cause {
            // No case has a run timeout.
            StopCause::Abort | StopCause::RunTimeout => Self::Abort,
            StopCause::Superseded => Self::Superseded,
        }
    }
}

/// What a session tells of one job: the attempt that is wanted, and whether it is to be stopped.
pub type Told = Option<((u8, u8), bool)>;

/// An executor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Executor {
    /// Its machine.
    pub machine: Machine,
    /// The session it believes to have; 0 for none.
    pub session: u8,
    /// The whole set of assignments was received in this session.
    pub is_told: bool,
    /// The whole set of assignments, on its way down.
    pub down: Option<[Told; JOBS]>,
    /// A report that a replica has read and decided on, on its way to the store.
    pub report: Option<Commit>,
    /// Its attempts, sorted.
    pub attempts: Vec<Attempt>,
}

/// How often each kind of trouble may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Troubles {
    /// Executors judged lost, each at any time and whether it lives or not.
    pub verdicts: u8,
    /// Sessions that break while both ends live.
    pub breaks: u8,
    /// Processes of executors killed; containers run on.
    pub kills: u8,
    /// Machines that go off, with their containers.
    pub outages: u8,
    /// Aborts asked for by users.
    pub aborts: u8,
    /// Commits whose author gives up waiting, and which may arrive at any later time; one at a time.
    pub stalls: u8,
}

/// The whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The epoch of the lock.
    pub epoch: u8,
    /// The store's records of jobs.
    pub jobs: [Record; JOBS],
    /// The store's records of executors.
    pub registrations: [Registration; EXECUTORS],
    /// Replicas that may lead.
    pub leaders: [Leader; LEADERS],
    /// The executors.
    pub executors: [Executor; EXECUTORS],
    /// A commit whose author no longer waits for it; it may still arrive.
    pub stalled: Option<Commit>,
    /// Every assignment there was: (epoch, executor) by job and number of the attempt less one.
    pub assigned: [[Option<(u8, u8)>; MOST_ATTEMPTS]; JOBS],
    /// What may still go wrong.
    pub left: Troubles,
    /// The promises that a step has broken, one bit each (`properties`).
    pub broken: u16,
}
