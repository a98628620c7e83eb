//! Which reports were sent and which were taken note of. Pure: the time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use berth_domain::ids::AttemptRef;
use tokio::time::Instant;

use crate::reconciler::Reportable;

/// After this time without an answer a report is sent again.
const REPEAT_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Ended,
}

impl Stage {
    fn of(report: &Reportable) -> Self {
        match report {
            Reportable::Running => Self::Running,
            Reportable::Ended(_) => Self::Ended,
        }
    }
}

/// A report to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbered {
    pub number: i64,
    pub attempt: AttemptRef,
    pub report: Reportable,
}

/// An answer to a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    pub attempt: AttemptRef,
    pub ended: bool,
}

/// Remembers what was sent and what was answered.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    last_number: i64,
    /// Reports of this session that wait for an answer.
    sent: BTreeMap<i64, (AttemptRef, Stage)>,
    /// The newest report of each attempt that waits for an answer, and when it was sent.
    waiting: BTreeMap<AttemptRef, (Stage, Instant)>,
    /// Attempts whose start the schedulers have taken note of.
    told_running: BTreeSet<AttemptRef>,
}

impl Ledger {
    /// Forgets what was sent in the session before: nobody will answer it.
    pub fn begin_session(&mut self) {
        self.sent.clear();
        self.waiting.clear();
    }

    /// Picks the reports that are to be sent now, at most so many, and counts them as sent.
    pub fn due(
        &mut self,
        reports: &BTreeMap<AttemptRef, Reportable>,
        now: Instant,
        most: usize,
    ) -> Vec<Numbered> {
        self.told_running.retain(|attempt| reports.contains_key(attempt));
        self.waiting.retain(|attempt, _| reports.contains_key(attempt));
        let mut due = Vec::new();
        for (attempt, report) in reports {
            if due.len() == most {
                break;
            }
            let stage = Stage::of(report);
            let told = stage == Stage::Running && self.told_running.contains(attempt);
            let waits = self.waiting.get(attempt).is_some_and(|(sent, at)| {
                *sent == stage && now.saturating_duration_since(*at) < REPEAT_AFTER
            });
            if told || waits {
                continue;
            }
            self.last_number += 1;
            self.sent.insert(self.last_number, (attempt.clone(), stage));
            self.waiting.insert(attempt.clone(), (stage, now));
            due.push(Numbered { number: self.last_number, attempt: attempt.clone(), report: report.clone() });
        }
        due
    }

    /// Takes an answer; `None` for a report that is not of this session.
    pub fn answered(&mut self, number: i64) -> Option<Answered> {
        let (attempt, stage) = self.sent.remove(&number)?;
        if stage == Stage::Running {
            self.told_running.insert(attempt.clone());
        }
        if self.waiting.get(&attempt).is_some_and(|(waiting, _)| *waiting == stage) {
            self.waiting.remove(&attempt);
        }
        Some(Answered { attempt, ended: stage == Stage::Ended })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use berth_domain::ids::JobId;
    use berth_domain::lifecycle::{AttemptEnd, EndCause};

    use super::*;

    fn attempt(job: &str) -> AttemptRef {
        AttemptRef { job: JobId::trusted(job), number: 1, epoch: 1 }
    }

    fn ended(job: &str) -> Reportable {
        Reportable::Ended(Arc::new(AttemptEnd {
            attempt: attempt(job),
            cause: EndCause::Exited { code: 0, oom: false },
            message: String::new(),
            start_time_ms: None,
            end_time_ms: 1,
            jitter: 0,
        }))
    }

    fn numbers(due: &[Numbered]) -> Vec<i64> {
        due.iter().map(|report| report.number).collect()
    }

    #[test]
    fn a_report_is_sent_once_a_session_and_again_in_the_next() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        let reports = BTreeMap::from([(attempt("a"), Reportable::Running), (attempt("b"), ended("b"))]);
        assert_eq!(numbers(&ledger.due(&reports, now, 10)), [1, 2]);
        assert_eq!(numbers(&ledger.due(&reports, now, 10)), [0_i64; 0]);
        assert_eq!(ledger.answered(1), Some(Answered { attempt: attempt("a"), ended: false }));
        ledger.begin_session();
        assert_eq!(numbers(&ledger.due(&reports, now, 10)), [3], "the start was noted, the end was not");
        assert_eq!(ledger.answered(2), None, "it belongs to the session before");
        assert_eq!(ledger.answered(3), Some(Answered { attempt: attempt("b"), ended: true }));
    }

    #[test]
    fn an_unanswered_report_is_repeated_after_a_while() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        let reports = BTreeMap::from([(attempt("a"), ended("a"))]);
        assert_eq!(ledger.due(&reports, now, 10).len(), 1);
        assert_eq!(ledger.due(&reports, now + Duration::from_secs(9), 10).len(), 0);
        assert_eq!(ledger.due(&reports, now + Duration::from_secs(10), 10).len(), 1);
    }

    #[test]
    fn an_end_does_not_wait_for_the_answer_to_the_start() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        ledger.due(&BTreeMap::from([(attempt("a"), Reportable::Running)]), now, 10);
        let due = ledger.due(&BTreeMap::from([(attempt("a"), ended("a"))]), now, 10);
        assert_eq!(numbers(&due), [2]);
        ledger.answered(1);
        assert_eq!(ledger.due(&BTreeMap::from([(attempt("a"), ended("a"))]), now, 10).len(), 0);
    }

    #[test]
    fn a_batch_is_bounded_and_the_rest_follows() {
        let mut ledger = Ledger::default();
        let reports: BTreeMap<_, _> =
            (0..5).map(|i| (attempt(&format!("j{i}")), Reportable::Running)).collect();
        let sizes: Vec<_> = (0..4).map(|_| ledger.due(&reports, Instant::now(), 2).len()).collect();
        assert_eq!(sizes, [2, 2, 1, 0]);
    }
}
