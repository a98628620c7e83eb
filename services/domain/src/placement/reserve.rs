//! Which executor is kept for a job that has waited for too long, and who may use it meanwhile (backfilling, as
//! in "The ANL/IBM SP Scheduling System", JSSPP 1995): who ends before that job can start, or fits beside it.
//! A start that was foreseen once is not put off for anyone who comes later.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::amounts::{Room, Shape, Take};
use super::executors::{Executor, Running};
use super::fleet::{Fleet, Rank, Slot};
use super::types::Ends;

/// Beside the first, only executors are kept that lack at most so much of what is asked for, in thousandths: they
/// stand idle the shorter.
const MOST_LACKING_MILLIS: u64 = 250;

/// Of the executors that may be kept, so many at most, those that lack least, are compared by when they have room.
const MOST_COMPARED: usize = 32;

/// So many executors at most are looked at for where room comes first.
const MOST_OPENINGS: usize = 1_024;

/// The largest share of what is asked for that is not free, in thousandths; then the sum of these.
type Lack = (u64, u64);

/// Jobs that were given a place in a round, by where.
pub type Guests = HashMap<Slot, Vec<Running>>;

/// What holds from round to round of an executor that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// The earliest start that was foreseen so far; `u64::MAX` where nobody knows. Who ends later must not delay it.
    pub limit_ms: u64,
    /// The least that was lacking since.
    lack: Lack,
    /// When that became less, or a start was foreseen.
    since_ms: u64,
}

impl Promise {
    /// Says whether nobody knows when the job can start, and that has come no nearer for so long.
    pub fn is_stuck(&self, now_ms: u64, for_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) >= for_ms.max(1)
    }
}

/// Who has waited for too long.
#[derive(Debug, Clone, Copy)]
pub struct Wanting<'a> {
    /// What it asks for.
    pub shape: &'a Shape,
    /// What has been kept for it so far.
    pub before: Option<(Slot, Promise)>,
    /// Whether it may have any executor, be there ever so much lacking.
    pub is_first: bool,
    /// Who was given a place in this round.
    pub guests: &'a Guests,
    /// Now.
    pub now_ms: u64,
}

/// An executor that is kept.
#[derive(Debug)]
pub struct Kept {
    /// Which.
    pub slot: Slot,
    /// What is to hold in the rounds to come.
    pub promise: Promise,
    /// What the job asks for.
    shape: Shape,
    /// When there will be room.
    opening: Opening,
    /// Who was given a place there in this round.
    guests: Vec<Running>,
}

impl Kept {
    /// Gives a job a place there, and devices, if it may have it, and notes that it has: the start that is foreseen
    /// comes no later for it, and where none is, no more is lacking.
    pub fn let_in(
        &mut self,
        room: &Room,
        executor: &Executor,
        (shape, ends): (&Shape, Ends),
        now_ms: u64,
    ) -> Option<Take> {
        let beside = &self.opening.beside;
        let takes = [Some(room.take(shape)), beside.holds(shape).then(|| beside.take(shape))];
        let mut takes = takes.into_iter().flatten().filter(|take| room.has(take));
        takes.find(|take| self.let_take(room, executor, (&Running::new(shape, take, ends), take), now_ms))
    }

    fn let_take(
        &mut self,
        room: &Room,
        executor: &Executor,
        (guest, take): (&Running, &Take),
        now_ms: u64,
    ) -> bool {
        let left = room.less(&guest.shape, take);
        if self.opening.by_ms == u64::MAX {
            let left = missing(&left, &self.shape);
            return left.iter().zip(missing(room, &self.shape)).all(|(then, now)| *then <= now);
        }
        if guest.ends.by_ms(now_ms) > self.promise.limit_ms && !self.opening.beside.holds(&guest.shape) {
            return false;
        }
        self.guests.push(guest.clone());
        let opening = Opening::of(&left, executor, &self.guests, &self.shape, now_ms);
        let opening = opening.filter(|opening| opening.by_ms <= self.opening.by_ms);
        let is_let = opening.is_some();
        match opening {
            Some(opening) => self.opening = opening,
            None => drop(self.guests.pop()),
        }
        is_let
    }
}

/// When an executor will have room for a shape, if nothing else came.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Opening {
    /// At the latest; `u64::MAX` where nobody knows.
    by_ms: u64,
    /// What will be free beside it then.
    beside: Room,
    /// How many jobs have to end.
    jobs: usize,
}

impl Opening {
    /// Lets jobs end, the first to end first, until the shape fits; none where it never does.
    fn of(room: &Room, executor: &Executor, guests: &[Running], shape: &Shape, now_ms: u64) -> Option<Self> {
        let all = executor.running.values().chain(guests);
        let mut running: Vec<(u64, &Running)> = all.map(|job| (job.ends.by_ms(now_ms), job)).collect();
        running.sort_by_key(|(ends_ms, job)| (*ends_ms, Reverse(job.shape.gpus)));
        let (mut room, mut by_ms, mut jobs) = (room.clone(), 0, 0);
        for (ends_ms, job) in running {
            if room.holds(shape) {
                break;
            }
            room.give_back(&job.shape, job.models.iter().copied());
            by_ms = ends_ms;
            jobs += 1;
        }
        room.holds(shape).then(|| Self { by_ms, beside: room.less(shape, &room.take(shape)), jobs })
    }
}

/// An executor that may be kept.
struct Place {
    opening: Opening,
    lack: Lack,
    rank: Rank,
    slot: Slot,
}

impl Place {
    /// What makes it better than another one: that there is room sooner, or, where nobody knows when, less is lacking.
    fn worth(&self) -> (u64, Lack) {
        let by_ms = self.opening.by_ms;
        (by_ms, if by_ms == u64::MAX { self.lack } else { Lack::default() })
    }

    /// Keeps it; what was kept before and is still there binds.
    fn keep(self, wanting: &Wanting<'_>, before: Option<(Slot, Promise)>) -> Kept {
        let Self { opening, lack, slot, .. } = self;
        let since = before
            .filter(|(before, promise)| *before == slot && opening.by_ms == u64::MAX && promise.lack <= lack);
        let limit_ms = before.map_or(u64::MAX, |(_, promise)| promise.limit_ms).min(opening.by_ms);
        let (lack, since_ms) = since.map_or((lack, wanting.now_ms), |(_, old)| (old.lack, old.since_ms));
        Kept {
            slot,
            promise: Promise { limit_ms, lack, since_ms },
            shape: wanting.shape.clone(),
            opening,
            guests: wanting.guests.get(&slot).cloned().unwrap_or_default(),
        }
    }
}

/// Chooses an executor to keep for a job that fits nowhere now: the one that has been kept so far, unless another open
/// one is better; of several the best, and of equal ones that which lacks least, the lowest of these. None where it
/// would fit on none of them, even if that were empty, and, but for the first, where all lack too much.
pub fn best_to_keep(fleet: &Fleet, executors: &[Executor], wanting: &Wanting<'_>) -> Option<Kept> {
    let Wanting { shape, before, is_first, guests, now_ms, .. } = *wanting;
    let is_before = |slot: Slot| before.is_some_and(|(before, _)| before == slot);
    let may_be =
        |((lack, _), _, slot): &Candidate| is_first || *lack <= MOST_LACKING_MILLIS || is_before(*slot);
    let all = candidates(fleet, executors, shape).filter(may_be);
    let (own, others): (Vec<Candidate>, Vec<Candidate>) = all.partition(|(.., slot)| is_before(*slot));
    let place = |(lack, rank, slot): Candidate| {
        let here = guests.get(&slot).map_or(&[][..], Vec::as_slice);
        let opening = Opening::of(fleet.room(slot), &executors[slot], here, shape, now_ms)?;
        Some(Place { opening, lack, rank, slot })
    };
    let own = own.into_iter().find_map(place);
    let other = closest(others, MOST_COMPARED).into_iter().filter_map(place);
    let other = other.min_by_key(|other| (other.worth(), other.lack, other.rank));
    // What is there no more binds nobody.
    let before = before.filter(|_| own.is_some());
    let other = other.filter(|other| own.as_ref().is_none_or(|own| other.worth() < own.worth()));
    Some(other.or(own)?.keep(wanting, before))
}

/// Where a shape that fits nowhere now will fit first, on executors that are not kept for others: how many jobs have to
/// end there, and when they will have; `u64::MAX` where nobody knows. Of those that lack most, not all are looked at.
pub fn opening(
    fleet: &Fleet,
    executors: &[Executor],
    shape: &Shape,
    kept: &[Slot],
    now_ms: u64,
) -> Option<(Slot, usize, u64)> {
    let all = candidates(fleet, executors, shape).filter(|(_, _, slot)| !kept.contains(slot));
    let openings = closest(all.collect(), MOST_OPENINGS).into_iter().filter_map(|(lack, rank, slot)| {
        let opening = Opening::of(fleet.room(slot), &executors[slot], &[], shape, now_ms)?;
        Some((opening.by_ms, opening.jobs, lack, rank, slot))
    });
    openings.min().map(|(by_ms, jobs, _, _, slot)| (slot, jobs, by_ms))
}

/// What an executor lacks of a shape, its rank, and its slot.
type Candidate = (Lack, Rank, Slot);

/// Says whether an executor that may be chosen would hold a shape if it ran nothing.
pub fn is_ever_held(fleet: &Fleet, executors: &[Executor], shape: &Shape) -> bool {
    candidates(fleet, executors, shape).next().is_some()
}

/// The executors that may be chosen and are large enough for a shape: the one that lacks least is the lowest.
fn candidates<'a>(
    fleet: &'a Fleet,
    executors: &'a [Executor],
    shape: &'a Shape,
) -> impl Iterator<Item = Candidate> + 'a {
    let open = (0..executors.len()).filter(|slot| fleet.is_open(*slot));
    let large = open.filter(|slot| executors[*slot].whole.holds(shape));
    large.map(|slot| (lacks(fleet.room(slot), shape), executors[slot].rank, slot))
}

/// Those that lack least, so many at most.
fn closest(mut all: Vec<Candidate>, most: usize) -> Vec<Candidate> {
    if all.len() > most {
        all.select_nth_unstable(most);
        all.truncate(most);
    }
    all
}

fn lacks(room: &Room, shape: &Shape) -> Lack {
    let asked = [u64::from(shape.gpus), shape.cpu_millis, shape.memory_bytes];
    let lack = |(missing, asked): (u64, u64)| {
        let millis = u128::from(missing) * 1_000 / u128::from(asked.max(1));
        u64::try_from(millis).unwrap_or(u64::MAX)
    };
    let [gpus, cpu, memory] = missing(room, shape);
    let [gpus, cpu, memory] = [(gpus, asked[0]), (cpu, asked[1]), (memory, asked[2])].map(lack);
    (gpus.max(cpu).max(memory), gpus + cpu + memory)
}

/// What is asked for and not free: devices, CPU, memory.
fn missing(room: &Room, shape: &Shape) -> [u64; 3] {
    [
        u64::from(shape.gpus.saturating_sub(room.usable(shape))),
        shape.cpu_millis.saturating_sub(room.cpu_millis),
        shape.memory_bytes.saturating_sub(room.memory_bytes),
    ]
}
