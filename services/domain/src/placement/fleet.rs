//! The executors as the engine sees them: those with equal free room are one state, what a state is worth to a
//! shape is reckoned once, and each shape keeps the states that it fits in ordered. What changed since a shape
//! was last asked for is looked at then, and nothing else.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::amounts::{Amounts, Room, Shape, Take};
use super::mix::Mix;
use super::worth::{Policy, Scale, Score, Worth};

/// The number of an executor.
pub type Slot = usize;
/// The number of a shape.
pub type ShapeId = usize;
type StateId = usize;

/// Where an executor stands among those that are equally good: the lowest is first.
pub type Rank = u64;

/// A state may keep so many ranks of executors that have left it, and a fleet so many states that are empty.
const STALE_RANKS: usize = 64;
const STALE_STATES: usize = 65_536;
/// An order may have so many entries that are out of date.
const STALE_ENTRIES: usize = 1_024;
/// All orders together may have so many entries.
const MOST_ENTRIES: usize = 1 << 22;

/// Executors, and the orders in which shapes prefer them.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    policy: Policy,
    slots: Vec<Place>,
    by_rank: HashMap<Rank, Slot>,
    states: Vec<State>,
    state_ids: HashMap<Room, StateId>,
    /// States that came to life or got a lower first executor, by when that was.
    recent: BTreeMap<u64, StateId>,
    now: u64,
    shapes: Vec<Shape>,
    shape_ids: HashMap<Shape, ShapeId>,
    orders: HashMap<ShapeId, Order>,
    /// How many entries they have together.
    entries: usize,
    mix: Mix,
    worth: Worth,
    /// What all executors have, by which the worth was reckoned; it is out of date where this is unknown.
    is_current: bool,
    scale: Scale,
    capacity: Vec<u64>,
    /// What is free on all executors that may be chosen.
    free: Amounts,
}

#[derive(Debug, Clone)]
struct Place {
    rank: Rank,
    room: Room,
    /// None while it must not be chosen.
    state: Option<StateId>,
}

#[derive(Debug, Clone)]
struct State {
    room: Room,
    fragments: Option<u64>,
    /// How many executors are in it.
    count: usize,
    /// Their ranks, the lowest first; those that have left are found out late.
    ranks: BinaryHeap<Reverse<Rank>>,
    /// When it was last put among the recent ones.
    stamp: u64,
}

/// The states that a shape fits in, the best first. An entry is out of date where its state is empty or has another
/// first executor.
#[derive(Debug, Clone, Default)]
struct Order {
    heap: BinaryHeap<(Score, Reverse<Rank>, StateId)>,
    seen: u64,
}

impl Fleet {
    /// A fleet without executors.
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// The same without executors, shapes and what is asked for.
    pub fn emptied(&self) -> Self {
        Self::new(self.policy)
    }

    /// What was asked for, as it was counted.
    pub fn known_mix(&self) -> &Mix {
        &self.mix
    }

    /// Adds an executor that must not be chosen yet; ranks are unique.
    pub fn add(&mut self, rank: Rank) -> Slot {
        self.slots.push(Place { rank, room: Room::default(), state: None });
        self.by_rank.insert(rank, self.slots.len() - 1);
        self.slots.len() - 1
    }

    /// Says what all executors have, by model: that decides what is scarce, and what a large amount is.
    pub fn set_capacity(&mut self, scale: Scale, capacity: Vec<u64>) {
        if (scale, &capacity) != (self.scale, &self.capacity) {
            (self.scale, self.capacity, self.is_current) = (scale, capacity, false);
        }
    }

    /// The number of a shape.
    pub fn shape_id(&mut self, shape: &Shape) -> ShapeId {
        if let Some(id) = self.shape_ids.get(shape) {
            return *id;
        }
        self.shapes.push(shape.clone());
        self.shape_ids.insert(shape.clone(), self.shapes.len() - 1);
        self.shapes.len() - 1
    }

    /// The shape of a number.
    pub fn shape(&self, id: ShapeId) -> &Shape {
        &self.shapes[id]
    }

    /// How many shapes have numbers, and how many executors.
    pub fn sizes(&self) -> (usize, usize) {
        (self.shapes.len(), self.slots.len())
    }

    /// What is asked for, by the numbers of shapes.
    pub fn mix(&mut self) -> &mut Mix {
        &mut self.mix
    }

    /// What is free on an executor.
    pub fn room(&self, slot: Slot) -> &Room {
        &self.slots[slot].room
    }

    /// Says whether an executor may be chosen.
    pub fn is_open(&self, slot: Slot) -> bool {
        self.slots[slot].state.is_some()
    }

    /// Says whether an executor may be chosen for a shape instead of another: the same is free on both. Best fit goes
    /// by rank alone.
    pub fn is_same(&self, shape: ShapeId, slot: Slot, chosen: Slot) -> bool {
        let (room, best) = (self.room(slot), self.room(chosen));
        let is_alike = || self.is_open(slot) && room.has_as_much_as(best) && room.holds(&self.shapes[shape]);
        slot == chosen || (self.policy == Policy::Auto && is_alike())
    }

    /// What is free on all executors that may be chosen.
    pub fn free(&self) -> Amounts {
        self.free
    }

    /// Thousandths of devices in the cluster that a shape could use if all were free.
    pub fn eligible_gpu_millis(&self, shape: ShapeId) -> u64 {
        let models = &self.shapes[shape].models;
        let each = (0_u16..).zip(&self.capacity);
        each.filter(|(model, _)| models.accept(*model)).map(|(_, millis)| millis).sum()
    }

    /// Says what is free on an executor; `is_open` where it may be chosen.
    pub fn set(&mut self, slot: Slot, room: Room, is_open: bool) {
        self.tidy();
        if self.is_open(slot) {
            self.free.remove(self.slots[slot].room.amounts());
        }
        if is_open {
            self.free.add(room.amounts());
        }
        let to = is_open.then(|| self.state_id(&room));
        self.slots[slot].room = room;
        self.move_to(slot, to);
    }

    /// Chooses the best executor for a shape, and devices on it.
    pub fn choose(&mut self, shape: ShapeId) -> Option<(Slot, Take)> {
        self.renew();
        let mut order = self.orders.remove(&shape).unwrap_or_default();
        self.entries -= order.heap.len();
        self.catch_up(shape, &mut order);
        let chosen = self.first(&mut order);
        self.entries += order.heap.len();
        self.orders.insert(shape, order);
        let slot = chosen?;
        let take = self.score(shape, &self.slots[slot].room).1;
        Some((slot, take))
    }

    fn score(&self, shape: ShapeId, room: &Room) -> (Score, Take) {
        self.worth.score(&self.shapes[shape], room, self.worth.fragments(room))
    }

    /// Reckons worth anew where the mix or the cluster has changed; all orders are out of date then.
    fn renew(&mut self) {
        let has_mix = self.policy == Policy::Auto;
        if !self.is_current || (has_mix && self.mix.is_renewed()) {
            let typical = self.mix.look().into_iter();
            // What labels are asked for says little of what room is worth.
            let typical = typical.map(|(shape, weight)| (self.shapes[shape].without_constraints(), weight));
            let typical = typical.collect();
            self.worth = Worth::new(self.policy, self.scale, typical, &self.capacity);
            self.is_current = true;
            self.forget_orders();
            self.states.iter_mut().for_each(|state| state.fragments = None);
        } else if self.entries > MOST_ENTRIES {
            self.forget_orders();
        }
    }

    /// Forgets orders, but for those of shapes that fit nowhere: that they do not rests on no worth, and whoever waits
    /// for long in a full cluster is of such a shape.
    fn forget_orders(&mut self) {
        self.orders.retain(|_, order| order.heap.is_empty());
        self.entries = 0;
    }

    /// Adds to a shape's order the states that are new to it.
    fn catch_up(&mut self, shape: ShapeId, order: &mut Order) {
        if order.heap.len() > STALE_ENTRIES + 4 * self.recent.len() {
            *order = Order::default();
        }
        let asked = &self.shapes[shape];
        let mut emptied = Vec::new();
        for (stamp, id) in self.recent.range(order.seen..) {
            let state = &mut self.states[*id];
            let Some(Reverse(first)) = state.ranks.peek().copied().filter(|_| state.count > 0) else {
                emptied.push(*stamp);
                continue;
            };
            if state.room.holds(asked) {
                let fragments = *state.fragments.get_or_insert_with(|| self.worth.fragments(&state.room));
                let (score, _) = self.worth.score(asked, &state.room, fragments);
                order.heap.push((score, Reverse(first), *id));
            }
        }
        emptied.iter().for_each(|stamp| {
            self.recent.remove(stamp);
        });
        order.seen = self.now + 1;
    }

    fn first(&mut self, order: &mut Order) -> Option<Slot> {
        loop {
            let (score, Reverse(rank), id) = *order.heap.peek()?;
            match self.first_of(id) {
                Some(first) if first == rank => return self.by_rank.get(&rank).copied(),
                Some(first) => {
                    order.heap.pop();
                    order.heap.push((score, Reverse(first), id));
                }
                None => {
                    order.heap.pop();
                }
            }
        }
    }

    /// The lowest rank in a state.
    fn first_of(&mut self, id: StateId) -> Option<Rank> {
        loop {
            let Reverse(rank) = *self.states[id].ranks.peek()?;
            if self.by_rank.get(&rank).is_some_and(|slot| self.slots[*slot].state == Some(id)) {
                return Some(rank);
            }
            self.states[id].ranks.pop();
        }
    }

    /// Leaves out the ranks of executors that are in the state no more.
    fn sweep(&mut self, id: StateId) {
        let mut ranks = std::mem::take(&mut self.states[id].ranks).into_vec();
        ranks.retain(|Reverse(rank)| {
            self.by_rank.get(rank).is_some_and(|slot| self.slots[*slot].state == Some(id))
        });
        ranks.sort_unstable();
        ranks.dedup();
        self.states[id].ranks = ranks.into();
    }

    /// Forgets states that no executor is in, once there are many.
    fn tidy(&mut self) {
        if self.states.len() <= STALE_STATES + 4 * self.slots.len() {
            return;
        }
        self.states.clear();
        self.state_ids.clear();
        self.recent.clear();
        self.orders.clear();
        self.entries = 0;
        self.free = Amounts::default();
        for slot in 0..self.slots.len() {
            let is_open = self.slots[slot].state.take().is_some();
            let room = std::mem::take(&mut self.slots[slot].room);
            self.set(slot, room, is_open);
        }
    }

    fn state_id(&mut self, room: &Room) -> StateId {
        if let Some(id) = self.state_ids.get(room) {
            return *id;
        }
        self.states.push(State {
            room: room.clone(),
            fragments: None,
            count: 0,
            ranks: BinaryHeap::new(),
            stamp: 0,
        });
        self.state_ids.insert(room.clone(), self.states.len() - 1);
        self.states.len() - 1
    }

    fn move_to(&mut self, slot: Slot, to: Option<StateId>) {
        let from = std::mem::replace(&mut self.slots[slot].state, to);
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.states[from].count -= 1;
        }
        let Some(to) = to else { return };
        let rank = self.slots[slot].rank;
        let first = self.first_of(to);
        // That it has left the state is found out only where it would have been first.
        let is_first = first.is_none_or(|first| rank <= first);
        let state = &mut self.states[to];
        state.ranks.push(Reverse(rank));
        state.count += 1;
        if state.ranks.len() > STALE_RANKS + 2 * state.count {
            self.sweep(to);
        }
        if is_first {
            let state = &mut self.states[to];
            self.recent.remove(&state.stamp);
            self.now += 1;
            state.stamp = self.now;
            self.recent.insert(self.now, to);
        }
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
