//! What the store holds, and what commits would make of it.

use berth_domain::job::JobState;

/// The store's record of a job: what of it the protocol rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// Where it is in its life.
    pub state: JobState,
    /// The number of the latest attempt; 0 before the first.
    pub attempt: u8,
    /// The epoch of the leader that assigned the latest attempt.
    pub epoch: u8,
    /// The executor of the current attempt or, at the end, of the last one.
    pub executor: Option<u8>,
    /// It waits for its due time.
    pub is_delayed: bool,
    /// A user asked for its end.
    pub is_to_abort: bool,
    /// It was ended as aborted although nobody saw its container stop.
    pub is_unconfirmed: bool,
    /// How often it failed by its own doing and was put back.
    pub own_retries: u8,
    /// How often it was put back after faults that were not its own.
    pub infrastructure_retries: u8,
}

impl Record {
    /// Names the current attempt, as (number, epoch); `None` while the job is pending or ended.
    pub fn current(&self) -> Option<(u8, u8)> {
        match self.state {
            JobState::Assigned | JobState::Running => Some((self.attempt, self.epoch)),
            JobState::Pending | JobState::Succeeded | JobState::Failed | JobState::Aborted => None,
        }
    }
}

/// The store's record of an executor. A new session has a new number, so that no record comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registration {
    /// The number of its latest session.
    pub session: u8,
    /// Judged lost: the session is void.
    pub is_lost: bool,
    /// An operator has declared it dead.
    pub is_fenced: bool,
}

/// Who stands behind a commit, and what the store checks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Author {
    /// A leader, fenced with the epoch of its term.
    Leader {
        /// The epoch.
        epoch: u8,
    },
    /// A replica on behalf of an executor's session.
    Session {
        /// The executor.
        executor: u8,
        /// The session's number.
        session: u8,
    },
}

/// What a commit writes, with what it was decided from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Write {
    /// The next record of a job.
    Job {
        /// The job.
        job: u8,
        /// The record it was decided from.
        base: Record,
        /// The next one.
        next: Record,
        /// The attempt, as (number, epoch), that must be the current one.
        attempt: Option<(u8, u8)>,
    },
    /// An executor is lost.
    Verdict {
        /// The executor.
        executor: u8,
        /// The record it was decided from.
        base: Registration,
    },
}

/// A commit on its way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit {
    /// Who stands behind it.
    pub author: Author,
    /// What it writes.
    pub write: Write,
}
