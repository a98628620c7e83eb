//! What only the embedded store meets: power cuts at any moment, a disk that fails, two processes on
//! one folder, a row that cannot be read.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use berth_domain::ids::JobId;
use berth_store::contract::a_submit;
use berth_store::embedded::{EmbeddedConfig, EmbeddedStore};
use berth_store::{Call, Changes, Mutation, Store, StoreError, Verdict};
use redb::{Database, TableDefinition};
use tokio::sync::Notify;

use super::{Machine, config};

/// Submits job after job until the store fails; gives those that were acknowledged.
async fn submit_until_it_fails(
    store: Arc<Machine>,
    name: String,
    seen: Arc<(AtomicUsize, Notify)>,
) -> Vec<JobId> {
    let mut acknowledged = Vec::new();
    for at in 0.. {
        let id = format!("{name}-{at}");
        if store.commit(a_submit(&id)).await.is_err() {
            break;
        }
        acknowledged.push(JobId::trusted(id));
        seen.0.fetch_add(1, Ordering::SeqCst);
        seen.1.notify_one();
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_at_any_moment_lose_no_acknowledged_job() {
    const ROUNDS: u64 = 12;
    let machine = Arc::new(Machine::new(config()));
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let seen = Arc::new((AtomicUsize::new(0), Notify::new()));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let name = format!("r{round}-w{writer}");
                tokio::spawn(submit_until_it_fails(machine.clone(), name, seen.clone()))
            })
            .collect();
        while seen.0.load(Ordering::SeqCst) < 10 + usize::try_from(round).unwrap() * 3 {
            seen.1.notified().await;
        }
        // The disk alone loses power: what runs on it fails from here on.
        machine.platter.cut(crate::seed().wrapping_add(round));
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        machine.restart(crate::seed() ^ round);
        let stored = machine.jobs(&acknowledged).await.expect("a read");
        let lost: Vec<_> = acknowledged.iter().zip(&stored).filter(|(_, job)| job.is_none()).collect();
        assert!(lost.is_empty(), "round {round} lost {lost:?}");
    }
    assert!(acknowledged.len() >= 12 * 10);
}

#[tokio::test]
async fn a_disk_that_fails_to_sync_is_unknown_and_used_again() {
    let machine = Machine::new(config());
    machine.commit(a_submit("before")).await.expect("a commit");
    let before = machine.head().await.expect("a head");
    machine.platter.fail_syncs(1);
    let failed = machine.commit(a_submit("during")).await;
    assert!(failed.as_ref().is_err_and(StoreError::outcome_unknown), "{failed:?}");
    let waiting = machine.changes(before, std::time::Duration::ZERO).await;
    assert!(matches!(waiting, Err(StoreError::Unavailable { .. })), "{waiting:?}");

    let meta = machine.meta().await.expect("the database is opened again");
    assert!(meta.position.generation > before.generation, "in another generation");
    let told = machine.changes(before, std::time::Duration::ZERO).await.expect("changes");
    assert!(matches!(told, Changes::Resync), "{told:?}");
    machine.commit(a_submit("during")).await.expect("the submit again");
    let known = machine.jobs(&[JobId::trusted("before"), JobId::trusted("during")]).await.expect("a read");
    assert!(known.iter().all(Option::is_some), "{known:?}");
}

#[tokio::test]
async fn one_folder_is_used_by_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig::new(folder.path().join("made/on/the/way"));
    // What a power cut left of a database that was being made is in nobody's way.
    std::fs::create_dir_all(&config.folder).unwrap();
    std::fs::write(config.folder.join("berth.redb.new"), "half of it").unwrap();
    let first = EmbeddedStore::open(&config).expect("a new folder");
    first.commit(a_submit("j1")).await.expect("a commit");
    let second = EmbeddedStore::open(&config).expect_err("a folder in use");
    assert!(matches!(&second, StoreError::InUse { place } if place.ends_with("made/on/the/way")), "{second}");
    first.close().await;
    let closed = first.commit(a_submit("j2")).await.expect_err("nothing is taken after the end");
    assert!(closed.to_string().contains("closed"), "{closed}");
    let again = EmbeddedStore::open(&config).expect("a folder that is free again");
    assert!(again.jobs(&[JobId::trusted("j1")]).await.expect("a read")[0].is_some());
    let file = config.folder.join("berth.redb");
    let mode = std::fs::metadata(file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "specs hold secrets: nobody else reads them");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_concerns_its_own_call_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig::new(folder.path().to_owned());
    let rows: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("jobs");
    let database = Database::create(folder.path().join("berth.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(rows).unwrap().insert("bad", b"no record".as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);

    let store = EmbeddedStore::open(&config).expect("a folder");
    let generation = store.head().await.unwrap().generation;
    let delete = Mutation::Delete { job_id: JobId::trusted("bad"), revision: 1 };
    let bad = Call { mutations: vec![delete], ..Call::default() };
    // Made ready before the writer runs, so that they share its transaction.
    let (good, bad, better) =
        tokio::join!(store.commit(a_submit("good")), store.commit(bad), store.commit(a_submit("better")));
    assert!(matches!(bad, Err(StoreError::Corrupt { .. })), "{bad:?}");
    for (id, outcome) in [("good", good), ("better", better)] {
        let verdicts = outcome.unwrap_or_else(|error| panic!("{id}: {error}")).verdicts;
        assert!(matches!(verdicts[0], Verdict::Applied(_)), "{id}: {verdicts:?}");
    }
    assert_eq!(store.head().await.unwrap().generation, generation, "the database is not opened again");
    let read = store.jobs(&[JobId::trusted("bad")]).await;
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
}

#[tokio::test]
async fn a_full_disk_refuses_new_jobs_only() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { min_free_bytes: u64::MAX, ..EmbeddedConfig::new(folder.path().to_owned()) };
    let store = EmbeddedStore::open(&config).expect("a folder");
    let refused = store.commit(a_submit("j1")).await;
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    store.commit(Call::default()).await.expect("a call without submits");
}
