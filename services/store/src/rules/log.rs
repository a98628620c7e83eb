//! The change log in memory: entries of whole calls, trimmed by age and size.

use std::collections::VecDeque;
use std::time::Duration;

use crate::record::encode_change;
use crate::{Change, Changes, Position};

/// The most calls one read returns.
const MAX_READ: usize = 100;

/// The changes of one call.
#[derive(Debug, Clone)]
struct Entry {
    time_ms: u64,
    bytes: usize,
    changes: Vec<(u64, Change)>,
}

/// The log.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    bytes: usize,
    max_age_ms: u64,
    max_bytes: usize,
}

impl Log {
    pub(crate) fn new(max_age: Duration, max_bytes: usize) -> Self {
        let max_age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        Self { entries: VecDeque::new(), bytes: 0, max_age_ms, max_bytes }
    }

    /// Appends the changes of one call and drops what is too old or too much; the newest stays.
    pub(crate) fn append(&mut self, changes: Vec<(u64, Change)>, now_ms: u64) {
        if changes.is_empty() {
            return;
        }
        let bytes = changes.iter().map(|(_, change)| encode_change(change).len()).sum();
        self.bytes += bytes;
        self.entries.push_back(Entry { time_ms: now_ms, bytes, changes });
        while self.entries.len() > 1 && self.oldest_is_due(now_ms) {
            if let Some(dropped) = self.entries.pop_front() {
                self.bytes -= dropped.bytes;
            }
        }
    }

    fn oldest_is_due(&self, now_ms: u64) -> bool {
        let too_old =
            self.entries.front().is_some_and(|entry| entry.time_ms.saturating_add(self.max_age_ms) < now_ms);
        too_old || self.bytes > self.max_bytes
    }

    /// Forgets everything: a new generation starts.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Reads what follows a position, given the newest one.
    pub(crate) fn after(&self, after: Position, head: Position) -> Changes {
        if after.generation != head.generation || after.revision > head.revision {
            return Changes::Resync;
        }
        if after.revision == head.revision {
            return Changes::Entries { entries: Vec::new(), position: after };
        }
        let is_known = |entry: &Entry| entry.changes.last().is_some_and(|(last, _)| *last <= after.revision);
        let start = self.entries.partition_point(is_known);
        let calls = self.entries.iter().skip(start).take(MAX_READ);
        let entries: Vec<_> = calls
            .flat_map(|entry| entry.changes.iter())
            .filter(|(revision, _)| *revision > after.revision)
            .cloned()
            .collect();
        match (entries.first(), entries.last()) {
            (Some((first, _)), Some((last, _))) if *first == after.revision + 1 => {
                let position = Position { generation: head.generation, revision: *last };
                Changes::Entries { entries, position }
            }
            (Some(_) | None, Some(_) | None) => Changes::Resync,
        }
    }
}
