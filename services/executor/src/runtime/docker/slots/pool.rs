//! Decides which slot a job takes, what becomes of the slot when the job has ended, and when slots are made
//! and removed. It asks no engine and no clock: others tell it what has happened, and do what it says.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use berth_domain::ids::Namespace;
use berth_domain::spec::Network;
use tokio::time::Instant;

use crate::runtime::ContainerName;

/// Jobs a slot is used by at most.
const MOST_USES: u32 = 100;
/// How old a slot may become: what it has of the machine's resolv.conf is from when it was made.
const MOST_AGE: Duration = Duration::from_secs(600);
/// How long a slot stays without a job.
const IDLE: Duration = Duration::from_secs(180);
/// How long a slot rests between two jobs: what the kernel still closes of the former one's takes
/// milliseconds.
const REST: Duration = Duration::from_millis(200);
/// Slots are made while jobs come at least this often: a lone job gains nothing from one.
const BUSY: Duration = Duration::from_secs(60);
/// A slot is no longer made for jobs that came so long ago: others would ask again.
const STALE: Duration = Duration::from_secs(5);
/// An idle slot that nobody took for so long makes way for one that jobs had to do without.
const GIVE_WAY: Duration = Duration::from_secs(10);
/// A slot with a job that runs for so long is not counted: it will be of no use to short ones.
const LONG_JOB: Duration = Duration::from_secs(60);
/// How long no slots are made after one could not be.
const PAUSE: Duration = Duration::from_secs(60);
/// Jobs that could not start in their slots, one after the other, after which no slots are given or made for a
/// pause.
const MOST_FAILURES: u32 = 3;
/// Names of containers that are remembered because they get no slot.
const MOST_APART: usize = 1_024;
/// How long a slot that could not be removed is left alone.
const AGAIN: Duration = Duration::from_secs(30);

/// A network namespace of an idle container, and the files that Docker made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime::docker) struct Slot {
    /// The idle container's id.
    pub id: String,
    /// Where the engine has its /etc/hosts.
    pub hosts: String,
    /// Where the engine has its /etc/resolv.conf.
    pub resolv_conf: String,
    /// Where the engine has its /etc/hostname.
    pub hostname: String,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work<T> {
    /// Remove the slot of this id.
    Remove(T),
    /// Make a slot in a network.
    Make(Network),
    /// Nothing before a time, or before something happens.
    Wait(Option<Instant>),
}

#[derive(Debug)]
struct Entry {
    slot: Arc<Slot>,
    network: Network,
    /// Whose jobs it had; `None` while it had none.
    namespace: Option<Namespace>,
    uses: u32,
    made: Instant,
    /// When it was taken, or became idle.
    since: Instant,
    holder: Option<ContainerName>,
    /// No further job gets it.
    doomed: bool,
}

impl Entry {
    fn fresh(slot: Slot, network: Network, now: Instant) -> Self {
        Self {
            slot: Arc::new(slot),
            network,
            namespace: None,
            uses: 0,
            made: now,
            since: now,
            holder: None,
            doomed: false,
        }
    }

    fn suits(&self, namespace: &Namespace, network: Network, now: Instant) -> bool {
        self.holder.is_none()
            && self.network == network
            && self.namespace.as_ref().is_none_or(|own| own == namespace)
            && (self.uses == 0 || now >= self.since + REST)
            && now < self.expires()
    }

    /// When it is removed if nobody takes it.
    fn expires(&self) -> Instant {
        (self.since + IDLE).min(self.made + MOST_AGE)
    }

    fn counts(&self, now: Instant) -> bool {
        self.holder.is_none() || now < self.since + LONG_JOB
    }
}

/// The slots of an executor. A fresh one is closed: it gives none.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// How many there may be, those of long jobs aside.
    most: usize,
    entries: Vec<Entry>,
    /// Slots to be removed, and from when on.
    condemned: Vec<(Instant, String)>,
    /// Containers of ended jobs that are still there: none may start again, since its slot may have another
    /// job by now.
    ended: BTreeSet<ContainerName>,
    /// Networks of jobs that found no slot.
    missed: VecDeque<Network>,
    asked: Option<Instant>,
    paused_until: Option<Instant>,
    /// Containers whose slots failed, the newest last: none of them gets another one.
    apart: VecDeque<ContainerName>,
    /// Slots that failed since a job last started in one.
    failures: u32,
    /// After too many of those: from when on slots are given again.
    shut_until: Option<Instant>,
}

impl Pool {
    /// Begins to give slots, and to have so many made.
    pub fn open(&mut self, most: usize) {
        self.most = most;
    }

    /// Gives no more. What nobody uses is to be removed.
    pub fn close(&mut self) -> Vec<String> {
        self.most = 0;
        self.missed.clear();
        let idle =
            self.entries.extract_if(.., |entry| entry.holder.is_none()).map(|entry| entry.slot.id.clone());
        idle.chain(self.condemned.drain(..).map(|(_, id)| id)).collect()
    }

    /// Gives a slot to a container that will be made: of those its namespace has used, or that nobody has, the
    /// one that has rested longest. `None` where there is none.
    pub fn take(
        &mut self,
        by: &ContainerName,
        namespace: &Namespace,
        network: Network,
        now: Instant,
    ) -> Option<Arc<Slot>> {
        // A name that has one already may belong to a container of which nobody knows whether it was made.
        if self.most == 0 || self.held(by).is_some() || self.ended.contains(by) || self.apart.contains(by) {
            return None;
        }
        if self.is_shut(now) {
            return None;
        }
        let before = self.asked.replace(now);
        let suiting = self.entries.iter_mut().filter(|entry| entry.suits(namespace, network, now));
        let Some(entry) = suiting.min_by_key(|entry| (entry.namespace.is_none(), entry.since)) else {
            let busy = before.is_some_and(|before| now < before + BUSY);
            if busy && self.missed.len() < self.most {
                self.missed.push_back(network);
            }
            return None;
        };
        entry.holder = Some(by.clone());
        entry.namespace = Some(namespace.clone());
        entry.uses += 1;
        entry.since = now;
        Some(entry.slot.clone())
    }

    /// No container was made: the slot is as it was.
    pub fn unused(&mut self, by: &ContainerName, now: Instant) {
        let Some(index) = self.held(by) else { return };
        let entry = &mut self.entries[index];
        entry.uses -= 1;
        if entry.uses == 0 {
            entry.namespace = None;
        }
        self.free(index, now);
    }

    /// Something happened to the container, or may have, after which no other gets its slot.
    pub fn doom(&mut self, by: &ContainerName) {
        if let Some(index) = self.held(by) {
            self.entries[index].doomed = true;
        }
    }

    /// The container could not be made or started in its slot: it gets no other, and nobody this one. Says
    /// whether slots have failed too often just now.
    pub fn failed(&mut self, by: &ContainerName, now: Instant) -> bool {
        self.apart.push_back(by.clone());
        if self.apart.len() > MOST_APART {
            self.apart.pop_front();
        }
        // One that nobody was to get anyway says nothing of the others.
        let Some(index) = self.held(by).filter(|index| !self.entries[*index].doomed) else { return false };
        self.entries[index].doomed = true;
        self.failures = self.failures.saturating_add(1);
        if self.failures >= MOST_FAILURES {
            self.shut_until = Some(now + PAUSE);
        }
        self.failures == MOST_FAILURES
    }

    /// The container runs.
    pub fn started(&mut self, by: &ContainerName) {
        if self.held(by).is_some() {
            self.failures = 0;
        }
    }

    /// The container's main process was seen to have ended; `plainly` when nothing but itself ended it.
    pub fn ended(&mut self, by: &ContainerName, plainly: bool, now: Instant) {
        let Some(index) = self.held(by) else { return };
        let entry = &mut self.entries[index];
        entry.doomed |= !plainly || entry.uses >= MOST_USES || now >= entry.made + MOST_AGE;
        if !entry.doomed {
            self.ended.insert(by.clone());
        }
        self.free(index, now);
    }

    /// There is no such container, or it has never run and will not.
    pub fn gone(&mut self, by: &ContainerName, now: Instant) {
        self.ended.remove(by);
        self.doom(by);
        if let Some(index) = self.held(by) {
            self.free(index, now);
        }
    }

    /// Says whether the container has ended and left its slot to others: it must not start again.
    pub fn has_left(&self, by: &ContainerName) -> bool {
        self.ended.contains(by)
    }

    /// A slot's own container runs no more.
    pub fn died(&mut self, id: &str, now: Instant) {
        let Some(index) = self.entries.iter().position(|entry| entry.slot.id == id) else { return };
        self.entries[index].doomed = true;
        if self.entries[index].holder.is_none() {
            self.free(index, now);
        }
    }

    /// An earlier process left a slot: it goes as soon as nobody uses it.
    pub fn left_over(&mut self, slot: Slot, holder: Option<ContainerName>, now: Instant) {
        if holder.is_none() {
            return self.condemned.push((now, slot.id));
        }
        // No other job ever gets it, so that its network does not matter.
        self.entries.push(Entry { uses: 1, holder, doomed: true, ..Entry::fresh(slot, Network::None, now) });
    }

    /// A slot was made.
    pub fn made(&mut self, slot: Slot, network: Network, now: Instant) {
        self.paused_until = None;
        self.entries.push(Entry::fresh(slot, network, now));
    }

    /// A slot could not be made; says whether the one before could.
    pub fn not_made(&mut self, now: Instant) -> bool {
        self.missed.clear();
        self.paused_until.replace(now + PAUSE).is_none()
    }

    /// A slot could not be removed.
    pub fn not_removed(&mut self, id: String, now: Instant) {
        self.condemned.push((now + AGAIN, id));
    }

    /// Says what is to be done next, and takes it as begun.
    pub fn next(&mut self, now: Instant) -> Work<String> {
        for index in (0..self.entries.len()).rev() {
            let entry = &mut self.entries[index];
            if entry.holder.is_none() && now >= entry.expires() {
                entry.doomed = true;
                self.free(index, now);
            }
        }
        let stale = self.asked.is_none_or(|asked| now >= asked + STALE);
        if stale || self.is_shut(now) || self.paused_until.is_some_and(|until| now < until) {
            self.missed.clear();
        }
        let has_room = self.entries.iter().filter(|entry| entry.counts(now)).count() < self.most;
        if !self.missed.is_empty() && !has_room && !self.give_way(now) {
            self.missed.clear();
        }
        if let Some(index) = self.condemned.iter().position(|(from, _)| *from <= now) {
            return Work::Remove(self.condemned.remove(index).1);
        }
        if let Some(network) = self.missed.pop_front() {
            return Work::Make(network);
        }
        let idle = self.entries.iter().filter(|entry| entry.holder.is_none()).map(Entry::expires);
        Work::Wait(idle.chain(self.condemned.iter().map(|(from, _)| *from)).min())
    }

    /// Lets go of the slot that has been idle longest, if that is long enough.
    fn give_way(&mut self, now: Instant) -> bool {
        let idle = self.entries.iter_mut().enumerate().filter(|(_, entry)| entry.holder.is_none());
        let rested = idle.filter(|(_, entry)| now >= entry.since + GIVE_WAY);
        let Some((index, entry)) = rested.min_by_key(|(_, entry)| entry.since) else { return false };
        entry.doomed = true;
        self.free(index, now);
        true
    }

    fn is_shut(&self, now: Instant) -> bool {
        self.shut_until.is_some_and(|until| now < until)
    }

    fn held(&self, by: &ContainerName) -> Option<usize> {
        self.entries.iter().position(|entry| entry.holder.as_ref() == Some(by))
    }

    fn free(&mut self, index: usize, now: Instant) {
        let entry = &mut self.entries[index];
        if entry.doomed {
            let entry = self.entries.swap_remove(index);
            self.condemned.push((now, entry.slot.id.clone()));
        } else {
            entry.holder = None;
            entry.since = now;
        }
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
