//! No assignment reserves more than an executor has.

use std::sync::Arc;

use berth_domain::executor::{Drain, Executor, ExecutorState};
use berth_domain::job::Job;

use super::Subject;
use super::support::*;
use crate::{Conflict, Mutation, Store, Verdict};

async fn pending(store: &Arc<dyn Store>, id: &str, cpu_millis: u64, memory_bytes: u64) -> Job {
    let mut wanted = job(id);
    wanted.demand.cpu_millis = cpu_millis;
    wanted.demand.memory_bytes = memory_bytes;
    apply(store, submit(wanted)).await
}

fn with_gpus(job: Job, gpus: &[&str]) -> Mutation {
    let gpu_device_ids = gpus.iter().map(|id| (*id).to_owned()).collect();
    update(Job { gpu_device_ids, ..job })
}

pub async fn more_cpu_than_there_is_is_refused(subject: &dyn Subject) {
    let store = subject.open().await;
    register(&store, executor("e1", &[])).await;
    let first = pending(&store, "j1", 3_000, 1).await;
    apply(&store, update(assigned(&first, "e1", 1))).await;
    let second = pending(&store, "j2", 1_001, 1).await;
    let refused = verdict(&store, update(assigned(&second, "e1", 1))).await;
    assert_eq!(refused, Verdict::Conflict(Conflict::Capacity));
    let third = pending(&store, "j3", 1_000, 1).await;
    apply(&store, update(assigned(&third, "e1", 1))).await;
    assert_eq!(read_executor(&store, "e1").await.reserved.cpu_millis, 4_000, "exactly full is allowed");
}

pub async fn more_memory_than_there_is_is_refused(subject: &dyn Subject) {
    let store = subject.open().await;
    register(&store, executor("e1", &[])).await;
    let first = pending(&store, "j1", 1, 4 * GIB - 1).await;
    apply(&store, update(assigned(&first, "e1", 1))).await;
    let second = pending(&store, "j2", 1, 2).await;
    let refused = verdict(&store, update(assigned(&second, "e1", 1))).await;
    assert_eq!(refused, Verdict::Conflict(Conflict::Capacity));
    assert_eq!(read_executor(&store, "e1").await.reserved.memory_bytes, 4 * GIB - 1);
}

pub async fn a_device_in_use_is_refused(subject: &dyn Subject) {
    let store = subject.open().await;
    register(&store, executor("e1", &["g0", "g1"])).await;
    let first = pending(&store, "j1", 1, 1).await;
    let second = pending(&store, "j2", 1, 1).await;
    let held = apply(&store, with_gpus(assigned(&first, "e1", 1), &["g0"])).await;
    for gpus in [&["g0"][..], &["g1", "g0"], &["g1", "g1"]] {
        let refused = verdict(&store, with_gpus(assigned(&second, "e1", 1), gpus)).await;
        assert_eq!(refused, Verdict::Conflict(Conflict::Device), "{gpus:?}");
    }
    apply(&store, update(ended(&held, NOW_MS))).await;
    apply(&store, with_gpus(assigned(&second, "e1", 1), &["g0", "g1"])).await;
    check_agreement(&store).await;
}

pub async fn a_foreign_device_is_refused(subject: &dyn Subject) {
    let store = subject.open().await;
    register(&store, executor("e1", &["g0", "g00"])).await;
    register(&store, executor("e2", &["other"])).await;
    let wanted = pending(&store, "j1", 1, 1).await;
    for foreign in ["other", "g", "0", "g000"] {
        let refused = verdict(&store, with_gpus(assigned(&wanted, "e1", 1), &[foreign])).await;
        assert_eq!(refused, Verdict::Conflict(Conflict::Device), "{foreign}");
    }
    assert_eq!(read_executor(&store, "e1").await.reserved, Default::default());
}

pub async fn an_executor_that_is_not_active_takes_nothing(subject: &dyn Subject) {
    let store = subject.open().await;
    let wanted = pending(&store, "j1", 1, 1).await;
    let nowhere = verdict(&store, update(assigned(&wanted, "nowhere", 1))).await;
    assert_eq!(nowhere, Verdict::Conflict(Conflict::Missing));
    let mut stored = register(&store, executor("e1", &[])).await;
    let fresh = executor("e1", &[]);
    let not_active = [
        Executor { drain: Some(Drain::default()), ..fresh.clone() },
        Executor { state: ExecutorState::Lost, ..fresh.clone() },
        Executor { not_ready: Some("no engine".to_owned()), ..fresh.clone() },
        Executor { restarting: true, ..fresh.clone() },
    ];
    for next in not_active {
        stored = register(&store, Executor { revision: stored.revision, ..next.clone() }).await;
        let refused = verdict(&store, update(assigned(&wanted, "e1", 1))).await;
        assert_eq!(refused, Verdict::Conflict(Conflict::ExecutorNotActive), "{next:?}");
    }
    register(&store, Executor { revision: stored.revision, ..fresh }).await;
    apply(&store, update(assigned(&wanted, "e1", 1))).await;
}

pub async fn reservations_end_with_the_assignment(subject: &dyn Subject) {
    let store = subject.open().await;
    register(&store, executor("e1", &["g0"])).await;
    let first = pending(&store, "j1", 4_000, 4 * GIB).await;
    let held = apply(&store, with_gpus(assigned(&first, "e1", 1), &["g0"])).await;
    let held = apply(&store, update(running(&held))).await;
    let reserved = read_executor(&store, "e1").await.reserved;
    assert_eq!((reserved.cpu_millis, reserved.memory_bytes), (4_000, 4 * GIB));
    assert!(reserved.gpu_ids.contains("g0"));
    let back = apply(&store, update(put_back(&held))).await;
    assert_eq!(read_executor(&store, "e1").await.reserved, Default::default());
    let again = apply(&store, with_gpus(assigned(&back, "e1", 1), &["g0"])).await;
    apply(&store, update(ended(&again, NOW_MS))).await;
    assert_eq!(read_executor(&store, "e1").await.reserved, Default::default());
}

pub async fn registering_again_keeps_reservations(subject: &dyn Subject) {
    let store = subject.open().await;
    let stored = register(&store, executor("e1", &["g0"])).await;
    let wanted = pending(&store, "j1", 3_000, GIB).await;
    let held = apply(&store, with_gpus(assigned(&wanted, "e1", 1), &["g0"])).await;
    let before = read_executor(&store, "e1").await.reserved;
    // Less than is reserved is allowed; no further assignment is, until there is room.
    let mut smaller = Executor { reserved: Default::default(), ..stored };
    smaller.capacity.cpu_millis = 1_000;
    let stored = register(&store, smaller).await;
    assert_eq!(stored.reserved, before);
    let second = pending(&store, "j2", 1, 1).await;
    let refused = verdict(&store, update(assigned(&second, "e1", 1))).await;
    assert_eq!(refused, Verdict::Conflict(Conflict::Capacity));
    apply(&store, update(ended(&held, NOW_MS))).await;
    apply(&store, update(assigned(&second, "e1", 1))).await;
}

pub async fn a_job_moved_to_another_executor_takes_its_reservation_along(subject: &dyn Subject) {
    let store = subject.open().await;
    register(&store, executor("e1", &["g0"])).await;
    register(&store, executor("e2", &["g9"])).await;
    let wanted = pending(&store, "j1", 3_000, GIB).await;
    let held = apply(&store, with_gpus(assigned(&wanted, "e1", 1), &["g0"])).await;
    let moved = apply(&store, with_gpus(assigned(&held, "e2", 2), &["g9"])).await;
    assert_eq!(read_executor(&store, "e1").await.reserved, Default::default());
    let reserved = read_executor(&store, "e2").await.reserved;
    assert_eq!((reserved.cpu_millis, reserved.memory_bytes), (3_000, GIB));
    check_agreement(&store).await;
    apply(&store, update(ended(&moved, NOW_MS))).await;
    check_agreement(&store).await;
}
