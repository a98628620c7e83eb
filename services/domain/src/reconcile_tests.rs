//! Promises of reconcile, over every small situation and over random walks with a simulated engine.

use proptest::prelude::*;

use super::*;
use crate::ids::JobId;

fn key(number: u32) -> AttemptRef {
    AttemptRef { job: JobId::trusted("j"), number, epoch: 1 }
}

fn wanted() -> Assignment {
    Assignment { abort_grace_ms: None, run_timeout_ms: None, stop_grace_ms: 10 }
}

struct World {
    assignments: BTreeMap<AttemptRef, Assignment>,
    assignments_known: bool,
    containers: BTreeMap<AttemptRef, ContainerState>,
    memory: BTreeMap<AttemptRef, Memory>,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        Self {
            assignments: BTreeMap::new(),
            assignments_known: true,
            containers: BTreeMap::new(),
            memory: BTreeMap::new(),
            now_ms: 1_000,
        }
    }

    fn plan(&self) -> Plan {
        reconcile(&Situation {
            assignments: &self.assignments,
            assignments_known: self.assignments_known,
            containers: &self.containers,
            memory: &self.memory,
            cleanup_after_ms: 120_000,
            remember_ms: 3_600_000,
            now_ms: self.now_ms,
        })
    }

    fn step(&self) -> Option<Step> {
        self.plan().steps.first().map(|(_, step)| *step)
    }

    /// Carries a step out as a perfect engine would.
    fn perform(&mut self, key: &AttemptRef, step: Step) {
        let now = self.now_ms;
        let memory = self.memory.entry(key.clone()).or_default();
        match step {
            Step::Create => {
                self.containers.insert(key.clone(), ContainerState::Created);
            }
            Step::Start => {
                memory.start_requested = true;
                memory.watched = true;
                self.containers.insert(key.clone(), ContainerState::Running { started_ms: now });
            }
            Step::Watch => memory.watched = true,
            Step::Terminate { cause, grace_ms } => {
                memory.stop = Some(Stop { cause, kill_at_ms: now + grace_ms, killed: false });
            }
            Step::Kill => {
                if let Some(stop) = &mut memory.stop {
                    stop.killed = true;
                }
                self.containers.insert(key.clone(), ContainerState::Exited);
            }
            Step::RecordExit => {
                memory.ended_ms = Some(now);
                memory.logs_captured = true;
            }
            Step::RecordNeverRan(_) | Step::RecordVanished => memory.ended_ms = Some(now),
            Step::Remove => {
                self.containers.remove(key);
            }
            Step::Forget => {
                self.memory.remove(key);
            }
        }
    }
}

#[test]
fn a_wanted_attempt_is_created_then_started_then_left_alone() {
    let mut world = World::new();
    world.assignments.insert(key(1), wanted());
    for expected in [Some(Step::Create), Some(Step::Start), None] {
        let step = world.step();
        assert_eq!(step, expected);
        if let Some(step) = step {
            world.perform(&key(1), step);
        }
    }
}

#[test]
fn nothing_is_stopped_before_the_whole_set_is_known() {
    let mut world = World::new();
    world.assignments_known = false;
    world.containers.insert(key(1), ContainerState::Running { started_ms: 1 });
    assert_eq!(world.step(), Some(Step::Watch));
    world.assignments_known = true;
    assert_eq!(world.step(), Some(Step::Terminate { cause: StopCause::Superseded, grace_ms: 0 }));
}

#[test]
fn a_container_that_ignores_sigterm_is_killed_after_its_grace() {
    let mut world = World::new();
    world.assignments.insert(key(1), Assignment { abort_grace_ms: Some(500), ..wanted() });
    world.containers.insert(key(1), ContainerState::Running { started_ms: 1 });
    world.memory.insert(key(1), Memory { watched: true, ..Memory::default() });
    assert_eq!(world.step(), Some(Step::Terminate { cause: StopCause::Abort, grace_ms: 500 }));
    world.perform(&key(1), Step::Terminate { cause: StopCause::Abort, grace_ms: 500 });
    assert_eq!(world.plan().wake_at_ms, Some(1_500));
    world.now_ms = 1_500;
    assert_eq!(world.step(), Some(Step::Kill));
}

#[test]
fn an_aborted_attempt_without_a_container_never_gets_one() {
    let mut world = World::new();
    world.assignments.insert(key(1), Assignment { abort_grace_ms: Some(500), ..wanted() });
    assert_eq!(world.step(), Some(Step::RecordNeverRan(StopCause::Abort)));
}

#[test]
fn a_started_container_that_is_gone_is_not_started_again() {
    let mut world = World::new();
    world.assignments.insert(key(1), wanted());
    world.memory.insert(key(1), Memory { start_requested: true, ..Memory::default() });
    assert_eq!(world.step(), Some(Step::RecordVanished));
}

#[test]
fn a_run_timeout_stops_the_container_at_its_time() {
    let mut world = World::new();
    world.assignments.insert(key(1), Assignment { run_timeout_ms: Some(5_000), ..wanted() });
    world.containers.insert(key(1), ContainerState::Running { started_ms: 1_000 });
    world.memory.insert(key(1), Memory { watched: true, ..Memory::default() });
    assert_eq!((world.step(), world.plan().wake_at_ms), (None, Some(6_000)));
    world.now_ms = 6_000;
    assert_eq!(world.step(), Some(Step::Terminate { cause: StopCause::RunTimeout, grace_ms: 10 }));
}

#[test]
fn a_container_is_removed_after_its_time_and_only_with_its_output_on_disk() {
    let mut world = World::new();
    world.containers.insert(key(1), ContainerState::Exited);
    world.memory.insert(key(1), Memory { ended_ms: Some(1_000), ..Memory::default() });
    world.now_ms = 500_000;
    assert_eq!(world.step(), None, "its output is not safe yet");
    world.memory.insert(key(1), Memory { ended_ms: Some(1_000), logs_captured: true, ..Memory::default() });
    assert_eq!(world.step(), Some(Step::Remove));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the schedulers and the processes do, an attempt starts at most once, never after
    /// it was unwanted, and in the end nothing of it is left.
    #[test]
    fn every_walk_ends_clean(acts in prop::collection::vec(0_u8..7, 0..40)) {
        let mut world = World::new();
        world.assignments.insert(key(1), wanted());
        let mut starts = 0;
        let mut unwanted = false;
        let quiet = std::iter::repeat_n(6, 30);
        for (i, act) in acts.iter().copied().chain(quiet).enumerate() {
            match act {
                0 => if let Some(a) = world.assignments.get_mut(&key(1)) {
                    a.abort_grace_ms = Some(100);
                    unwanted = true;
                },
                1 => {
                    world.assignments.clear();
                    unwanted = true;
                    world.memory.entry(key(1)).or_default().acknowledged = true;
                }
                2 => if let Some(state @ ContainerState::Running { .. }) = world.containers.get_mut(&key(1)) {
                    *state = ContainerState::Exited;
                },
                3 => world.assignments_known = !world.assignments_known,
                _ => world.now_ms += 50,
            }
            if i >= acts.len() {
                // The quiet end: the schedulers have spoken, and time passes.
                world.assignments.clear();
                unwanted = true;
                world.assignments_known = true;
                world.now_ms += 1_000_000;
                if let Some(memory) = world.memory.get_mut(&key(1)) {
                    memory.acknowledged = true;
                }
            }
            for (key, step) in world.plan().steps {
                if step == Step::Start {
                    starts += 1;
                    prop_assert!(!unwanted, "an unwanted attempt is never started");
                }
                world.perform(&key, step);
            }
        }
        prop_assert!(starts <= 1, "an attempt starts at most once");
        prop_assert!(world.containers.is_empty() && world.memory.is_empty(), "nothing is left");
    }
}
