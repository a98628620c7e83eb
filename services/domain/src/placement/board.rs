//! The cluster as placement sees it, kept up to date job by job and executor by executor: what is free where, what
//! waits, and who has how much. It maps names to the engine's numbers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::amounts::{Amounts, ModelId, Models, Room, Shape, WHOLE};
use super::executors::{Executor, Running};
use super::fleet::{Fleet, Rank, ShapeId, Slot};
use super::queue::{Kind, Queue, Seat, Waiter};
use super::reserve::opening;
use super::round::{Images, Known, Placed, Reservation, Round};
use super::types::{Choice, Holding, Moment, Opening, Placement, Plan, Request, Trial};
use super::worth::Scale;
use crate::constraint::{Constraint, Labels};
use crate::ids::{ExecutorId, JobId, Namespace};
use crate::resources::{Capacity, Demand, GpuDevice, Reserved};

/// The distance between the ranks of neighbours, which leaves room for those that come between.
const GAP: Rank = 1 << 32;
/// The first one has room on both sides.
const FIRST_RANK: Rank = Rank::MAX / 2;
/// So many shapes and executors may be numbered in vain before all are numbered anew.
const STALE_NUMBERS: usize = 4_096;

/// The cluster.
#[derive(Debug, Clone)]
pub struct Board {
    age_limit_ms: u64,
    fleet: Fleet,
    models: BTreeMap<String, ModelId>,
    /// The labels that some job asks about.
    keys: BTreeSet<String>,
    slots: BTreeMap<ExecutorId, Slot>,
    executors: Vec<Executor>,
    /// Where an image has run of late.
    images: Images,
    queue: Queue,
    /// What has been kept for whom, since the last round in which everyone was asked.
    kept: BTreeMap<JobId, Reservation>,
    /// What each namespace has.
    usage: BTreeMap<Namespace, Amounts>,
    /// What all executors have; unknown after one has changed.
    whole: Option<Amounts>,
    /// How many shapes, executors and labels there were when numbers were last given.
    numbered: (usize, usize, usize),
}

/// Models by name: those that have numbers, and the others.
fn models_of<'a>(names: impl Iterator<Item = &'a String>, numbers: &BTreeMap<String, ModelId>) -> Models {
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for name in names {
        match numbers.get(name) {
            Some(id) => known.push(*id),
            None => others.push(name.clone()),
        }
    }
    known.sort_unstable();
    Models::Of(known, others)
}

impl Board {
    /// An empty cluster.
    pub fn new(placement: Placement) -> Self {
        Self {
            age_limit_ms: placement.age_limit_ms,
            fleet: Fleet::new(placement.policy),
            models: BTreeMap::new(),
            keys: BTreeSet::new(),
            slots: BTreeMap::new(),
            executors: Vec::new(),
            images: Images::new(),
            queue: Queue::default(),
            kept: BTreeMap::new(),
            usage: BTreeMap::new(),
            whole: None,
            numbered: (0, 0, 0),
        }
    }

    /// Says what an executor has, its labels, and whether it takes jobs.
    pub fn put_executor(&mut self, id: &ExecutorId, capacity: &Capacity, labels: &Labels, takes_jobs: bool) {
        self.tidy();
        capacity.gpus.iter().for_each(|gpu| self.know_model(&gpu.model));
        let slot = self.slot(id);
        let executor = &mut self.executors[slot];
        if executor.capacity.as_ref() != Some(capacity) {
            executor.capacity = Some(capacity.clone());
            executor.look_up_models(&self.models);
            self.whole = None;
        }
        if executor.labels != *labels {
            executor.labels.clone_from(labels);
        }
        executor.takes_jobs = takes_jobs;
        self.refresh(slot);
    }

    /// Forgets what an executor has; jobs that are on it stay there.
    pub fn remove_executor(&mut self, id: &ExecutorId) {
        if let Some(slot) = self.slots.get(id).copied() {
            self.executors[slot].capacity = None;
            self.whole = None;
            self.refresh(slot);
        }
    }

    /// Adds a job that waits; says whether it was not there yet.
    pub fn push(&mut self, request: Request) -> bool {
        self.tidy();
        let kind = self.kind(&request);
        let Request { avoid, ready_time_ms, image_hash, .. } = request;
        let waiter = Waiter { avoid, ready_time_ms, image_hash };
        let age = (request.create_time_ms, request.job);
        let is_new = self.queue.insert(request.priority, &request.namespace, kind, age, waiter);
        if is_new {
            self.fleet.mix().wait(kind.shape);
        }
        is_new
    }

    /// Takes a job out that waits.
    pub fn withdraw(&mut self, request: &Request) {
        if let Some(shape) = self.take_out(request) {
            self.fleet.mix().leave(shape);
        }
        self.kept.remove(&request.job);
    }

    fn take_out(&mut self, request: &Request) -> Option<ShapeId> {
        let kind = self.kind(request);
        let age = (request.create_time_ms, request.job.clone());
        self.queue.remove(request.priority, &request.namespace, kind, &age).then_some(kind.shape)
    }

    /// Counts jobs that have been submitted: what comes often shapes what is kept free, whatever labels it asks for.
    pub fn count_arrivals(&mut self, demand: &Demand, count: u64) {
        self.tidy();
        let shape = self.shape(demand).without_constraints();
        let id = self.fleet.shape_id(&shape);
        self.fleet.mix().arrive(id, count);
    }

    /// What has been submitted of late, old arrivals counted less.
    pub fn arrivals(&self) -> Vec<(Demand, u64)> {
        let names: BTreeMap<ModelId, &String> = self.models.iter().map(|(name, id)| (*id, name)).collect();
        let demand = |shape: &Shape| Demand {
            cpu_millis: shape.cpu_millis,
            memory_bytes: shape.memory_bytes,
            gpu_count: shape.gpus,
            constraints: shape.constraints.clone(),
            gpu_models: match &shape.models {
                Models::Any => Vec::new(),
                Models::Of(models, others) => {
                    let known = models.iter().filter_map(|id| names.get(id)).map(|name| (*name).clone());
                    known.chain(others.iter().cloned()).collect()
                }
            },
        };
        let arrived = self.fleet.known_mix().arrived();
        arrived.map(|(shape, count)| (demand(self.fleet.shape(shape)), count)).collect()
    }

    /// Notes that a job has an executor.
    pub fn hold(&mut self, holding: &Holding) {
        let shape = self.shape(&holding.demand);
        let slot = self.slot(&holding.executor);
        let executor = &mut self.executors[slot];
        executor.reserved.add(&holding.demand, &holding.gpu_device_ids);
        let amounts = shape.amounts();
        let gpu_device_ids = holding.gpu_device_ids.clone();
        let models = executor.models_of(&gpu_device_ids, &self.models);
        let running = Running { shape, gpu_device_ids, models, ends: holding.ends };
        executor.running.insert(holding.job.clone(), running);
        self.usage.entry(holding.namespace.clone()).or_default().add(amounts);
        self.refresh(slot);
    }

    /// Notes that a job has its executor no more.
    pub fn release(&mut self, holding: &Holding) {
        let slot = self.slot(&holding.executor);
        let executor = &mut self.executors[slot];
        executor.reserved.remove(&holding.demand, &holding.gpu_device_ids);
        let Some(running) = executor.running.remove(&holding.job) else { return };
        if let Some(usage) = self.usage.get_mut(&holding.namespace) {
            usage.remove(running.shape.amounts());
            if *usage == Amounts::default() {
                self.usage.remove(&holding.namespace);
            }
        }
        self.refresh(slot);
    }

    /// Notes that an executor has an image: it has run there.
    pub fn note_image(&mut self, id: &ExecutorId, image_hash: u64) {
        let slot = self.slot(id);
        let executor = &mut self.executors[slot];
        let place = (executor.rank, slot);
        if let Some(oldest) = executor.note_image(image_hash)
            && let Some(places) = self.images.get_mut(&oldest)
        {
            places.remove(&place);
            if places.is_empty() {
                self.images.remove(&oldest);
            }
        }
        self.images.entry(image_hash).or_default().insert(place);
    }

    /// Which images have run where of late, the newest last.
    pub fn images(&self) -> impl Iterator<Item = (&ExecutorId, u64)> {
        self.executors.iter().flat_map(|one| one.images.iter().map(|image| (&one.id, *image)))
    }

    /// What is kept for whom.
    pub fn reservations(&self) -> impl Iterator<Item = (&JobId, &Reservation)> {
        self.kept.iter()
    }

    /// Forgets what is kept for whom.
    pub fn forget_reservations(&mut self) {
        self.kept.clear();
    }

    /// Goes on keeping for a job that waits what another board has kept for it.
    pub fn keep(&mut self, request: &Request, reservation: &Reservation) {
        let kind = self.kind(request);
        let seat = Seat { kind, ..reservation.seat.clone() };
        self.kept.insert(request.job.clone(), Reservation { seat, ..reservation.clone() });
    }

    /// What is reserved on an executor.
    pub fn reserved(&self, id: &ExecutorId) -> Option<&Reserved> {
        self.slots.get(id).map(|slot| &self.executors[*slot].reserved)
    }

    /// Decides where jobs that wait go now. Nothing is noted but what is kept: what is carried out comes back as `hold`.
    pub fn plan(&mut self, moment: &Moment) -> Plan {
        let (plan, kept) = self.plan_until(moment, None);
        if plan.is_complete {
            // What is placed is not carried out yet, and who is passed over was not asked.
            let placed: BTreeSet<&JobId> = plan.placed.iter().map(|(job, _)| job).collect();
            let is_asked = |kept: &Reservation| moment.with_unrepeatable || kept.seat.kind.may_repeat;
            self.kept.retain(|job, kept| placed.contains(job) || !is_asked(kept));
        }
        self.kept.extend(kept.into_iter().map(|kept| (kept.seat.age.1.clone(), kept)));
        plan
    }

    /// The same, or only until it is known what becomes of a job.
    fn plan_until(&mut self, moment: &Moment, job: Option<(&JobId, Kind)>) -> (Plan, Vec<Reservation>) {
        self.settle();
        let whole = self.whole.unwrap_or_default();
        let usage = &self.usage;
        let share = |namespace: &Namespace| usage.get(namespace).map_or(0, |usage| usage.share_of(&whole));
        let known =
            Known { executors: &self.executors, slots: &self.slots, images: &self.images, kept: &self.kept };
        let round = Round::new(&mut self.fleet, known, *moment, self.age_limit_ms);
        let mut round = match job {
            Some((job, kind)) => round.until(job, kind),
            None => round,
        };
        for level in self.queue.levels() {
            if round.is_settled() {
                break;
            }
            round.place_level(level, &share, &whole);
        }
        let (placed, kept, is_complete) = round.end();
        let reserved = kept.iter().map(|kept| (kept.seat.age.1.clone(), kept.executor.clone())).collect();
        (Plan { placed: self.named(placed), is_complete, reserved }, kept)
    }

    /// Tells what would become of a job that waits, or that would be one more to be submitted; nothing is noted.
    /// Whoever comes after it is not looked at.
    pub fn try_out(&mut self, request: &Request, moment: &Moment) -> Trial {
        let mix = self.fleet.known_mix().clone();
        let is_new = self.push(request.clone());
        if is_new {
            self.count_arrivals(&request.demand, 1);
        }
        let kind = self.kind(request);
        let (plan, _) = self.plan_until(moment, Some((&request.job, kind)));
        if is_new {
            self.take_out(request);
            self.fleet.mix().restore(mix);
        }
        let choice = plan.placed.into_iter().find(|(job, _)| *job == request.job).map(|(_, choice)| choice);
        let opening =
            if choice.is_some() { None } else { self.opening(request, &plan.reserved, moment.now_ms) };
        Trial { choice, reserved: plan.reserved, opening }
    }

    fn opening(&self, request: &Request, reserved: &[(JobId, ExecutorId)], now_ms: u64) -> Option<Opening> {
        let kept = reserved.iter().filter(|(job, _)| *job != request.job);
        let kept: Vec<Slot> = kept.filter_map(|(_, id)| self.slots.get(id)).copied().collect();
        let shape = self.shape(&request.demand);
        let (slot, jobs, by_ms) = opening(&self.fleet, &self.executors, &shape, &kept, now_ms)?;
        let by_ms = (by_ms < u64::MAX).then_some(by_ms);
        Some(Opening { executor: self.executors[slot].id.clone(), jobs, by_ms })
    }

    /// Chooses devices, and names executors.
    fn named(&self, placed: Vec<Placed>) -> Vec<(JobId, Choice)> {
        let mut given: BTreeMap<Slot, Reserved> = BTreeMap::new();
        let name = |one: Placed| {
            let executor = &self.executors[one.slot];
            let mut gpu_device_ids = Vec::new();
            if !one.take.is_empty() {
                let reserved = given.entry(one.slot).or_insert_with(|| executor.reserved.clone());
                for lot in &one.take {
                    let devices = executor.capacity.iter().flat_map(|capacity| &capacity.gpus);
                    let free = devices.filter(|gpu| {
                        self.models.get(&gpu.model) == Some(&lot.model) && !reserved.gpu_ids.contains(&gpu.id)
                    });
                    gpu_device_ids.extend(free.take(lot.count as usize).map(|gpu| gpu.id.clone()));
                }
                gpu_device_ids.sort_unstable();
                reserved.gpu_ids.extend(gpu_device_ids.iter().cloned());
            }
            (one.job, Choice { executor: executor.id.clone(), gpu_device_ids })
        };
        placed.into_iter().map(name).collect()
    }

    fn kind(&mut self, request: &Request) -> Kind {
        self.ask_about(&request.demand.constraints);
        let shape = self.shape(&request.demand);
        Kind {
            shape: self.fleet.shape_id(&shape),
            run_timeout_ms: request.run_timeout_ms.unwrap_or(u64::MAX),
            may_repeat: request.may_repeat,
        }
    }

    fn shape(&self, demand: &Demand) -> Shape {
        let has_gpus = demand.gpu_count > 0;
        let is_any = demand.gpu_models.is_empty() || !has_gpus;
        Shape {
            gpus: demand.gpu_count,
            gpu_millis: if has_gpus { WHOLE } else { 0 },
            cpu_millis: demand.cpu_millis,
            memory_bytes: demand.memory_bytes,
            models: if is_any { Models::Any } else { models_of(demand.gpu_models.iter(), &self.models) },
            constraints: demand.constraints.clone(),
        }
    }

    /// Tells executors apart by labels that nobody has asked about so far.
    fn ask_about(&mut self, constraints: &[Constraint]) {
        for constraint in constraints {
            if self.keys.insert(constraint.key().to_owned()) {
                for slot in 0..self.executors.len() {
                    if self.executors[slot].labels.contains_key(constraint.key()) {
                        self.refresh(slot);
                    }
                }
            }
        }
    }

    /// Gives a model of an executor a number. Numbers follow names, so that choices do not depend on what came first;
    /// names that only jobs use get none, for anyone may make them up.
    fn know_model(&mut self, name: &str) {
        if self.models.contains_key(name) {
            return;
        }
        let old: BTreeMap<ModelId, String> =
            std::mem::take(&mut self.models).into_iter().map(|(name, id)| (id, name)).collect();
        let mut names: Vec<String> = old.values().cloned().collect();
        names.push(name.to_owned());
        names.sort_unstable();
        // Beyond the last number all are one: executors do not have 65,535 models.
        let numbers = (0..).map(|id| ModelId::try_from(id).unwrap_or(ModelId::MAX));
        self.models = names.into_iter().zip(numbers).collect();
        let models = self.models.clone();
        self.renumber(&|of| match of {
            Models::Any => Models::Any,
            Models::Of(known, others) => {
                let known = known.iter().filter_map(|id| old.get(id));
                models_of(known.chain(others), &models)
            }
        });
    }

    fn slot(&mut self, id: &ExecutorId) -> Slot {
        if let Some(slot) = self.slots.get(id) {
            return *slot;
        }
        let rank = self.rank_for(id).or_else(|| {
            self.renumber(&Models::clone);
            self.rank_for(id)
        });
        let rank = rank.unwrap_or(Rank::MAX);
        let slot = self.fleet.add(rank);
        self.slots.insert(id.clone(), slot);
        self.executors.push(Executor {
            id: id.clone(),
            capacity: None,
            labels: Labels::new(),
            takes_jobs: false,
            rank,
            whole: Room::default(),
            reserved: Reserved::default(),
            running: BTreeMap::new(),
            images: VecDeque::new(),
        });
        slot
    }

    /// A rank between those of an executor's neighbours by name; none where there is no more room.
    fn rank_for(&self, id: &ExecutorId) -> Option<Rank> {
        let rank = |slot: &Slot| self.executors[*slot].rank;
        let below = self.slots.range(..id.clone()).next_back().map(|(_, slot)| rank(slot));
        let above = self.slots.range(id.clone()..).next().map(|(_, slot)| rank(slot));
        match (below, above) {
            (None, None) => Some(FIRST_RANK),
            (Some(below), None) => below.checked_add(GAP),
            (None, Some(above)) if above > GAP => Some(above - GAP),
            (below, Some(above)) => {
                let middle = below.unwrap_or(0) + (above - below.unwrap_or(0)) / 2;
                (below.is_none_or(|below| middle > below) && middle < above).then_some(middle)
            }
        }
    }

    /// Looks at an executor anew.
    fn refresh(&mut self, slot: Slot) {
        let executor = &mut self.executors[slot];
        let Some(capacity) = &executor.capacity else {
            executor.whole = Room::default();
            self.fleet.set(slot, Room::default(), false);
            return;
        };
        let models = &self.models;
        let labels = executor.labels_of(&self.keys);
        let whole = |gpu: &GpuDevice| Some((*models.get(&gpu.model)?, WHOLE));
        let all = capacity.gpus.iter().filter_map(whole);
        executor.whole = Room::new(capacity.cpu_millis, capacity.memory_bytes, all).labelled(labels.clone());
        let free = capacity.gpus.iter().filter(|gpu| !executor.reserved.gpu_ids.contains(&gpu.id));
        let free = free.filter_map(whole);
        let cpu_millis = capacity.cpu_millis.saturating_sub(executor.reserved.cpu_millis);
        let memory_bytes = capacity.memory_bytes.saturating_sub(executor.reserved.memory_bytes);
        let room = Room::new(cpu_millis, memory_bytes, free).labelled(labels);
        self.fleet.set(slot, room, executor.takes_jobs);
    }

    /// Numbers everything anew where most numbers are no longer in use; to be called before numbers are taken.
    fn tidy(&mut self) {
        let (shapes, slots, keys) = self.sizes();
        let is_stale = |count, before| count > STALE_NUMBERS + 2 * before;
        let (old_shapes, old_slots, old_keys) = self.numbered;
        if is_stale(shapes, old_shapes) || is_stale(slots, old_slots) || is_stale(keys, old_keys) {
            self.renumber(&Models::clone);
        }
    }

    /// Reckons what is out of date before a round.
    fn settle(&mut self) {
        if self.whole.is_some() {
            return;
        }
        let (mut whole, mut scale) = (Amounts::default(), Scale::default());
        let mut by_model = vec![0; self.models.len()];
        for capacity in self.executors.iter().filter_map(|executor| executor.capacity.as_ref()) {
            let gpu_millis = capacity.gpus.len() as u64 * u64::from(WHOLE);
            let (cpu_millis, memory_bytes) = (capacity.cpu_millis, capacity.memory_bytes);
            whole.add(Amounts { cpu_millis, memory_bytes, gpu_millis });
            scale.cpu_millis = scale.cpu_millis.max(cpu_millis);
            scale.memory_bytes = scale.memory_bytes.max(memory_bytes);
            scale.gpu_millis = scale.gpu_millis.max(gpu_millis);
            for model in capacity.gpus.iter().filter_map(|gpu| self.models.get(&gpu.model)) {
                if let Some(millis) = by_model.get_mut(usize::from(*model)) {
                    *millis += u64::from(WHOLE);
                }
            }
        }
        self.fleet.set_capacity(scale, by_model);
        self.whole = Some(whole);
    }

    /// Gives shapes and executors numbers anew: those that are in use, executors in the order of their names.
    fn renumber(&mut self, models: &dyn Fn(&Models) -> Models) {
        let old = std::mem::take(&mut self.fleet);
        let mut fleet = old.emptied();
        let mut number = |shape| fleet.shape_id(&old.shape(shape).with_models(models));
        let mix = old.known_mix().renumbered(&mut number);
        self.queue.renumber(&mut number);
        self.kept.values_mut().for_each(|kept| kept.seat.kind.shape = number(kept.seat.kind.shape));
        *fleet.mix() = mix;
        self.keys.clear();
        for (shape, count) in self.queue.counts() {
            (0..count).for_each(|_| fleet.mix().wait(shape));
            let keys = fleet.shape(shape).constraints.iter().map(Constraint::key);
            self.keys.extend(keys.map(str::to_owned));
        }
        self.fleet = fleet;
        let mut all: Vec<Executor> = std::mem::take(&mut self.executors);
        all.retain(|executor| executor.capacity.is_some() || !executor.running.is_empty());
        all.sort_by(|one, other| one.id.cmp(&other.id));
        self.slots.clear();
        self.images.clear();
        for (position, mut executor) in all.into_iter().enumerate() {
            for job in executor.running.values_mut() {
                job.shape = job.shape.with_models(models);
            }
            executor.look_up_models(&self.models);
            let rank = FIRST_RANK + GAP * position as Rank;
            let slot = self.fleet.add(rank);
            self.slots.insert(executor.id.clone(), slot);
            for image in &executor.images {
                self.images.entry(*image).or_default().insert((rank, slot));
            }
            self.executors.push(Executor { rank, ..executor });
            self.refresh(slot);
        }
        self.whole = None;
        self.numbered = self.sizes();
    }

    /// How many shapes and executors have numbers, and how many labels are asked about.
    fn sizes(&self) -> (usize, usize, usize) {
        let (shapes, slots) = self.fleet.sizes();
        (shapes, slots, self.keys.len())
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
