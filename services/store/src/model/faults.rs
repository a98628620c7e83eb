//! Faults on request.

use std::time::Duration;

/// Faults that repeat, of one handle of a model store. Commits are counted from 1 a handle; 0
/// switches a fault off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every so many commits one is applied, and its outcome reported as unknown.
    pub lose_reply_every: u64,
    /// Every so many commits one is not applied, and its outcome reported as unknown.
    pub lose_request_every: u64,
    /// Every so many commits one is refused as unavailable.
    pub refuse_every: u64,
    /// How long each call of the handle takes, half of it before the store acts.
    pub latency: Duration,
    /// Every call fails as unavailable.
    pub unavailable: bool,
    /// Calls wait until this is over, and are carried out then.
    pub stalled: bool,
}

/// What happens to one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing out of the ordinary.
    Normal,
    /// Applied, and the caller is not told.
    ReplyLost,
    /// Not applied, and the caller cannot know.
    RequestLost,
    /// Not applied, and the caller knows.
    Refused,
}

/// The faults of one handle and how far they are.
#[derive(Debug, Default)]
pub(super) struct FaultState {
    pub(super) faults: Faults,
    pub(super) next: Option<Fate>,
    commits: u64,
}

impl FaultState {
    /// Decides on the next commit.
    pub(super) fn fate(&mut self) -> Fate {
        if let Some(fate) = self.next.take() {
            return fate;
        }
        self.commits += 1;
        let due = |every: u64| every > 0 && self.commits.is_multiple_of(every);
        if due(self.faults.lose_reply_every) {
            Fate::ReplyLost
        } else if due(self.faults.lose_request_every) {
            Fate::RequestLost
        } else if due(self.faults.refuse_every) {
            Fate::Refused
        } else {
            Fate::Normal
        }
    }
}
