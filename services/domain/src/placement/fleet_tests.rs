//! What the engine chooses is what looking at every executor would choose, whatever changed in between.

use proptest::prelude::*;

use super::*;
use crate::placement::amounts::{Lot, ModelId, Models, WHOLE};

const MODELS: ModelId = 3;

fn room(cpu: u64, memory: u64, gpus: &[(ModelId, u32)]) -> Room {
    let each = gpus.iter().flat_map(|(model, count)| (0..*count).map(|_| (*model, WHOLE)));
    Room::new(cpu, memory, each)
}

fn shape(cpu: u64, gpus: u32, models: &[ModelId]) -> Shape {
    let models = if models.is_empty() { Models::Any } else { Models::Of(models.to_vec(), Vec::new()) };
    Shape {
        gpus,
        gpu_millis: if gpus == 0 { 0 } else { WHOLE },
        cpu_millis: cpu,
        memory_bytes: cpu,
        models,
        constraints: Vec::new(),
    }
}

fn fleet(rooms: &[Room]) -> Fleet {
    let mut fleet = Fleet::new(Policy::Auto);
    let mut capacity = vec![0; usize::from(MODELS)];
    for (rank, room) in rooms.iter().enumerate() {
        let slot = fleet.add(rank as Rank);
        fleet.set(slot, room.clone(), true);
        room.lots().iter().for_each(|lot| {
            capacity[usize::from(lot.model)] += u64::from(lot.count) * u64::from(WHOLE);
        });
    }
    let most = |amount: fn(&Room) -> u64| rooms.iter().map(amount).max().unwrap_or(1).max(1);
    let scale = Scale {
        cpu_millis: most(|room| room.cpu_millis),
        memory_bytes: most(|room| room.memory_bytes),
        gpu_millis: most(Room::gpu_millis),
    };
    fleet.set_capacity(scale, capacity);
    fleet
}

fn arrive(fleet: &mut Fleet, shape: &Shape, times: usize) -> ShapeId {
    let id = fleet.shape_id(shape);
    (0..times).for_each(|_| fleet.mix().arrive(id, 1));
    id
}

fn choice(fleet: &mut Fleet, shape: &Shape) -> Option<Slot> {
    let id = fleet.shape_id(shape);
    fleet.choose(id).map(|(slot, _)| slot)
}

#[test]
fn a_small_job_leaves_the_large_executor_to_large_ones() {
    let mut fleet = fleet(&[room(64, 64, &[(0, 8)]), room(64, 64, &[(0, 2)])]);
    arrive(&mut fleet, &shape(1, 8, &[]), 5);
    assert_eq!(choice(&mut fleet, &shape(1, 1, &[])), Some(1));
    assert_eq!(choice(&mut fleet, &shape(1, 8, &[])), Some(0));
}

#[test]
fn a_job_for_any_model_leaves_the_model_that_others_ask_for() {
    let mut fleet = fleet(&[room(64, 64, &[(0, 4)]), room(64, 64, &[(1, 4)])]);
    arrive(&mut fleet, &shape(1, 1, &[0]), 5);
    arrive(&mut fleet, &shape(1, 1, &[]), 5);
    assert_eq!(choice(&mut fleet, &shape(1, 1, &[])), Some(1));
    assert_eq!(choice(&mut fleet, &shape(1, 1, &[0])), Some(0));
}

#[test]
fn a_job_without_gpus_goes_where_none_is_free_and_least_is_left_over() {
    let rooms = [room(8, 8, &[(0, 2)]), room(9, 9, &[]), room(7, 7, &[]), room(7, 7, &[])];
    let mut fleet = fleet(&rooms);
    arrive(&mut fleet, &shape(1, 1, &[]), 5);
    assert_eq!(choice(&mut fleet, &shape(2, 0, &[])), Some(2), "the lowest of equal ones");
    assert_eq!(choice(&mut fleet, &shape(8, 0, &[])), Some(1));
}

#[test]
fn a_job_with_a_gpu_goes_where_least_cpu_is_left_over_where_all_else_is_equal() {
    let mut fleet = fleet(&[room(64, 64, &[(0, 2)]), room(32, 64, &[(0, 2)]), room(31, 64, &[(0, 2)])]);
    arrive(&mut fleet, &shape(1, 1, &[]), 5);
    assert_eq!(choice(&mut fleet, &shape(1, 1, &[])), Some(1), "by steps, the lowest of equal ones");
    assert_eq!(choice(&mut fleet, &shape(32, 1, &[])), Some(0), "no device is to lack CPU");
}

#[test]
fn one_that_is_closed_is_not_chosen_and_one_that_opens_again_is() {
    let rooms = [room(4, 4, &[]), room(8, 8, &[])];
    let mut fleet = fleet(&rooms);
    assert_eq!(choice(&mut fleet, &shape(2, 0, &[])), Some(0));
    fleet.set(0, rooms[0].clone(), false);
    assert_eq!(choice(&mut fleet, &shape(2, 0, &[])), Some(1));
    fleet.set(0, rooms[0].clone(), true);
    assert_eq!(choice(&mut fleet, &shape(2, 0, &[])), Some(0));
}

#[test]
fn devices_come_from_one_model_where_one_has_enough() {
    let mut fleet = fleet(&[room(8, 8, &[(0, 3), (1, 2), (2, 1)])]);
    let ids = [2, 4, 6].map(|gpus| fleet.shape_id(&shape(1, gpus, &[])));
    let mut take = |id| {
        let (_, take) = fleet.choose(id).expect("it fits");
        take.iter().map(|lot: &Lot| (lot.model, lot.count)).collect::<Vec<_>>()
    };
    assert_eq!(take(ids[0]), [(1, 2)]);
    assert_eq!(take(ids[1]), [(2, 1), (1, 2), (0, 1)]);
    assert_eq!(take(ids[2]), [(2, 1), (1, 2), (0, 3)]);
}

#[test]
fn empty_states_are_forgotten_and_nothing_changes() {
    let mut fleet = fleet(&[room(1, 1, &[]), room(STALE_STATES as u64 * 2, 1, &[])]);
    let id = fleet.shape_id(&shape(1, 0, &[]));
    for free in 0..STALE_STATES as u64 + 12 {
        fleet.set(1, room(free, 1, &[]), true);
    }
    assert_eq!(fleet.choose(id).map(|(slot, _)| slot), Some(0));
    assert!(fleet.states.len() < 10, "{}", fleet.states.len());
}

#[test]
fn an_executor_that_comes_and_goes_leaves_no_trail() {
    let (full, half) = (room(4, 4, &[]), room(2, 2, &[]));
    let mut fleet = fleet(&[full.clone(), full.clone(), half.clone()]);
    for _ in 0..10_000 {
        fleet.set(1, half.clone(), true);
        fleet.set(1, full.clone(), true);
    }
    assert!(fleet.states.iter().all(|state| state.ranks.len() < STALE_RANKS + 8));
    assert!(fleet.recent.len() < 8);
}

/// What looking at every executor finds.
fn best_of_all(fleet: &Fleet, id: ShapeId) -> Option<Slot> {
    let shape = &fleet.shapes[id];
    let open = fleet.slots.iter().enumerate().filter(|(_, place)| place.state.is_some());
    let fitting = open.filter(|(_, place)| place.room.holds(shape));
    let best = fitting.max_by_key(|(_, place)| (fleet.score(id, &place.room).0, Reverse(place.rank)));
    best.map(|(slot, _)| slot)
}

#[derive(Debug, Clone)]
enum Step {
    Place(usize),
    Free(usize),
    Close(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..64_usize).prop_map(Step::Place),
        3 => (0..64_usize).prop_map(Step::Free),
        1 => (0..64_usize, any::<bool>()).prop_map(|(slot, is_open)| Step::Close(slot, is_open)),
    ]
}

fn rooms() -> impl Strategy<Value = Vec<Room>> {
    let gpus = prop::collection::vec((0..MODELS, 0..5_u32), 0..3);
    prop::collection::vec((1..20_u64, 1..20_u64, gpus), 1..10)
        .prop_map(|all| all.iter().map(|(cpu, memory, gpus)| room(*cpu, *memory, gpus)).collect())
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let models = prop::collection::btree_set(0..MODELS, 0..3);
    let one = (1..8_u64, 0..4_u32, models);
    let shape = |(cpu, gpus, models): (u64, u32, std::collections::BTreeSet<ModelId>)| {
        shape(cpu, gpus, &models.into_iter().collect::<Vec<_>>())
    };
    prop::collection::vec(one.prop_map(shape), 1..8)
}

proptest! {
    #[test]
    fn the_choice_is_the_best_of_all(
        rooms in rooms(), shapes in shapes(), steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut fleet = fleet(&rooms);
        let ids: Vec<ShapeId> = shapes.iter().map(|shape| fleet.shape_id(shape)).collect();
        let mut placed: Vec<(Slot, Room)> = Vec::new();
        for step in steps {
            match step {
                Step::Place(at) => {
                    let id = ids[at % ids.len()];
                    fleet.mix().arrive(id, 1);
                    let chosen = fleet.choose(id);
                    prop_assert_eq!(chosen.as_ref().map(|(slot, _)| *slot), best_of_all(&fleet, id));
                    if let Some((slot, take)) = chosen {
                        let before = fleet.slots[slot].room.clone();
                        let left = before.less(&fleet.shapes[id], &take);
                        prop_assert_eq!(
                            before.gpu_millis() - left.gpu_millis(), fleet.shapes[id].all_gpu_millis()
                        );
                        placed.push((slot, before));
                        fleet.set(slot, left, true);
                    }
                }
                Step::Free(at) if !placed.is_empty() => {
                    let (slot, before) = placed.swap_remove(at % placed.len());
                    fleet.set(slot, before, true);
                }
                Step::Free(_) => {}
                Step::Close(at, is_open) => {
                    let slot = at % rooms.len();
                    let room = fleet.slots[slot].room.clone();
                    fleet.set(slot, room, is_open);
                }
            }
        }
    }

    #[test]
    fn tables_say_what_reckoning_says(
        rooms in rooms(), shapes in shapes(), weights in prop::collection::vec(1..9_u64, 8),
    ) {
        let typical: Vec<(Shape, u64)> = shapes.into_iter().zip(weights).collect();
        let worth = Worth::new(Policy::Auto, Scale::default(), typical.clone(), &[1_000; MODELS as usize]);
        for room in rooms {
            let lost = typical.iter().map(|(shape, weight)| weight * room.lost_to(shape));
            prop_assert_eq!(worth.fragments(&room), lost.sum::<u64>());
        }
    }
}
