//! What becomes of each mutation of a call.

use std::sync::Arc;
use std::time::Duration;

use berth_domain::executor::{Drain, Executor};
use berth_domain::job::Job;

use super::Subject;
use super::support::*;
use crate::{Call, Conflict, IdempotencyKey, MAX_MUTATIONS, Mutation, StoreError, Verdict};

pub async fn a_conflict_concerns_its_mutation_alone(subject: &dyn Subject) {
    let store = subject.open().await;
    let first = apply(&store, submit(job("j1"))).await;
    let base = store.head().await.unwrap().revision;
    let mutations = vec![
        submit(job("j2")),
        submit(job("j1")),
        update(Job { revision: first.revision + 40, ..ended(&first, NOW_MS) }),
        update(job("nobody")),
        submit(job("j3")),
    ];
    let committed = commit(&store, mutations).await;
    let expected = [
        Verdict::Applied(base + 1),
        Verdict::Conflict(Conflict::JobExists),
        Verdict::Conflict(Conflict::Revision(first.revision)),
        Verdict::Conflict(Conflict::Missing),
        Verdict::Applied(base + 2),
    ];
    assert_eq!(committed.verdicts, expected);
    assert_eq!(committed.position.revision, base + 2, "conflicts take no revision");
    assert_eq!(read(&store, "j1").await, Some(first));
    check_agreement(&store).await;
}

pub async fn a_call_of_conflicts_changes_nothing(subject: &dyn Subject) {
    let store = subject.open().await;
    let stored = apply(&store, submit(job("j1"))).await;
    let before = store.head().await.unwrap();
    let committed = commit(&store, vec![submit(job("j1")), update(Job { revision: 99, ..stored })]).await;
    assert!(committed.verdicts.iter().all(|verdict| matches!(verdict, Verdict::Conflict(_))));
    assert_eq!(committed.position, before);
    assert_eq!(store.head().await.unwrap(), before);
}

pub async fn mutations_see_those_before_them(subject: &dyn Subject) {
    let store = subject.open().await;
    let base = store.head().await.unwrap().revision;
    let new = Job { revision: base + 2, ..job("j1") };
    let taken = Job { revision: base + 3, ..assigned(&new, "e1", 1) };
    let mut too_large = job("j2");
    too_large.demand.cpu_millis = 4_000;
    let too_large_stored = Job { revision: base + 4, ..too_large.clone() };
    let mutations = vec![
        put(executor("e1", &[])),
        submit(job("j1")),
        update(assigned(&new, "e1", 1)),
        submit(too_large),
        update(assigned(&too_large_stored, "e1", 1)),
        update(ended(&taken, NOW_MS)),
        update(assigned(&too_large_stored, "e1", 1)),
    ];
    let committed = commit(&store, mutations).await;
    let expected = [
        Verdict::Applied(base + 1),
        Verdict::Applied(base + 2),
        Verdict::Applied(base + 3),
        Verdict::Applied(base + 4),
        Verdict::Conflict(Conflict::Capacity),
        Verdict::Applied(base + 5),
        Verdict::Applied(base + 6),
    ];
    assert_eq!(committed.verdicts, expected);
    check_agreement(&store).await;
}

pub async fn an_executor_changed_in_a_call_counts_in_the_call(subject: &dyn Subject) {
    let store = subject.open().await;
    let base = store.head().await.unwrap().revision;
    let first = executor("e1", &["g0"]);
    let mut second = Executor { revision: base + 1, ..executor("e1", &["g1"]) };
    second.capacity.cpu_millis = 100;
    let drained = Executor { drain: Some(Drain::default()), revision: base + 3, ..executor("e1", &["g1"]) };
    let wanted = |cpu_millis| {
        let mut next = Job { revision: base + 2, ..job("j1") };
        next.demand.cpu_millis = cpu_millis;
        next.gpu_device_ids = vec!["g1".to_owned()];
        update(assigned(&next, "e1", 1))
    };
    let mutations = vec![
        put(first),
        submit(job("j1")),
        wanted(1),
        put(second),
        wanted(101),
        put(drained),
        wanted(1),
        put(Executor { revision: base + 4, ..executor("e1", &["g1"]) }),
        wanted(101),
    ];
    let committed = commit(&store, mutations).await;
    let expected = [
        Verdict::Applied(base + 1),
        Verdict::Applied(base + 2),
        Verdict::Conflict(Conflict::Device),
        Verdict::Applied(base + 3),
        Verdict::Conflict(Conflict::Capacity),
        Verdict::Applied(base + 4),
        Verdict::Conflict(Conflict::ExecutorNotActive),
        Verdict::Applied(base + 5),
        Verdict::Applied(base + 6),
    ];
    assert_eq!(committed.verdicts, expected);
    check_agreement(&store).await;
}

pub async fn a_repeated_submit_gives_the_first_job(subject: &dyn Subject) {
    let store = subject.open().await;
    let first = apply(&store, submit_with_key(job("j1"), "key", "hash")).await;
    let before = store.head().await.unwrap();
    let again = commit(&store, vec![submit_with_key(job("j2"), "key", "hash")]).await;
    assert_eq!(again.verdicts, [Verdict::Existing(first.id.clone())]);
    let same = verdict(&store, submit_with_key(job("j1"), "key", "hash")).await;
    assert_eq!(same, Verdict::Existing(first.id));
    assert!(read(&store, "j2").await.is_none());
    assert_eq!(store.head().await.unwrap(), before, "a repeated submit changes nothing");
}

pub async fn a_key_used_for_another_request_conflicts(subject: &dyn Subject) {
    let store = subject.open().await;
    apply(&store, submit_with_key(job("j1"), "key", "hash")).await;
    let other = verdict(&store, submit_with_key(job("j2"), "key", "other")).await;
    assert_eq!(other, Verdict::Conflict(Conflict::Idempotency(job_id("j1"))));
    assert!(read(&store, "j2").await.is_none());
    apply(&store, submit_with_key(job("j2"), "key 2", "other")).await;
}

pub async fn a_key_outlives_its_job(subject: &dyn Subject) {
    let store = subject.open().await;
    let first = apply(&store, submit_with_key(job("j1"), "key", "hash")).await;
    let done = apply(&store, update(ended(&first, NOW_MS))).await;
    assert!(matches!(verdict(&store, delete(&done)).await, Verdict::Applied(_)));
    let again = verdict(&store, submit_with_key(job("j2"), "key", "hash")).await;
    assert_eq!(again, Verdict::Existing(job_id("j1")));
}

pub async fn a_key_is_forgotten_in_the_end(subject: &dyn Subject) {
    let store = subject.open().await;
    let key = |id: &str, ttl| Mutation::Submit {
        job: Arc::new(job(id)),
        spec: Arc::new(spec()),
        idempotency: Some(IdempotencyKey { key: "key".to_owned(), request_hash: "hash".to_owned(), ttl }),
    };
    apply(&store, key("j1", Duration::from_millis(30))).await;
    let forgotten = eventually(async || match verdict(&store, key("j2", Duration::from_secs(60))).await {
        Verdict::Existing(_) => None,
        other @ (Verdict::Applied(_) | Verdict::Conflict(_)) => Some(other),
    });
    assert!(matches!(forgotten.await, Verdict::Applied(_)));
}

pub async fn a_job_id_is_taken_once(subject: &dyn Subject) {
    let store = subject.open().await;
    let stored = apply(&store, submit(job("j1"))).await;
    let other = Job { display_name: "another".to_owned(), ..job("j1") };
    let refused = verdict(&store, submit_with_key(other, "key", "hash")).await;
    assert_eq!(refused, Verdict::Conflict(Conflict::JobExists));
    assert_eq!(read(&store, "j1").await, Some(stored));
    let unused = verdict(&store, submit_with_key(job("j2"), "key", "other")).await;
    assert!(matches!(unused, Verdict::Applied(_)), "a refused submit leaves its key unused: {unused:?}");
}

pub async fn a_call_is_applied_in_its_order(subject: &dyn Subject) {
    let store = subject.open().await;
    let first = apply(&store, submit(job("a"))).await;
    let done = apply(&store, update(ended(&first, NOW_MS))).await;
    let base = store.head().await.unwrap().revision;
    let second = |revision| Job { revision, ..job("a") };
    let mutations = vec![
        submit(job("b")),
        delete(&done),
        delete(&done),
        update(ended(&done, NOW_MS)),
        submit(second(0)),
        submit(second(0)),
        submit(job("c")),
        submit(job("b")),
        delete(&second(base + 3)),
        submit(second(0)),
        update(ended(&second(base + 6), NOW_MS)),
    ];
    let expected = [
        Verdict::Applied(base + 1),
        Verdict::Applied(base + 2),
        Verdict::Conflict(Conflict::Missing),
        Verdict::Conflict(Conflict::Missing),
        Verdict::Applied(base + 3),
        Verdict::Conflict(Conflict::JobExists),
        Verdict::Applied(base + 4),
        Verdict::Conflict(Conflict::JobExists),
        Verdict::Applied(base + 5),
        Verdict::Applied(base + 6),
        Verdict::Applied(base + 7),
    ];
    assert_eq!(commit(&store, mutations).await.verdicts, expected);
    let specs = store.specs(&["a", "b", "c"].map(job_id)).await.unwrap();
    assert_eq!(specs, [Some(spec()), Some(spec()), Some(spec())]);
    check_agreement(&store).await;
}

pub async fn submits_of_a_call_find_who_is_there(subject: &dyn Subject) {
    let store = subject.open().await;
    let base = apply(&store, submit(job("y"))).await.revision;
    let committed = commit(&store, ["x", "x", "y", "z"].map(|id| submit(job(id))).into()).await;
    let taken = Verdict::Conflict(Conflict::JobExists);
    let expected = [Verdict::Applied(base + 1), taken.clone(), taken.clone(), Verdict::Applied(base + 2)];
    assert_eq!(committed.verdicts, expected);
    let committed = commit(&store, ["v", "w", "v"].map(|id| submit(job(id))).into()).await;
    assert_eq!(committed.verdicts, [Verdict::Applied(base + 3), Verdict::Applied(base + 4), taken]);
    check_agreement(&store).await;
}

pub async fn an_executor_is_written_at_its_revision_only(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut unknown = executor("e1", &[]);
    unknown.revision = 3;
    assert_eq!(verdict(&store, put(unknown)).await, Verdict::Conflict(Conflict::Missing));
    let stored = register(&store, executor("e1", &[])).await;
    let refused = verdict(&store, put(executor("e1", &[]))).await;
    assert_eq!(refused, Verdict::Conflict(Conflict::Revision(stored.revision)));
    let next = register(&store, stored.clone()).await;
    assert!(next.revision > stored.revision);
}

pub async fn a_call_of_too_many_mutations_is_refused(subject: &dyn Subject) {
    let store = subject.open().await;
    let many = |count| (0..count).map(|at| submit(job(&format!("j{at}")))).collect::<Vec<_>>();
    let call = Call { mutations: many(MAX_MUTATIONS + 1), ..Call::default() };
    let refused = store.commit(call).await;
    assert!(matches!(refused, Err(StoreError::Malformed { .. })), "{refused:?}");
    assert!(read(&store, "j0").await.is_none());
    let committed = commit(&store, many(MAX_MUTATIONS)).await;
    assert!(committed.verdicts.iter().all(|verdict| matches!(verdict, Verdict::Applied(_))));
    let empty = commit(&store, Vec::new()).await;
    assert_eq!(empty.position, committed.position);
}

pub async fn of_two_racing_clients_exactly_one_wins(subject: &dyn Subject) {
    let (one, two) = (subject.open().await, subject.open().await);
    let mut stored = apply(&one, submit(job("j1"))).await;
    for round in 0..20 {
        let message = |who: &str| Job { message: format!("{who} {round}"), ..stored.clone() };
        let (first, second) =
            tokio::join!(verdict(&one, update(message("one"))), verdict(&two, update(message("two"))));
        let (winner, revision, loser) = match (first, second) {
            (Verdict::Applied(revision), loser) => ("one", revision, loser),
            (loser, Verdict::Applied(revision)) => ("two", revision, loser),
            other => panic!("nobody won: {other:?}"),
        };
        assert_eq!(loser, Verdict::Conflict(Conflict::Revision(revision)));
        let expected = Job { revision, ..message(winner) };
        stored = read(&two, "j1").await.expect("the record");
        assert_eq!(stored, expected);
    }
}
