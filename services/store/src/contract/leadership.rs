//! The lock, leases and announcements: what ends by itself.

use std::sync::Arc;
use std::time::Duration;

use berth_domain::executor::{Drain, Executor, ExecutorState};
use berth_domain::ids::SchedulerId;

use super::Subject;
use super::support::*;
use crate::{
    Call, LeaderGuard, LeaseRenewal, LockInfo, LockRequest, Mutation, SchedulerInfo, Store, StoreError,
    Verdict,
};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

async fn acquire(store: &Arc<dyn Store>, owner: &str, ttl: Duration) -> Option<LockInfo> {
    let request = LockRequest { owner: owner.to_owned(), scheduler_id: format!("id of {owner}"), ttl };
    store.acquire_lock(&request).await.expect("the lock")
}

pub async fn the_lock_has_one_owner(subject: &dyn Subject) {
    let store = subject.open().await;
    let lock = acquire(&store, "a", LONG).await.expect("a free lock");
    assert_eq!((lock.owner.as_str(), lock.scheduler_id.as_str()), ("a", "id of a"));
    let meta = store.meta().await.unwrap();
    assert_eq!(meta.lock, lock);
    assert!(lock.expiry_ms > meta.time_ms);
    assert!(acquire(&store, "b", LONG).await.is_none());
    assert!(!store.renew_lock("b", lock.epoch, LONG).await.unwrap());
    assert!(!store.release_lock("b", lock.epoch).await.unwrap());
    assert!(!store.release_lock("a", lock.epoch + 1).await.unwrap());
    assert_eq!(store.meta().await.unwrap().lock, lock);
}

pub async fn a_released_lock_is_free_at_once(subject: &dyn Subject) {
    let store = subject.open().await;
    let first = acquire(&store, "a", LONG).await.expect("a free lock");
    assert!(store.release_lock("a", first.epoch).await.unwrap());
    assert_eq!(store.meta().await.unwrap().lock.owner, "");
    assert!(!store.renew_lock("a", first.epoch, LONG).await.unwrap());
    let second = acquire(&store, "b", LONG).await.expect("a released lock");
    assert!(second.epoch > first.epoch);
}

pub async fn an_expired_lock_is_free_and_epochs_rise(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut last = acquire(&store, "a", SHORT).await.expect("a free lock");
    for owner in ["b", "c"] {
        let next = eventually(async || acquire(&store, owner, SHORT).await).await;
        assert!(next.epoch > last.epoch, "{} after {}", next.epoch, last.epoch);
        assert!(!store.renew_lock(&last.owner, last.epoch, LONG).await.unwrap(), "it is no longer theirs");
        last = next;
    }
}

pub async fn a_renewed_lock_stays(subject: &dyn Subject) {
    let store = subject.open().await;
    let lock = acquire(&store, "a", SHORT).await.expect("a free lock");
    assert!(store.renew_lock("a", lock.epoch, LONG).await.unwrap());
    let renewed = store.meta().await.unwrap().lock;
    assert!(renewed.expiry_ms > lock.expiry_ms);
    assert_eq!(renewed.epoch, lock.epoch, "a renewal keeps the epoch");
    assert!(acquire(&store, "b", LONG).await.is_none());
    let again = acquire(&store, "a", LONG).await.expect("the owner's own lock");
    assert!(again.epoch > lock.epoch, "every acquisition raises the epoch");
}

pub async fn a_generation_begins_without_a_leader(subject: &dyn Subject) {
    let store = subject.open().await;
    let lock = acquire(&store, "a", LONG).await.expect("a free lock");
    subject.restart().await;
    let meta = reachable(async || store.meta().await).await;
    assert_eq!((meta.lock.owner.as_str(), meta.lock.epoch), ("", lock.epoch));
    assert!(!store.renew_lock("a", lock.epoch, LONG).await.unwrap(), "what it assigned may be lost");
    let guard = LeaderGuard { epoch: lock.epoch, owner: "a".to_owned() };
    let call = Call { leader: Some(guard), mutations: vec![submit(job("j"))], ..Call::default() };
    assert!(matches!(store.commit(call).await, Err(StoreError::Fenced)));
    let next = acquire(&store, "b", LONG).await.expect("a free lock");
    assert!(next.epoch > lock.epoch);
}

pub async fn pauses_without_a_leader_are_recorded(subject: &dyn Subject) {
    let store = subject.open().await;
    let first = acquire(&store, "a", SHORT).await.expect("a free lock");
    let known = first.pauses.len();
    let second = eventually(async || {
        // Taken only once some time has passed since the first ended.
        let now = store.meta().await.unwrap().time_ms;
        if now > first.expiry_ms + 1 { acquire(&store, "b", LONG).await } else { None }
    })
    .await;
    assert_eq!(second.pauses.len(), known + 1);
    let (from, to) = *second.pauses.last().expect("a pause");
    assert_eq!(from, first.expiry_ms);
    assert!(to > from && second.expiry_ms > to);
    assert!(store.renew_lock("b", second.epoch, LONG).await.unwrap());
    assert_eq!(store.meta().await.unwrap().lock.pauses, second.pauses, "a renewal in time is no pause");
}

pub async fn at_most_64_pauses_are_kept(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut last = acquire(&store, "a", LONG).await.expect("a free lock");
    for _ in 0..70 {
        assert!(store.release_lock("a", last.epoch).await.unwrap());
        let released = store.meta().await.unwrap().lock.expiry_ms;
        last = eventually(async || {
            let now = store.meta().await.unwrap().time_ms;
            if now > released { acquire(&store, "a", LONG).await } else { None }
        })
        .await;
    }
    assert_eq!(last.pauses.len(), 64);
    assert!(last.pauses.is_sorted(), "oldest first: {:?}", last.pauses);
}

fn renewal(executor: &str, session: &str) -> LeaseRenewal {
    LeaseRenewal { executor: executor_id(executor), session: session_id(session), lease: LONG }
}

pub async fn leases_are_renewed_for_the_current_session_only(subject: &dyn Subject) {
    let store = subject.open().await;
    for id in ["e1", "e2"] {
        register(&store, executor(id, &[])).await;
    }
    let granted = read_executor(&store, "e1").await;
    assert!(granted.lease_expiry_ms > store.meta().await.unwrap().time_ms, "granted with the record");
    let before = store.head().await.unwrap();
    let renewals = [renewal("e1", "session-1"), renewal("e2", "session-0"), renewal("nobody", "session-1")];
    assert_eq!(store.renew_leases(&renewals).await.unwrap(), [true, false, false]);
    let renewed = read_executor(&store, "e1").await;
    assert!(renewed.lease_expiry_ms > granted.lease_expiry_ms);
    assert_eq!(renewed.revision, granted.revision, "a renewal is no change");
    assert_eq!(store.head().await.unwrap(), before, "a renewal is not logged");
    assert!(read_executor(&store, "e2").await.lease_expiry_ms < renewed.lease_expiry_ms);
    assert!(store.renew_leases(&[]).await.unwrap().is_empty());
}

pub async fn a_lost_executor_has_no_lease(subject: &dyn Subject) {
    let store = subject.open().await;
    let stored = register(&store, executor("e1", &[])).await;
    let lost = Executor { state: ExecutorState::Lost, session: None, ..stored };
    let verdict = verdict(&store, Mutation::PutExecutor { executor: Box::new(lost), lease: None }).await;
    assert!(matches!(verdict, Verdict::Applied(_)), "{verdict:?}");
    assert_eq!(store.renew_leases(&[renewal("e1", "session-1")]).await.unwrap(), [false]);
    let lost = read_executor(&store, "e1").await;
    assert_eq!((lost.lease_expiry_ms, lost.session), (0, None));
}

pub async fn a_record_without_a_grant_keeps_the_lease(subject: &dyn Subject) {
    let store = subject.open().await;
    let stored = register(&store, executor("e1", &[])).await;
    let expiry_ms = stored.lease_expiry_ms;
    let draining = Executor { drain: Some(Drain::default()), lease_expiry_ms: 1, ..stored };
    let put = Mutation::PutExecutor { executor: Box::new(draining), lease: None };
    assert!(matches!(verdict(&store, put).await, Verdict::Applied(_)));
    assert_eq!(read_executor(&store, "e1").await.lease_expiry_ms, expiry_ms);
}

pub async fn announced_schedulers_expire(subject: &dyn Subject) {
    let store = subject.open().await;
    let info = |id: &str| SchedulerInfo {
        id: SchedulerId::trusted(id),
        address: format!("{id}:50051"),
        version: "0.1.0".to_owned(),
        heartbeat_time_ms: 0,
    };
    for (id, ttl) in [("s2", LONG), ("s1", LONG), ("s3", SHORT)] {
        let time_ms = store.announce_scheduler(&info(id), ttl).await.unwrap();
        assert!(time_ms <= store.meta().await.unwrap().time_ms, "it tells the store's time");
    }
    let ids = async || -> Vec<String> {
        store.schedulers().await.unwrap().iter().map(|known| known.id.to_string()).collect()
    };
    eventually(async || (ids().await == ["s1", "s2"]).then_some(())).await;
    let known = store.schedulers().await.unwrap();
    let first = known.first().expect("a replica");
    assert!(first.heartbeat_time_ms > 0);
    assert_eq!(SchedulerInfo { heartbeat_time_ms: 0, ..first.clone() }, info("s1"));
}
