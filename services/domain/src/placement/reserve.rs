//! Which executor is kept for a job that has waited for too long, and who may use it meanwhile (backfilling, as
//! in "The ANL/IBM SP Scheduling System", JSSPP 1995): who ends before that job can start, or fits beside it.

use std::cmp::Reverse;

use super::amounts::{Room, Shape};
use super::executors::{Executor, Running};
use super::fleet::{Fleet, Rank, Slot};
use crate::ids::JobId;

/// Beside the first, only executors are kept that lack at most so much of what is asked for, in thousandths: they
/// stand idle the shorter.
const MOST_LACKING_MILLIS: u64 = 250;

/// Of the executors that may be kept, so many at most, those that lack least, are compared by when they have room.
const MOST_COMPARED: usize = 32;

/// So many executors at most are looked at for where room comes first.
const MOST_OPENINGS: usize = 1_024;

/// Who has waited for too long.
#[derive(Debug, Clone, Copy)]
pub struct Wanting<'a> {
    /// The job.
    pub job: &'a JobId,
    /// What it asks for.
    pub shape: &'a Shape,
    /// The executor that has been kept for it so far.
    pub before: Option<Slot>,
    /// Whether none is kept for another one yet.
    pub is_first: bool,
}

/// An executor that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// For this job.
    pub job: JobId,
    /// The executor.
    pub slot: Slot,
    /// What the job asks for.
    shape: Shape,
    /// When it can start at the latest; `u64::MAX` where nobody knows.
    starts_ms: u64,
    /// What will be free beside it then.
    beside: Room,
}

impl Kept {
    /// Says whether a job may have room there that ends at the latest at `ends_ms`, and notes that it has: the start
    /// that is foreseen comes no later for it, and where none is, no more is lacking.
    pub fn lets_in(&mut self, room: &Room, shape: &Shape, ends_ms: u64) -> bool {
        if self.starts_ms == u64::MAX {
            let left = missing(&room.less(shape, &room.take(shape)), &self.shape);
            return left.iter().zip(missing(room, &self.shape)).all(|(then, now)| *then <= now);
        }
        if ends_ms <= self.starts_ms {
            return true;
        }
        let is_beside = self.beside.holds(shape);
        if is_beside {
            self.beside = self.beside.less(shape, &self.beside.take(shape));
        }
        is_beside
    }
}

/// Chooses an executor to keep for a job that fits nowhere now: of those that are open, which one that is kept is not,
/// the one on which it can start first as far as anybody knows, and of equal ones that which lacks least, the lowest
/// of these. The one that was kept before is always compared. None where it would fit on none of them, even if that
/// were empty, and, but for the first, where all lack too much.
pub fn best_to_keep(fleet: &Fleet, executors: &[Executor], wanting: &Wanting<'_>) -> Option<Kept> {
    let Wanting { job, shape, before, is_first } = *wanting;
    let may_be =
        |((lack, _), _, slot): &Candidate| is_first || *lack <= MOST_LACKING_MILLIS || before == Some(*slot);
    let all = candidates(fleet, executors, shape).filter(may_be);
    let (as_before, others): (Vec<Candidate>, Vec<Candidate>) = all.partition(|one| before == Some(one.2));
    let compared = closest(others, MOST_COMPARED).into_iter().chain(as_before);
    let once = compared.filter_map(|(lack, rank, slot)| {
        let (starts_ms, beside, _) = once_it_fits(fleet.room(slot), &executors[slot], shape)?;
        Some(((starts_ms, lack, rank), slot, beside))
    });
    let ((starts_ms, ..), slot, beside) = once.min_by_key(|(key, ..)| *key)?;
    Some(Kept { job: job.clone(), slot, shape: shape.clone(), starts_ms, beside })
}

/// Where a shape that fits nowhere now will fit first, on executors that are not kept for others: how many jobs have to
/// end there, and when they will have; `u64::MAX` where nobody knows. Of those that lack most, not all are looked at.
pub fn opening(
    fleet: &Fleet,
    executors: &[Executor],
    shape: &Shape,
    kept: &[Slot],
) -> Option<(Slot, usize, u64)> {
    let all = candidates(fleet, executors, shape).filter(|(_, _, slot)| !kept.contains(slot));
    let openings = closest(all.collect(), MOST_OPENINGS).into_iter().filter_map(|(lack, rank, slot)| {
        let (by_ms, _, jobs) = once_it_fits(fleet.room(slot), &executors[slot], shape)?;
        Some((by_ms, jobs, lack, rank, slot))
    });
    openings.min().map(|(by_ms, jobs, _, _, slot)| (slot, jobs, by_ms))
}

/// What an executor lacks of a shape, its rank, and its slot.
type Candidate = ((u64, u64), Rank, Slot);

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

/// The largest share of what is asked for that is not free, in thousandths; then the sum of these.
fn lacks(room: &Room, shape: &Shape) -> (u64, u64) {
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

/// Lets an executor's jobs end, the first to end first, until the shape fits: when that is, what is free beside it
/// then, and how many have ended.
fn once_it_fits(room: &Room, executor: &Executor, shape: &Shape) -> Option<(u64, Room, usize)> {
    let mut running: Vec<(&JobId, &Running)> = executor.running.iter().collect();
    running.sort_by_key(|(id, job)| (job.ends_ms, Reverse(job.shape.gpus), *id));
    let (mut room, mut starts_ms, mut ended) = (room.clone(), 0, 0);
    for (_, job) in running {
        if room.holds(shape) {
            break;
        }
        room.give_back(&job.shape, job.models.iter().copied());
        starts_ms = job.ends_ms;
        ended += 1;
    }
    room.holds(shape).then(|| (starts_ms, room.less(shape, &room.take(shape)), ended))
}
