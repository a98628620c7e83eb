//! What waits, in order: strictly by priority; within a level the namespace that has least of the cluster is next, and
//! of a namespace the oldest job. Jobs that are alike to placement stand together, so that those of a shape
//! that fits nowhere are passed over at once.

use std::cmp::Reverse;
use std::collections::btree_map::Range;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::fleet::ShapeId;
use crate::ids::{ExecutorId, JobId, Namespace};

/// When a job was submitted, and its id.
pub type Age = (u64, JobId);

/// What jobs have in common that are alike to placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// What they ask for.
    pub shape: ShapeId,
    /// How long they may run, in milliseconds; `u64::MAX` without a limit.
    pub run_timeout_ms: u64,
    /// False for jobs that must not start while the store may have forgotten that they did.
    pub may_repeat: bool,
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// An executor to be used only if no other will do.
    pub avoid: Option<ExecutorId>,
    /// Since when it is ready.
    pub ready_time_ms: u64,
    /// Names its image.
    pub image_hash: u64,
}

/// By what a job is found among those that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Whose it is.
    pub namespace: Namespace,
    /// What it has in common with others.
    pub kind: Kind,
    /// When it was submitted, and its id.
    pub age: Age,
}

/// Jobs that are alike, the oldest first.
pub type Group = BTreeMap<Age, Waiter>;
/// The jobs of a priority, by whose they are.
pub type Level = BTreeMap<Namespace, BTreeMap<Kind, Group>>;

/// All that wait.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    levels: BTreeMap<Reverse<u8>, Level>,
}

impl Queue {
    /// Adds a job; one that is there already is replaced.
    pub fn insert(
        &mut self,
        priority: u8,
        namespace: &Namespace,
        kind: Kind,
        age: Age,
        waiter: Waiter,
    ) -> bool {
        let level = self.levels.entry(Reverse(priority)).or_default();
        let kinds = match level.get_mut(namespace) {
            Some(kinds) => kinds,
            None => level.entry(namespace.clone()).or_default(),
        };
        kinds.entry(kind).or_default().insert(age, waiter).is_none()
    }

    /// Takes a job out.
    pub fn remove(&mut self, priority: u8, namespace: &Namespace, kind: Kind, age: &Age) -> bool {
        let Some(level) = self.levels.get_mut(&Reverse(priority)) else { return false };
        let Some(kinds) = level.get_mut(namespace) else { return false };
        let Some(group) = kinds.get_mut(&kind) else { return false };
        let was_there = group.remove(age).is_some();
        if group.is_empty() {
            kinds.remove(&kind);
        }
        if kinds.is_empty() {
            level.remove(namespace);
        }
        if level.is_empty() {
            self.levels.remove(&Reverse(priority));
        }
        was_there
    }

    /// The levels that have jobs, the highest priority first.
    pub fn levels(&self) -> impl Iterator<Item = &Level> {
        self.levels.values()
    }

    /// Counts the jobs of each shape.
    pub fn counts(&self) -> BTreeMap<ShapeId, usize> {
        let mut counts = BTreeMap::new();
        for (kind, group) in self.levels.values().flat_map(BTreeMap::values).flatten() {
            *counts.entry(kind.shape).or_default() += group.len();
        }
        counts
    }

    /// Gives all shapes other numbers.
    pub fn renumber(&mut self, mut number: impl FnMut(ShapeId) -> ShapeId) {
        for kinds in self.levels.values_mut().flat_map(BTreeMap::values_mut) {
            for (kind, mut group) in std::mem::take(kinds) {
                kinds.entry(Kind { shape: number(kind.shape), ..kind }).or_default().append(&mut group);
            }
        }
    }
}

/// The next job of a level.
#[derive(Debug, Clone, Copy)]
pub struct Next<'a> {
    /// The position of its namespace in the line.
    pub lane: usize,
    /// What it has in common with others.
    pub kind: Kind,
    /// When it was submitted, and its id.
    pub age: &'a Age,
    /// The job.
    pub waiter: &'a Waiter,
}

/// Jobs of one level in their order.
#[derive(Debug)]
pub struct Line<'a> {
    lanes: Vec<Lane<'a>>,
    /// Those that come before all others.
    ahead: VecDeque<Next<'a>>,
    /// Those that did.
    seen: Vec<&'a JobId>,
    /// Namespaces that have jobs left, the one with the smallest share first.
    order: BinaryHeap<Reverse<(u64, usize)>>,
}

#[derive(Debug)]
struct Lane<'a> {
    namespace: &'a Namespace,
    share: u64,
    groups: Vec<(Kind, Range<'a, Age, Waiter>)>,
    /// The first of each group: its age, the group, the job.
    heads: BinaryHeap<Reverse<Head<'a>>>,
}

#[derive(Debug)]
struct Head<'a> {
    age: &'a Age,
    group: usize,
    waiter: &'a Waiter,
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head<'_> {}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.age, self.group).cmp(&(other.age, other.group))
    }
}

impl<'a> Line<'a> {
    /// Lines up the jobs of a level that were submitted by `until_ms`; `share` is what a namespace has of the
    /// cluster already.
    pub fn new(
        level: &'a Level,
        until_ms: u64,
        is_wanted: impl Fn(Kind) -> bool,
        share: impl Fn(&Namespace) -> u64,
    ) -> Self {
        let mut line =
            Self { lanes: Vec::new(), ahead: VecDeque::new(), seen: Vec::new(), order: BinaryHeap::new() };
        let end = (until_ms.saturating_add(1), JobId::trusted(""));
        for (namespace, kinds) in level {
            let wanted = kinds.iter().filter(|(kind, _)| is_wanted(**kind));
            let groups = wanted.map(|(kind, group)| (*kind, group.range(..end.clone()))).collect();
            let mut lane = Lane { namespace, share: share(namespace), groups, heads: BinaryHeap::new() };
            (0..lane.groups.len()).for_each(|group| lane.advance(group));
            if !lane.heads.is_empty() {
                line.order.push(Reverse((lane.share, line.lanes.len())));
                line.lanes.push(lane);
            }
        }
        line
    }

    /// Lets a job of the level come before all others, however hopeless; the first one that is let comes first.
    /// False where it is not there.
    pub fn let_ahead(&mut self, level: &'a Level, seat: &Seat) -> bool {
        let group = level.get(&seat.namespace).and_then(|kinds| kinds.get(&seat.kind));
        let lane = self.lanes.iter().position(|lane| *lane.namespace == seat.namespace);
        let Some(((age, waiter), lane)) = group.and_then(|group| group.get_key_value(&seat.age)).zip(lane)
        else {
            return false;
        };
        self.ahead.push_back(Next { lane, kind: seat.kind, age, waiter });
        true
    }

    /// Where a job stands that is next.
    pub fn seat(&self, next: &Next<'_>) -> Seat {
        let namespace = self.lanes[next.lane].namespace.clone();
        Seat { namespace, kind: next.kind, age: next.age.clone() }
    }

    /// The next job of those that are not hopeless; all of a hopeless kind are left out for good.
    pub fn next(&mut self, is_hopeless: impl Fn(Kind) -> bool) -> Option<Next<'a>> {
        if let Some(next) = self.ahead.pop_front() {
            self.seen.push(&next.age.1);
            return Some(next);
        }
        loop {
            let Reverse((share, at)) = self.order.pop()?;
            let lane = &mut self.lanes[at];
            if share != lane.share {
                self.order.push(Reverse((lane.share, at)));
                continue;
            }
            let Some(Reverse(head)) = lane.heads.pop() else { continue };
            let kind = lane.groups[head.group].0;
            let is_left_out = is_hopeless(kind);
            if !is_left_out {
                lane.advance(head.group);
            }
            self.order.push(Reverse((lane.share, at)));
            if !is_left_out && !self.seen.contains(&&head.age.1) {
                return Some(Next { lane: at, kind, age: head.age, waiter: head.waiter });
            }
        }
    }

    /// Adds to what a namespace has.
    pub fn charge(&mut self, lane: usize, share: u64) {
        // Where it stands in the order is mended when its turn comes.
        self.lanes[lane].share = self.lanes[lane].share.saturating_add(share);
    }
}

impl Lane<'_> {
    fn advance(&mut self, group: usize) {
        if let Some((age, waiter)) = self.groups[group].1.next() {
            self.heads.push(Reverse(Head { age, group, waiter }));
        }
    }
}
