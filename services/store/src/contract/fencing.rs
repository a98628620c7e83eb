//! Who may no longer write.

use std::sync::Arc;
use std::time::Duration;

use super::Subject;
use super::support::*;
use crate::{Call, Conflict, LeaderGuard, LockRequest, Mutation, StoreError, Verdict};

fn request(owner: &str) -> LockRequest {
    LockRequest { owner: owner.to_owned(), scheduler_id: owner.to_owned(), ttl: Duration::from_secs(3) }
}

pub async fn a_stale_leader_commit_is_fenced(subject: &dyn Subject) {
    let store = subject.open().await;
    let old = store.acquire_lock(&request("s1")).await.unwrap().expect("a free lock");
    assert!(store.release_lock("s1", old.epoch).await.unwrap());
    let new = store.acquire_lock(&request("s2")).await.unwrap().expect("a released lock");
    let attempts = [
        (old.epoch, "s1", false),
        (old.epoch, "s2", false),
        (new.epoch, "s1", false),
        (new.epoch, "s2", true),
    ];
    for (at, (epoch, owner, is_leader)) in attempts.into_iter().enumerate() {
        let id = format!("j{at}");
        let leader = Some(LeaderGuard { epoch, owner: owner.to_owned() });
        let call = Call { leader, mutations: vec![submit(job(&id))], ..Call::default() };
        let result = store.commit(call).await;
        if is_leader {
            assert!(result.is_ok(), "{result:?}");
        } else {
            assert!(matches!(result, Err(StoreError::Fenced)), "{result:?}");
        }
        assert_eq!(read(&store, &id).await.is_some(), is_leader, "{owner} with {epoch}");
    }
}

pub async fn a_leader_that_released_is_fenced(subject: &dyn Subject) {
    let store = subject.open().await;
    let lock = store.acquire_lock(&request("s1")).await.unwrap().expect("a free lock");
    assert!(store.release_lock("s1", lock.epoch).await.unwrap());
    let leader = Some(LeaderGuard { epoch: lock.epoch, owner: "s1".to_owned() });
    let result = store.commit(Call { leader, mutations: vec![submit(job("j"))], ..Call::default() }).await;
    assert!(matches!(result, Err(StoreError::Fenced)), "{result:?}");
}

pub async fn a_stale_session_is_refused(subject: &dyn Subject) {
    let store = subject.open().await;
    register(&store, executor("e1", &[])).await;
    let pending = apply(&store, submit(job("j"))).await;
    let started = apply(&store, update(assigned(&pending, "e1", 7))).await;
    let report = |executor: &str, session: &str| Mutation::Update {
        job: Arc::new(running(&started)),
        session: Some((executor_id(executor), session_id(session))),
        attempt: Some((1, 7)),
    };
    for (executor, session) in [("e1", "session-0"), ("e2", "session-1")] {
        let refused = verdict(&store, report(executor, session)).await;
        assert_eq!(refused, Verdict::Conflict(Conflict::Session), "{executor} {session}");
    }
    assert!(matches!(verdict(&store, report("e1", "session-1")).await, Verdict::Applied(_)));
}

pub async fn a_stale_attempt_is_refused(subject: &dyn Subject) {
    let store = subject.open().await;
    register(&store, executor("e1", &[])).await;
    let pending = apply(&store, submit(job("j"))).await;
    let first = apply(&store, update(assigned(&pending, "e1", 7))).await;
    let back = apply(&store, update(put_back(&first))).await;
    let report =
        |job, attempt| Mutation::Update { job: Arc::new(job), session: None, attempt: Some(attempt) };
    let late = verdict(&store, report(ended(&back, NOW_MS), (1, 7))).await;
    assert_eq!(late, Verdict::Conflict(Conflict::Attempt), "a job that was put back has no attempt");
    let second = apply(&store, update(assigned(&back, "e1", 9))).await;
    for stale in [(1, 7), (1, 9), (2, 7)] {
        let refused = verdict(&store, report(ended(&second, NOW_MS), stale)).await;
        assert_eq!(refused, Verdict::Conflict(Conflict::Attempt), "{stale:?}");
    }
    let accepted = verdict(&store, report(ended(&second, NOW_MS), (2, 9))).await;
    assert!(matches!(accepted, Verdict::Applied(_)), "{accepted:?}");
}

pub async fn a_new_attempt_on_the_same_executor_voids_the_old_one(subject: &dyn Subject) {
    let store = subject.open().await;
    register(&store, executor("e1", &[])).await;
    let pending = apply(&store, submit(job("j"))).await;
    let first = apply(&store, update(assigned(&pending, "e1", 7))).await;
    let second = apply(&store, update(assigned(&first, "e1", 8))).await;
    let report =
        |attempt| Mutation::Update { job: Arc::new(running(&second)), session: None, attempt: Some(attempt) };
    assert_eq!(verdict(&store, report((1, 7))).await, Verdict::Conflict(Conflict::Attempt));
    assert!(matches!(verdict(&store, report((2, 8))).await, Verdict::Applied(_)));
    check_agreement(&store).await;
}

pub async fn another_server_begins_a_generation(subject: &dyn Subject) {
    let store = subject.open().await;
    apply(&store, submit(job("before"))).await;
    let before = store.meta().await.unwrap();
    let call = |generation, id: &str| Call { generation, mutations: vec![submit(job(id))], leader: None };
    store.commit(call(Some(before.position.generation), "same")).await.expect("the same generation");
    subject.restart().await;

    let old = before.position.generation;
    let stale = eventually(async || match store.commit(call(Some(old), "stale")).await {
        Err(StoreError::Unavailable { .. }) => None,
        other => Some(other),
    });
    let current = match stale.await {
        Err(StoreError::Generation { current }) => current,
        other => panic!("a call of the old generation: {other:?}"),
    };
    let after = reachable(async || store.meta().await).await;
    assert_eq!(after.position.generation, current);
    assert!(current > old, "generation {current} after {old}");
    assert_eq!(after.position.revision, before.position.revision + 1, "nothing is lost, nothing is added");
    assert!(after.generation_since_ms >= before.time_ms);
    assert!(current >= after.generation_since_ms, "a generation is no smaller than the time it began at");
    let fresh = store.commit(call(None, "fresh")).await.expect("a call that names no generation");
    assert_eq!(fresh.position.generation, current);
    assert!(read(&store, "stale").await.is_none());
    assert_eq!(store.meta().await.unwrap().position.generation, current, "it is raised once");
}

pub async fn a_submit_after_a_restart_needs_nobody_else(subject: &dyn Subject) {
    let store = subject.open().await;
    let before = store.meta().await.unwrap().position;
    subject.restart().await;
    let call = || Call { mutations: vec![submit(job("j"))], ..Call::default() };
    let after = reachable(async || store.commit(call()).await).await;
    assert!(after.position.generation > before.generation);
}
