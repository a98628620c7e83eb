//! Decides which warm container a job takes, what becomes of the container when the job has ended, and when
//! containers are removed. It asks no engine and no clock: others tell it what has happened, and do what it says.

use std::collections::VecDeque;
use std::time::Duration;

use berth_domain::ids::Namespace;
use berth_domain::spec::Network;
use tokio::time::Instant;

/// Jobs a container is used by at most.
const MOST_USES: u32 = 100;
/// How old a container may become before no further job gets it.
const MOST_AGE: Duration = Duration::from_secs(600);
/// How long a container stays without a job.
const IDLE: Duration = Duration::from_secs(60);
/// Containers without a job, of all kinds together.
pub(super) const MOST_IDLE: usize = 32;
/// How long jobs of a kind get containers of their own after a warm one could not be had.
const PAUSE: Duration = Duration::from_secs(60);
/// Kinds of which that is remembered.
const MOST_REFUSED: usize = 256;
/// How long a container that could not be removed is left alone.
const AGAIN: Duration = Duration::from_secs(5);

/// Everything that shapes a container. Only jobs that are alike in all of it ever share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    /// The image's id: a name may mean another image by tomorrow.
    pub image_id: String,
    pub namespace: Namespace,
    pub network: Network,
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub working_dir: String,
    /// The machine's boot, which is in the container's labels.
    pub boot_id: String,
}

/// A container in which nothing runs but what waits for jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    pub id: String,
    /// Its first process as the machine numbers it: another one means that it was started anew.
    pub pid: i64,
    /// What the image puts in front of every command.
    pub entrypoint: Vec<String>,
}

/// What a job gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// This container, for itself alone.
    Have(Container),
    /// None is free, and one may be made.
    Make,
    /// None at all: it gets one of its own.
    Not,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// Remove the container of this id or name.
    Remove(String),
    /// Nothing before a time, or before something happens.
    Wait(Option<Instant>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A job has it.
    Busy,
    /// Its job has ended, and whether the container stays is being decided.
    Checked,
    /// Nothing is in it.
    Idle,
}

#[derive(Debug)]
struct Entry {
    container: Container,
    kind: Kind,
    uses: u32,
    made: Instant,
    /// When it became idle.
    since: Instant,
    stage: Stage,
}

impl Entry {
    /// When it is removed if nobody takes it.
    fn expires(&self) -> Instant {
        (self.since + IDLE).min(self.made + MOST_AGE)
    }

    fn is_worn(&self, now: Instant) -> bool {
        self.uses >= MOST_USES || now >= self.made + MOST_AGE
    }
}

/// The warm containers of an executor. A fresh one is closed: it gives none.
#[derive(Debug, Default)]
pub(super) struct Pool {
    is_open: bool,
    entries: Vec<Entry>,
    /// Containers to be removed, and from when on.
    condemned: Vec<(Instant, String)>,
    /// Kinds of which none could be had, and until when none is made.
    refused: VecDeque<(Kind, Instant)>,
}

impl Pool {
    /// Begins to give containers.
    pub fn open(&mut self) {
        self.is_open = true;
    }

    /// Gives no more, and forgets all: they are to be removed, with whatever runs in them.
    pub fn close(&mut self) -> Vec<String> {
        self.is_open = false;
        let all = self.entries.drain(..).map(|entry| entry.container.id);
        all.chain(self.condemned.drain(..).map(|(_, id)| id)).collect()
    }

    /// Gives a job the container of its kind that was used last, so that those too many grow old. None waits for one
    /// that is being looked at, since who waits keeps others from being started.
    pub fn take(&mut self, kind: &Kind, now: Instant) -> Taken {
        if !self.is_open || self.refused.iter().any(|(refused, until)| refused == kind && now < *until) {
            return Taken::Not;
        }
        let idle = self.entries.iter_mut().filter(|entry| entry.stage == Stage::Idle && entry.kind == *kind);
        let Some(entry) = idle.filter(|entry| now < entry.expires()).max_by_key(|entry| entry.since) else {
            return Taken::Make;
        };
        entry.stage = Stage::Busy;
        entry.uses += 1;
        Taken::Have(entry.container.clone())
    }

    /// A container was made for a job.
    pub fn made(&mut self, kind: Kind, container: Container, now: Instant) {
        self.refused.retain(|(refused, _)| *refused != kind);
        self.entries.push(Entry { container, kind, uses: 1, made: now, since: now, stage: Stage::Busy });
    }

    /// None could be had of a kind; says whether that is news.
    pub fn refuse(&mut self, kind: &Kind, now: Instant) -> bool {
        let is_news = self.refused.iter().all(|(refused, _)| refused != kind);
        self.refused.retain(|(refused, until)| refused != kind && now < *until);
        if self.refused.len() >= MOST_REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back((kind.clone(), now + PAUSE));
        is_news
    }

    /// The job has used nothing of its container.
    pub fn unused(&mut self, id: &str, now: Instant) {
        if let Some(entry) = self.entry(id) {
            entry.uses = entry.uses.saturating_sub(1);
            self.free(id, now);
        }
    }

    /// The container's job has ended plainly; says whether the container may stay, if nothing is left of the job. Where
    /// not, it goes.
    pub fn ended(&mut self, id: &str, now: Instant) -> bool {
        let is_open = self.is_open;
        let Some(entry) = self.entry(id) else { return false };
        if !is_open || entry.is_worn(now) {
            self.condemn(id, now);
            return false;
        }
        entry.stage = Stage::Checked;
        true
    }

    /// Nothing is left in the container.
    pub fn is_clean(&mut self, id: &str, now: Instant) {
        if self.entry(id).is_some_and(|entry| entry.stage == Stage::Checked) {
            self.free(id, now);
        }
    }

    fn free(&mut self, id: &str, now: Instant) {
        let Some(entry) = self.entry(id) else { return };
        (entry.stage, entry.since) = (Stage::Idle, now);
        let idle = self.entries.iter().filter(|entry| entry.stage == Stage::Idle);
        if idle.clone().count() > MOST_IDLE
            && let Some(oldest) = idle.min_by_key(|entry| entry.since).map(|entry| entry.container.id.clone())
        {
            self.condemn(&oldest, now);
        }
    }

    /// No further job gets the container, which is to be removed.
    pub fn condemn(&mut self, id: &str, now: Instant) {
        if let Some(index) = self.entries.iter().position(|entry| entry.container.id == id) {
            let entry = self.entries.swap_remove(index);
            self.condemned.push((now, entry.container.id));
        }
    }

    /// What may have been made under this name, or could not be removed, is to be removed.
    pub fn not_removed(&mut self, id: String, from: Instant) {
        self.condemned.push((from, id));
    }

    /// When a removal that failed is tried again.
    pub fn again(now: Instant) -> Instant {
        now + AGAIN
    }

    /// Says what is to be done next, and takes it as begun.
    pub fn next(&mut self, now: Instant) -> Work {
        let idle = |entry: &&Entry| entry.stage == Stage::Idle;
        let old = self.entries.iter().filter(idle).filter(|entry| now >= entry.expires());
        let old: Vec<String> = old.map(|entry| entry.container.id.clone()).collect();
        for id in old {
            self.condemn(&id, now);
        }
        if let Some(index) = self.condemned.iter().position(|(from, _)| *from <= now) {
            return Work::Remove(self.condemned.remove(index).1);
        }
        let idle = self.entries.iter().filter(idle).map(Entry::expires);
        Work::Wait(idle.chain(self.condemned.iter().map(|(from, _)| *from)).min())
    }

    fn entry(&mut self, id: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.container.id == id)
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
