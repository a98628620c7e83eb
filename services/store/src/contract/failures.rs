//! What holds when the store is full, loses a reply, or dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth_domain::job::Job;
use tokio::sync::Notify;

use super::Subject;
use super::support::*;
use crate::{Call, Conflict, LeaseRenewal, LockRequest, Store, StoreError, Verdict};

fn one(mutation: crate::Mutation) -> Call {
    Call { mutations: vec![mutation], ..Call::default() }
}

pub async fn a_full_store_refuses_submits_and_lets_running_jobs_end(subject: &dyn Subject) {
    let store = subject.open().await;
    register(&store, executor("e1", &[])).await;
    let pending = apply(&store, submit(job("j1"))).await;
    let taken = apply(&store, update(assigned(&pending, "e1", 1))).await;
    subject.set_full(true).await;

    let refused = store.commit(one(submit(job("j2")))).await;
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    assert!(read(&store, "j2").await.is_none());
    apply(&store, update(ended(&taken, NOW_MS))).await;
    let request = LockRequest { owner: "a".to_owned(), scheduler_id: "a".to_owned(), ttl: PATIENCE };
    let lock = store.acquire_lock(&request).await.unwrap().expect("a free lock");
    assert!(store.renew_lock("a", lock.epoch, PATIENCE).await.unwrap());
    let session = session_id("session-1");
    let renewal = LeaseRenewal { executor: executor_id("e1"), session, lease: PATIENCE };
    assert_eq!(store.renew_leases(&[renewal]).await.unwrap(), [true]);
    let stored = read_executor(&store, "e1").await;
    register(&store, stored).await;
    assert!(store.release_lock("a", lock.epoch).await.unwrap());

    subject.set_full(false).await;
    eventually(async || match store.commit(one(submit(job("j2")))).await {
        Ok(_) => Some(()),
        Err(StoreError::Full) => None,
        Err(other) => panic!("{other}"),
    })
    .await;
    check_agreement(&store).await;
}

pub async fn a_submit_with_a_lost_reply_is_unknown_and_applies_once(subject: &dyn Subject) {
    let fragile = subject.open_fragile().await;
    let store = &fragile.store;
    apply(store, submit(job("before"))).await;
    let calls = [
        ("plain", submit(job("plain")), Verdict::Conflict(Conflict::JobExists)),
        ("keyed", submit_with_key(job("keyed"), "key", "hash"), Verdict::Existing(job_id("keyed"))),
    ];
    for (id, mutation, again) in calls {
        (fragile.lose_next_reply)();
        let lost = store.commit(one(mutation.clone())).await;
        assert!(lost.as_ref().is_err_and(StoreError::outcome_unknown), "{lost:?}");
        let retried = reachable(async || store.commit(one(mutation.clone())).await).await;
        assert_eq!(retried.verdicts, [again], "{id}");
        assert!(read(store, id).await.is_some());
    }
    assert_eq!(store.head().await.unwrap().revision, 3, "each applied once");
}

pub async fn an_update_with_a_lost_reply_is_unknown_and_applies_once(subject: &dyn Subject) {
    let fragile = subject.open_fragile().await;
    let store = &fragile.store;
    register(store, executor("e1", &["g0"])).await;
    let pending = apply(store, submit(job("j1"))).await;
    let next = assigned(&pending, "e1", 1);
    (fragile.lose_next_reply)();
    let lost = store.commit(one(update(next.clone()))).await;
    assert!(lost.as_ref().is_err_and(StoreError::outcome_unknown), "{lost:?}");
    let retried = reachable(async || store.commit(one(update(next.clone()))).await).await;
    let revision = pending.revision + 1;
    assert_eq!(retried.verdicts, [Verdict::Conflict(Conflict::Revision(revision))]);
    assert_eq!(read(store, "j1").await, Some(Job { revision, ..next }));
    check_agreement(store).await;
}

pub async fn a_killed_server_loses_no_acknowledged_write(subject: &dyn Subject) {
    const WRITERS: usize = 4;
    const CALLS: usize = 200;
    const KILL_AFTER: usize = 60;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let enough = Arc::new(Notify::new());
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = subject.open().await;
        let (acknowledged, enough) = (Arc::clone(&acknowledged), Arc::clone(&enough));
        writers.push(tokio::spawn(async move {
            let mut known = Vec::new();
            for at in 0..CALLS {
                let id = format!("w{writer}-{at}");
                if store.commit(one(submit(job(&id)))).await.is_err() {
                    break;
                }
                known.push(job_id(&id));
                if acknowledged.fetch_add(1, Ordering::SeqCst) + 1 == KILL_AFTER {
                    enough.notify_one();
                }
                tokio::task::yield_now().await;
            }
            known
        }));
    }
    enough.notified().await;
    subject.restart().await;
    let store: Arc<dyn Store> = subject.open().await;
    let mut total = 0;
    for writer in writers {
        let known = writer.await.unwrap();
        total += known.len();
        let stored = reachable(async || store.jobs(&known).await).await;
        for (id, stored) in known.iter().zip(stored) {
            assert!(stored.is_some(), "the acknowledged job {id} is lost");
        }
    }
    assert!(total >= KILL_AFTER);
    check_agreement(&store).await;
}

pub async fn a_waiter_survives_a_restart(subject: &dyn Subject) {
    let store = subject.open().await;
    let after = store.head().await.unwrap();
    let waiting = Arc::clone(&store);
    let waiter = tokio::spawn(async move { waiting.changes(after, Duration::from_secs(5)).await });
    tokio::task::yield_now().await;
    subject.restart().await;
    reachable(async || store.meta().await).await;
    // It is told to read again, or that the store was away; never nothing at all.
    let result = tokio::time::timeout(PATIENCE, waiter).await.expect("an answer").unwrap();
    let is_honest = match &result {
        Ok(crate::Changes::Resync) | Err(StoreError::Unavailable { .. }) => true,
        Ok(crate::Changes::Entries { .. }) | Err(_) => false,
    };
    assert!(is_honest, "{result:?}");
}
