//! Reads: order, pages, and what is gone.

use berth_domain::job::Job;

use super::Subject;
use super::support::*;
use crate::{Cursor, Scope, StoreError, Verdict};

pub async fn records_and_specs_are_read_as_written(subject: &dyn Subject) {
    let store = subject.open().await;
    let stored = apply(&store, submit(job("j1"))).await;
    assert_eq!(stored, Job { revision: stored.revision, ..job("j1") });
    let ids = [job_id("nobody"), job_id("j1")];
    assert_eq!(store.jobs(&ids).await.unwrap(), [None, Some(stored)]);
    assert_eq!(store.specs(&ids).await.unwrap(), [None, Some(spec())]);
    assert!(store.jobs(&[]).await.unwrap().is_empty());
    let written = executor("e1", &["g0", "g1"]);
    let stored = register(&store, written.clone()).await;
    let lease_expiry_ms = stored.lease_expiry_ms;
    assert_eq!(
        stored.clone(),
        berth_domain::executor::Executor { lease_expiry_ms, revision: stored.revision, ..written }
    );
}

pub async fn the_queue_is_ordered_by_priority_then_submission(subject: &dyn Subject) {
    let store = subject.open().await;
    for (id, priority) in [("low", 0), ("mid-1", 50), ("high", 100), ("mid-2", 50), ("above", 51)] {
        apply(&store, submit(Job { priority, ..job(id) })).await;
    }
    let expected = ["high", "above", "mid-1", "mid-2", "low"];
    assert_eq!(walk_ids(&store, &Scope::Pending, 100).await, expected);
    assert_eq!(walk_ids(&store, &Scope::Pending, 1).await, expected);
}

pub async fn a_job_put_back_keeps_its_place(subject: &dyn Subject) {
    let store = subject.open().await;
    register(&store, executor("e1", &[])).await;
    let first = apply(&store, submit(job("first"))).await;
    apply(&store, submit(job("second"))).await;
    let taken = apply(&store, update(assigned(&first, "e1", 1))).await;
    assert_eq!(walk_ids(&store, &Scope::Pending, 10).await, ["second"]);
    let waiting = apply(&store, update(delayed(&taken, NOW_MS + 1_000))).await;
    assert_eq!(walk_ids(&store, &Scope::Pending, 10).await, ["second"]);
    assert_eq!(walk_ids(&store, &Scope::Delayed, 10).await, ["first"]);
    apply(&store, update(Job { due_time_ms: None, ..waiting })).await;
    assert_eq!(walk_ids(&store, &Scope::Pending, 10).await, ["first", "second"]);
}

pub async fn pages_walk_everything_exactly_once(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut big = executor("e1", &[]);
    big.capacity.cpu_millis = 1_000_000;
    big.capacity.memory_bytes = 1_000 * GIB;
    register(&store, big).await;
    let (mut all, mut queued, mut late, mut taken, mut done) = (vec![], vec![], vec![], vec![], vec![]);
    for at in 0..44_u64 {
        // Ids in no order, so that nothing is right by accident.
        let id = format!("j{}", (at * 29) % 97);
        let pending = apply(&store, submit(job(&id))).await;
        all.insert(0, id.clone());
        match at % 4 {
            0 => queued.push(id),
            1 => {
                // Many with the same time: the id decides.
                apply(&store, update(delayed(&pending, NOW_MS + at / 16))).await;
                late.push((NOW_MS + at / 16, id));
            }
            2 => {
                apply(&store, update(assigned(&pending, "e1", 1))).await;
                taken.push(id);
            }
            _ => {
                apply(&store, update(ended(&pending, NOW_MS + at / 16))).await;
                done.push((NOW_MS + at / 16, id));
            }
        }
    }
    taken.sort();
    late.sort();
    done.sort();
    let ids = |pairs: Vec<(u64, String)>| pairs.into_iter().map(|(_, id)| id).collect::<Vec<_>>();
    let expected = [
        (Scope::All, all),
        (Scope::Pending, queued),
        (Scope::Delayed, ids(late)),
        (Scope::Assigned(executor_id("e1")), taken),
        (Scope::Finished, ids(done)),
    ];
    for (scope, expected) in expected {
        for limit in [1, 3, 11, 1_000] {
            assert_eq!(walk_ids(&store, &scope, limit).await, expected, "{scope:?} by {limit}");
        }
    }
}

pub async fn a_page_goes_on_where_its_last_job_has_left(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut waiting = Vec::new();
    for at in 0..6 {
        let pending = apply(&store, submit(job(&format!("j{at}")))).await;
        waiting.push(apply(&store, update(delayed(&pending, NOW_MS))).await);
    }
    let page = store.page(&Scope::Delayed, None, 3).await.unwrap();
    let last = page.jobs.last().expect("three jobs").clone();
    apply(&store, update(ended(&last, NOW_MS))).await;
    let rest = store.page(&Scope::Delayed, page.next.as_ref(), 100).await.unwrap();
    let ids: Vec<String> = rest.jobs.iter().map(|job| job.id.to_string()).collect();
    assert_eq!(ids, ["j3", "j4", "j5"]);
}

pub async fn a_cursor_of_another_make_is_refused(subject: &dyn Subject) {
    let store = subject.open().await;
    for text in ["", "x", "1", "1:", ":j", "-1:j"] {
        let cursor = Cursor(text.to_owned());
        let result = store.page(&Scope::Pending, Some(&cursor), 10).await;
        assert!(matches!(result, Err(StoreError::Malformed { .. })), "{text:?}: {result:?}");
    }
}

pub async fn a_deletion_removes_record_spec_and_indexes(subject: &dyn Subject) {
    let store = subject.open().await;
    let pending = apply(&store, submit(job("j1"))).await;
    let done = apply(&store, update(ended(&pending, NOW_MS))).await;
    let stale = verdict(&store, delete(&pending)).await;
    assert_eq!(stale, Verdict::Conflict(crate::Conflict::Revision(done.revision)));
    assert!(matches!(verdict(&store, delete(&done)).await, Verdict::Applied(_)));
    assert_eq!(verdict(&store, delete(&done)).await, Verdict::Conflict(crate::Conflict::Missing));
    assert_eq!(store.jobs(&[job_id("j1")]).await.unwrap(), [None]);
    assert_eq!(store.specs(&[job_id("j1")]).await.unwrap(), [None]);
    for scope in [Scope::All, Scope::Pending, Scope::Finished] {
        assert!(walk(&store, &scope, 10).await.is_empty(), "{scope:?}");
    }
    assert!(store.meta().await.unwrap().counts.is_empty());
}

pub async fn clusters_on_one_server_do_not_see_each_other(subject: &dyn Subject) {
    let ours = subject.open().await;
    let theirs = subject.open_cluster("another").await;
    apply(&ours, submit_with_key(job("j1"), "key", "hash")).await;
    register(&ours, executor("e1", &[])).await;
    assert_eq!(theirs.head().await.unwrap().revision, 0);
    assert!(walk(&theirs, &Scope::All, 10).await.is_empty());
    assert!(theirs.executors().await.unwrap().is_empty());
    let same_names = verdict(&theirs, submit_with_key(job("j1"), "key", "other")).await;
    assert_eq!(same_names, Verdict::Applied(1));
    assert_eq!(walk_ids(&ours, &Scope::All, 10).await, ["j1"]);
}
