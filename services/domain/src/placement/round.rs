//! One round: who gets a place now. Level by level; within a level those that have waited for too long come first
//! and, where they fit nowhere, get an executor kept for them; then as many in order as the free room could hold
//! in sum, the hardest to place first; then the others in order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::amounts::{Amounts, Room, Shape, Take};
use super::executors::{Executor, Running};
use super::fleet::{Fleet, Rank, ShapeId, Slot};
use super::queue::{Kind, Level, Line, Next, Seat};
use super::reserve::{Guests, Kept, Promise, Wanting, best_to_keep, is_ever_held};
use super::types::{Ends, Moment};
use crate::ids::{ExecutorId, JobId, Namespace};

/// One of so many executors at most is kept for a job that has waited for too long; at least one.
const KEPT_OF: usize = 64;
/// So many at most.
const MOST_KEPT: usize = 4;
/// Once all executors lack too much of so many shapes, no further one is kept: each takes a look at all of them.
const MOST_TOO_FAR: usize = 4;
/// So many shapes that found no place are compared with others; of those that ask for no less, none needs to try.
const MOST_COMPARED: usize = 64;

/// Of the executors that have an image, so many are looked at.
const MOST_NEAR: usize = 64;

/// A job that got a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The job.
    pub job: JobId,
    /// Where.
    pub slot: Slot,
    /// On which devices.
    pub take: Take,
    kind: Kind,
}

/// An executor that is kept for a job, from round to round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Which.
    pub executor: ExecutorId,
    /// What the job was promised.
    pub promise: Promise,
    /// Where it stands in the queue.
    pub seat: Seat,
}

/// Of each image, the executors on which it has run of late, in the order of their ranks.
pub type Images = HashMap<u64, BTreeSet<(Rank, Slot)>>;

/// What is known of executors beside what is free on them.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// By slot.
    pub executors: &'a [Executor],
    /// Slots by name.
    pub slots: &'a BTreeMap<ExecutorId, Slot>,
    /// Where images have run.
    pub images: &'a Images,
    /// What has been kept for whom.
    pub kept: &'a BTreeMap<JobId, Reservation>,
}

/// A round under way.
#[derive(Debug)]
pub struct Round<'a> {
    fleet: &'a mut Fleet,
    known: Known<'a>,
    moment: Moment,
    /// Who was ready so long ago has waited for too long.
    age_limit_ms: u64,
    placed: Vec<Placed>,
    /// Room as it was before the round.
    before: BTreeMap<Slot, (Room, bool)>,
    /// Shapes that found no place, and the shortest run timeout with which they tried: room only gets less.
    failed: HashMap<ShapeId, u64>,
    compared: Vec<(Shape, u64)>,
    kept: Vec<(Seat, Kept)>,
    /// What is kept for jobs whose turn has not come.
    untouched: BTreeMap<JobId, Slot>,
    /// Shapes that no further executor is kept for.
    given_up: HashSet<ShapeId>,
    /// How many of these would fit somewhere if it were empty.
    too_far: usize,
    is_cut_short: bool,
    /// The job that all is about, where it is about one only.
    about: Option<(JobId, Kind)>,
}

/// When a job ends that has not started.
fn ends(kind: Kind) -> Ends {
    Ends::new(None, Some(kind.run_timeout_ms).filter(|lasts_ms| *lasts_ms < u64::MAX))
}

/// What is hard to place, first: what few devices will do for, then what asks for much.
type Hardness = (u64, Reverse<u32>, Reverse<u64>, Reverse<u64>, Shape, u64, bool);

impl<'a> Round<'a> {
    /// Begins.
    pub fn new(fleet: &'a mut Fleet, known: Known<'a>, moment: Moment, age_limit_ms: u64) -> Self {
        Self {
            fleet,
            known,
            moment,
            age_limit_ms,
            placed: Vec::new(),
            before: BTreeMap::new(),
            failed: HashMap::new(),
            compared: Vec::new(),
            kept: Vec::new(),
            untouched: BTreeMap::new(),
            given_up: HashSet::new(),
            too_far: 0,
            is_cut_short: false,
            about: None,
        }
    }

    /// The round is over as soon as it is known what becomes of this job.
    pub fn until(mut self, job: &JobId, kind: Kind) -> Self {
        self.about = Some((job.clone(), kind));
        self
    }

    /// Says whether the job that it is about has a place, or none.
    pub fn is_settled(&self) -> bool {
        self.about.as_ref().is_some_and(|(job, kind)| {
            // Who finds no room may get some that turns out not to be kept for another.
            let is_left_out = self.is_hopeless(*kind) && self.untouched.is_empty();
            is_left_out || self.placed.last().is_some_and(|placed| placed.job == *job)
        })
    }

    /// Ends: what was placed, what is kept for whom, and whether everyone was asked. All room is as before.
    pub fn end(self) -> (Vec<Placed>, Vec<Reservation>, bool) {
        for (slot, (room, is_open)) in self.before {
            self.fleet.set(slot, room, is_open);
        }
        let reservation = |(seat, kept): (Seat, Kept)| {
            let executor = self.known.executors[kept.slot].id.clone();
            Reservation { executor, promise: kept.promise, seat }
        };
        (self.placed, self.kept.into_iter().map(reservation).collect(), !self.is_cut_short)
    }

    /// Places jobs of a level.
    pub fn place_level(&mut self, level: &Level, share: &impl Fn(&Namespace) -> u64, whole: &Amounts) {
        let with_unrepeatable = self.moment.with_unrepeatable;
        let is_wanted = move |kind: Kind| kind.may_repeat || with_unrepeatable;
        let mut aged = Line::new(level, self.aged_ms(), is_wanted, share);
        // What is kept for whom does not depend on how shares change meanwhile; and each finds untouched what is kept
        // for it when its turn comes.
        let kept = self.known.kept.values().filter(|reservation| is_wanted(reservation.seat.kind));
        let mut kept: Vec<&Reservation> = kept.collect();
        kept.sort_by_key(|reservation| &reservation.seat.age);
        // Who was to be placed, and was not after all, has one kept beside those for whom one still may be.
        let most = self.most_kept().1.saturating_sub(self.kept.len());
        for Reservation { executor, seat, .. } in kept {
            let slot = self.known.slots.get(executor).copied().filter(|slot| self.fleet.is_open(*slot));
            if aged.let_ahead(level, seat)
                && let Some(slot) = slot.filter(|_| self.untouched.len() < most)
            {
                self.set_open(slot, false);
                self.untouched.insert(seat.age.1.clone(), slot);
            }
        }
        self.place_aged(aged, whole);
        let mut line = Line::new(level, u64::MAX, is_wanted, share);
        let rest = self.place_admitted(&mut line, whole);
        self.place_in_order(&mut line, rest, whole);
    }

    fn is_full(&mut self) -> bool {
        let is_full = self.placed.len() >= self.moment.limit || self.is_settled();
        self.is_cut_short |= is_full;
        is_full
    }

    fn aged_ms(&self) -> u64 {
        self.moment.now_ms.saturating_sub(self.age_limit_ms)
    }

    fn is_aged(&self, next: &Next<'_>) -> bool {
        next.age.0.max(next.waiter.ready_time_ms) <= self.aged_ms()
    }

    fn place_aged<'b>(&mut self, mut line: Line<'b>, whole: &Amounts) {
        let mut passed_over: Vec<Next<'b>> = Vec::new();
        loop {
            let may_keep = self.may_keep();
            let is_given_up =
                |kind: Kind| self.is_hopeless(kind) && (!may_keep || self.given_up.contains(&kind.shape));
            let Some(next) = line.next(is_given_up) else { return };
            let opened = self.untouched.remove(&next.age.1);
            if let Some(slot) = opened {
                self.reopen(slot);
            }
            if self.is_aged(&next) {
                if self.is_full() {
                    return;
                }
                if self.place(&next) {
                    line.charge(next.lane, self.share(next.kind, whole));
                } else {
                    if self.may_keep_for(&next.age.1) {
                        self.keep_for(&next, line.seat(&next));
                    }
                    if !self.untouched.is_empty() {
                        passed_over.push(next);
                    }
                }
            }
            if opened.is_some_and(|slot| self.fleet.is_open(slot)) {
                self.place_passed_over(&mut passed_over, &mut line, whole);
            }
        }
    }

    /// Places those who found no room while some was closed to them that is not kept for another after all.
    fn place_passed_over(&mut self, passed_over: &mut Vec<Next<'_>>, line: &mut Line<'_>, whole: &Amounts) {
        while let Some(at) = passed_over.iter().position(|next| self.fleet.choose(next.kind.shape).is_some())
        {
            if self.is_full() {
                return;
            }
            let next = passed_over.remove(at);
            let kept = self.kept.iter().position(|(seat, _)| seat.age == *next.age);
            if let Some((_, kept)) = kept.map(|at| self.kept.remove(at)) {
                self.reopen(kept.slot);
            }
            if self.place(&next) {
                line.charge(next.lane, self.share(next.kind, whole));
            }
        }
    }

    /// Admits a prefix whose sum would fit, and places it; gives the first one that was not admitted.
    fn place_admitted<'b>(&mut self, line: &mut Line<'b>, whole: &Amounts) -> Option<Next<'b>> {
        let (mut free, mut count) = (self.fleet.free(), 0);
        let mut admitted: BTreeMap<Kind, Vec<Next<'b>>> = BTreeMap::new();
        let rest = loop {
            let Some(next) = line.next(|kind| self.is_hopeless(kind)) else { break None };
            if self.is_aged(&next) {
                continue;
            }
            let is_admitted =
                count < self.moment.window && free.take(self.fleet.shape(next.kind.shape).amounts());
            if !is_admitted {
                break Some(next);
            }
            count += 1;
            line.charge(next.lane, self.share(next.kind, whole));
            admitted.entry(next.kind).or_default().push(next);
        };
        let mut admitted: Vec<(Kind, Vec<Next<'b>>)> = admitted.into_iter().collect();
        admitted.sort_by_cached_key(|(kind, _)| self.hardness(*kind));
        for next in admitted.into_iter().flat_map(|(_, alike)| alike) {
            if self.is_full() {
                return None;
            }
            self.place(&next);
        }
        rest
    }

    fn place_in_order<'b>(&mut self, line: &mut Line<'b>, mut rest: Option<Next<'b>>, whole: &Amounts) {
        loop {
            let next = rest.take().or_else(|| line.next(|kind| self.is_hopeless(kind)));
            let Some(next) = next else { return };
            if self.is_aged(&next) {
                continue;
            }
            if self.is_full() {
                return;
            }
            if self.place(&next) {
                line.charge(next.lane, self.share(next.kind, whole));
            }
        }
    }

    fn share(&self, kind: Kind, whole: &Amounts) -> u64 {
        self.fleet.shape(kind.shape).amounts().share_of(whole)
    }

    fn hardness(&self, kind: Kind) -> Hardness {
        let shape = self.fleet.shape(kind.shape);
        let eligible = self.fleet.eligible_gpu_millis(kind.shape);
        let size = (Reverse(shape.gpus), Reverse(shape.cpu_millis), Reverse(shape.memory_bytes));
        (eligible, size.0, size.1, size.2, shape.clone(), kind.run_timeout_ms, kind.may_repeat)
    }

    fn is_hopeless(&self, kind: Kind) -> bool {
        self.failed.get(&kind.shape).is_some_and(|timeout| kind.run_timeout_ms >= *timeout)
    }

    fn place(&mut self, next: &Next<'_>) -> bool {
        let kind = next.kind;
        if self.is_hopeless(kind) {
            return false;
        }
        let shape = self.fleet.shape(kind.shape);
        let asks_more =
            |(other, timeout): &(Shape, u64)| kind.run_timeout_ms >= *timeout && shape.is_at_least(other);
        if self.compared.iter().any(asks_more) {
            self.failed.insert(kind.shape, kind.run_timeout_ms);
            return false;
        }
        let Some((slot, take)) = self.choose(next).or_else(|| self.choose_kept(kind)) else {
            self.fail(kind);
            return false;
        };
        self.put(kind.shape, slot, &take);
        self.placed.push(Placed { job: next.age.1.clone(), slot, take, kind });
        true
    }

    fn fail(&mut self, kind: Kind) {
        self.failed.insert(kind.shape, kind.run_timeout_ms);
        let shape = self.fleet.shape(kind.shape);
        // Whoever asks for no less than one that this one asks no more than is told by this one.
        self.compared
            .retain(|(other, timeout)| !(other.is_at_least(shape) && *timeout >= kind.run_timeout_ms));
        if self.compared.len() < MOST_COMPARED {
            self.compared.push((shape.clone(), kind.run_timeout_ms));
        }
    }

    fn choose(&mut self, next: &Next<'_>) -> Option<(Slot, Take)> {
        let avoided = next.waiter.avoid.as_ref().and_then(|id| self.known.slots.get(id)).copied();
        let Some(avoided) = avoided.filter(|slot| self.fleet.is_open(*slot)) else {
            return self.choose_near(next);
        };
        let room = self.fleet.room(avoided).clone();
        self.fleet.set(avoided, room.clone(), false);
        let other = self.choose_near(next);
        self.fleet.set(avoided, room, true);
        other.or_else(|| self.choose_near(next))
    }

    /// The best place; of those that are the same in all that is free, one that has the image.
    fn choose_near(&mut self, next: &Next<'_>) -> Option<(Slot, Take)> {
        let (best, take) = self.fleet.choose(next.kind.shape)?;
        let having = self.known.images.get(&next.waiter.image_hash);
        let mut having = having.into_iter().flatten().take(MOST_NEAR).map(|(_, slot)| *slot);
        Some((having.find(|slot| self.fleet.is_same(next.kind.shape, *slot, best)).unwrap_or(best), take))
    }

    /// Room on an executor that is kept for another, which it will have left by the time that one can start, or
    /// beside which it can stay.
    fn choose_kept(&mut self, kind: Kind) -> Option<(Slot, Take)> {
        let shape = self.fleet.shape(kind.shape);
        let now_ms = self.moment.now_ms;
        self.kept.iter_mut().find_map(|(_, kept)| {
            let (slot, room) = (kept.slot, self.fleet.room(kept.slot));
            let executor = &self.known.executors[slot];
            let take = room.holds(shape).then(|| kept.let_in(room, executor, (shape, ends(kind)), now_ms));
            Some((slot, take.flatten()?))
        })
    }

    fn put(&mut self, shape: ShapeId, slot: Slot, take: &Take) {
        let (room, is_open) = (self.fleet.room(slot).clone(), self.fleet.is_open(slot));
        let left = room.less(self.fleet.shape(shape), take);
        self.before.entry(slot).or_insert((room, is_open));
        self.fleet.set(slot, left, is_open);
    }

    /// Executors are kept for a few at a time: the more are kept, the more stands idle.
    fn may_keep(&self) -> bool {
        let (in_time, with_stuck) = self.most_kept();
        self.kept_in_time() < in_time && self.kept.len() < with_stuck && self.too_far < MOST_TOO_FAR
    }

    /// Whoever had one kept may go on to, even if one before it is stuck no more.
    fn may_keep_for(&self, job: &JobId) -> bool {
        self.may_keep() || (self.known.kept.contains_key(job) && self.kept.len() < self.most_kept().1)
    }

    /// How many executors may be kept, and how many with those that may never have room: these are not to keep others
    /// from having one kept.
    fn most_kept(&self) -> (usize, usize) {
        let executors = self.known.executors.len();
        let in_time = (executors / KEPT_OF).clamp(1, MOST_KEPT);
        (in_time, in_time.max(MOST_KEPT.min(executors / 2)))
    }

    fn kept_in_time(&self) -> usize {
        let is_stuck = |kept: &Kept| kept.promise.is_stuck(self.moment.now_ms, self.age_limit_ms);
        self.kept.iter().filter(|(_, kept)| !is_stuck(kept)).count()
    }

    fn keep_for(&mut self, next: &Next<'_>, seat: Seat) {
        let (job, shape) = (&next.age.1, self.fleet.shape(next.kind.shape));
        let before = self.known.kept.get(job);
        let before = before.and_then(|kept| Some((*self.known.slots.get(&kept.executor)?, kept.promise)));
        let mut guests = Guests::new();
        for placed in &self.placed {
            let shape = self.fleet.shape(placed.kind.shape);
            let guest = Running::new(shape, &placed.take, ends(placed.kind));
            guests.entry(placed.slot).or_default().push(guest);
        }
        let (is_first, now_ms) = (self.kept_in_time() == 0, self.moment.now_ms);
        let wanting = Wanting { shape, before, is_first, guests: &guests, now_ms };
        let Some(kept) = best_to_keep(self.fleet, self.known.executors, &wanting) else {
            self.too_far += usize::from(is_ever_held(self.fleet, self.known.executors, shape));
            self.given_up.insert(next.kind.shape);
            return;
        };
        self.set_open(kept.slot, false);
        self.kept.push((seat, kept));
    }

    /// Opens what was kept: who found no place without it may find one now.
    fn reopen(&mut self, slot: Slot) {
        self.set_open(slot, true);
        let (fleet, room) = (&*self.fleet, self.fleet.room(slot));
        self.failed.retain(|shape, _| !room.holds(fleet.shape(*shape)));
        self.compared.retain(|(shape, _)| !room.holds(shape));
    }

    fn set_open(&mut self, slot: Slot, is_open: bool) {
        let (room, was_open) = (self.fleet.room(slot).clone(), self.fleet.is_open(slot));
        self.before.entry(slot).or_insert((room.clone(), was_open));
        self.fleet.set(slot, room, is_open);
    }
}
