//! The change log: gap-free, in order, and honest about what it no longer has.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Subject;
use super::support::*;
use crate::{Change, Changes, LockRequest, Position, Store};

const LONG: Duration = Duration::from_secs(10);

async fn entries(store: &Arc<dyn Store>, after: Position, wait: Duration) -> (Vec<(u64, Change)>, Position) {
    match store.changes(after, wait).await.expect("the log") {
        Changes::Entries { entries, position } => (entries, position),
        Changes::Resync => panic!("resync after {after:?}"),
    }
}

async fn assert_resync(store: &Arc<dyn Store>, after: Position) {
    let changes = store.changes(after, Duration::ZERO).await.expect("the log");
    assert!(matches!(changes, Changes::Resync), "after {after:?}: {changes:?}");
}

pub async fn each_change_is_told_with_its_revision(subject: &dyn Subject) {
    let store = subject.open().await;
    let start = store.head().await.unwrap();
    let stored_executor = register(&store, executor("e1", &["g0"])).await;
    let pending = apply(&store, submit(job("j1"))).await;
    let taken = apply(&store, update(assigned(&pending, "e1", 3))).await;
    let done = apply(&store, update(ended(&taken, NOW_MS))).await;
    commit(&store, vec![delete(&done)]).await;
    let request = LockRequest { owner: "o".to_owned(), scheduler_id: "s1".to_owned(), ttl: LONG };
    let lock = store.acquire_lock(&request).await.unwrap().expect("a free lock");
    assert!(store.release_lock("o", lock.epoch).await.unwrap());

    let (told, position) = entries(&store, start, Duration::ZERO).await;
    assert_eq!(position, store.head().await.unwrap());
    let mut logged_executor = stored_executor;
    logged_executor.lease_expiry_ms = 0;
    let expected = [
        Change::Executor(Box::new(logged_executor)),
        Change::Job(Arc::new(pending)),
        Change::Job(Arc::new(taken)),
        Change::Job(Arc::new(done)),
        Change::JobDeleted(job_id("j1")),
        Change::Leader { epoch: lock.epoch, scheduler_id: "s1".to_owned() },
        Change::Leader { epoch: lock.epoch, scheduler_id: String::new() },
    ];
    let expected: Vec<_> = (start.revision + 1..).zip(expected).collect();
    assert_eq!(told, expected);
    let (nothing, same) = entries(&store, position, Duration::ZERO).await;
    assert!(nothing.is_empty() && same == position);
}

pub async fn a_position_inside_a_call_is_served(subject: &dyn Subject) {
    let store = subject.open().await;
    let start = store.head().await.unwrap();
    commit(&store, (0..5).map(|at| submit(job(&format!("j{at}")))).collect()).await;
    for skip in 0..5 {
        let after = Position { revision: start.revision + skip, ..start };
        let (told, _) = entries(&store, after, Duration::ZERO).await;
        let revisions: Vec<u64> = told.iter().map(|(revision, _)| *revision).collect();
        let expected: Vec<u64> = (after.revision + 1..=start.revision + 5).collect();
        assert_eq!(revisions, expected);
    }
}

pub async fn changes_are_gap_free_under_concurrent_commits(subject: &dyn Subject) {
    const WRITERS: u64 = 4;
    const CALLS: u64 = 25;
    let store = subject.open().await;
    let start = store.head().await.unwrap();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = subject.open().await;
        writers.push(tokio::spawn(async move {
            for call in 0..CALLS {
                let ids = (0..=call % 3).map(|at| format!("w{writer}-c{call}-{at}"));
                commit(&store, ids.map(|id| submit(job(&id))).collect()).await;
            }
        }));
    }
    let total: u64 = WRITERS * (0..CALLS).map(|call| call % 3 + 1).sum::<u64>();
    let mut position = start;
    while position.revision < start.revision + total {
        let (told, next) = entries(&store, position, LONG).await;
        assert!(!told.is_empty(), "no change for {LONG:?} at {position:?}");
        for (at, (revision, _)) in told.iter().enumerate() {
            assert_eq!(*revision, position.revision + 1 + at as u64, "a gap, or out of order");
        }
        assert_eq!(next.revision, position.revision + told.len() as u64);
        position = next;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(position, store.head().await.unwrap());
}

pub async fn the_log_wakes_a_waiter(subject: &dyn Subject) {
    let (reader, writer) = (subject.open().await, subject.open().await);
    for round in 0..5 {
        let after = reader.head().await.unwrap();
        let waiting = Arc::clone(&reader);
        let waiter = tokio::spawn(async move { entries(&waiting, after, LONG).await });
        tokio::task::yield_now().await;
        commit(&writer, vec![submit(job(&format!("j{round}")))]).await;
        let committed = Instant::now();
        let (told, _) = waiter.await.unwrap();
        assert_eq!(told.len(), 1);
        // Far below any interval of polling, and far above what a busy machine takes.
        assert!(committed.elapsed() < Duration::from_millis(500), "woken after {:?}", committed.elapsed());
    }
}

pub async fn many_may_wait_at_once(subject: &dyn Subject) {
    let store = subject.open().await;
    let after = store.head().await.unwrap();
    let mut waiters = Vec::new();
    for _ in 0..20 {
        let waiting = Arc::clone(&store);
        waiters.push(tokio::spawn(async move { entries(&waiting, after, LONG).await }));
    }
    tokio::task::yield_now().await;
    commit(&store, vec![submit(job("j1"))]).await;
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().0.len(), 1);
    }
}

pub async fn a_dropped_waiter_delays_nobody(subject: &dyn Subject) {
    let store = subject.open().await;
    let after = store.head().await.unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(20), store.changes(after, LONG)).await;
    assert!(dropped.is_err(), "nothing changed, so it waited");
    let began = Instant::now();
    commit(&store, vec![submit(job("j1"))]).await;
    assert_eq!(entries(&store, after, LONG).await.0.len(), 1);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

pub async fn an_idle_log_is_waited_for_as_long_as_asked(subject: &dyn Subject) {
    let store = subject.open().await;
    let after = store.head().await.unwrap();
    let wait = Duration::from_millis(50);
    let began = Instant::now();
    let (told, position) = entries(&store, after, wait).await;
    assert!(told.is_empty() && position == after);
    assert!(began.elapsed() >= wait, "it came back after {:?}", began.elapsed());
}

pub async fn a_trimmed_log_gives_resync(subject: &dyn Subject) {
    let store = subject.open_with_small_log().await;
    let start = store.head().await.unwrap();
    let mut kept = start;
    for round in 0..100 {
        kept = commit(&store, vec![submit(job(&format!("j{round}")))]).await.position;
    }
    assert_resync(&store, start).await;
    // What is recent is still there.
    let recent = Position { revision: kept.revision - 2, ..kept };
    assert_eq!(entries(&store, recent, Duration::ZERO).await.0.len(), 2);
    let beyond = Position { revision: kept.revision + 1, ..kept };
    assert_resync(&store, beyond).await;
}

pub async fn old_changes_leave_the_log(subject: &dyn Subject) {
    let store = subject.open_with_short_log().await;
    let start = store.head().await.unwrap();
    let mut stored = apply(&store, submit(job("j1"))).await;
    let trimmed = eventually(async || {
        stored = apply(&store, update(stored.clone())).await;
        match store.changes(start, Duration::ZERO).await.expect("the log") {
            Changes::Resync => Some(stored.revision),
            Changes::Entries { .. } => None,
        }
    });
    let newest = trimmed.await;
    let recent = Position { revision: newest - 1, ..start };
    assert_eq!(entries(&store, recent, Duration::ZERO).await.0.len(), 1);
}

pub async fn another_generation_gives_resync(subject: &dyn Subject) {
    let store = subject.open().await;
    let before = commit(&store, vec![submit(job("j1"))]).await.position;
    subject.restart().await;
    let after = reachable(async || store.meta().await).await.position;
    assert_resync(&store, before).await;
    assert_resync(&store, Position { generation: after.generation + 1, ..after }).await;
    let (told, _) = entries(&store, after, Duration::ZERO).await;
    assert!(told.is_empty());
    commit(&store, vec![submit(job("j2"))]).await;
    assert_eq!(entries(&store, after, Duration::ZERO).await.0.len(), 1);
}
