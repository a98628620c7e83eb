//! Runs the suite of `berth_store::contract` on every store; each promise is a test of its own.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod embedded_subject;
mod model_subject;
mod redis_server;
mod redis_subject;

use std::sync::Arc;
use std::time::Duration;

use berth_store::contract::{self, Subject};
use berth_store::{Call, Position, Store, StoreError};
use embedded_subject::EmbeddedSubject;
use model_subject::ModelSubject;
use redis_subject::RedisSubject;

/// Where random histories start from, unless `BERTH_TEST_SEED` says otherwise.
const SEED: u64 = 20_261_125;

fn seed() -> u64 {
    match std::env::var("BERTH_TEST_SEED") {
        Ok(text) => text.parse().expect("BERTH_TEST_SEED is a number"),
        Err(_) => SEED,
    }
}

macro_rules! promises {
    ($($module:ident :: { $($name:ident),* $(,)? })*) => {
        mod model {
            use super::*;
            $($(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    contract::$module::$name(&ModelSubject::new()).await;
                }
            )*)*
        }
        mod embedded {
            use super::*;
            $($(
                #[tokio::test]
                async fn $name() {
                    contract::$module::$name(&EmbeddedSubject::default()).await;
                }
            )*)*
        }
        mod redis {
            use super::*;
            $($(
                #[tokio::test]
                async fn $name() {
                    contract::$module::$name(&RedisSubject::start().await).await;
                }
            )*)*
        }
    };
}

promises! {
    fencing::{
        a_stale_leader_commit_is_fenced,
        a_leader_that_released_is_fenced,
        a_stale_session_is_refused,
        a_stale_attempt_is_refused,
        a_new_attempt_on_the_same_executor_voids_the_old_one,
        another_server_begins_a_generation,
        a_submit_after_a_restart_needs_nobody_else,
    }
    capacity::{
        more_cpu_than_there_is_is_refused,
        more_memory_than_there_is_is_refused,
        a_device_in_use_is_refused,
        a_foreign_device_is_refused,
        an_executor_that_is_not_active_takes_nothing,
        reservations_end_with_the_assignment,
        registering_again_keeps_reservations,
        a_job_moved_to_another_executor_takes_its_reservation_along,
    }
    verdicts::{
        a_conflict_concerns_its_mutation_alone,
        a_call_of_conflicts_changes_nothing,
        mutations_see_those_before_them,
        an_executor_changed_in_a_call_counts_in_the_call,
        a_repeated_submit_gives_the_first_job,
        a_key_used_for_another_request_conflicts,
        a_key_outlives_its_job,
        a_key_is_forgotten_in_the_end,
        a_job_id_is_taken_once,
        a_call_is_applied_in_its_order,
        submits_of_a_call_find_who_is_there,
        an_executor_is_written_at_its_revision_only,
        a_call_of_too_many_mutations_is_refused,
        of_two_racing_clients_exactly_one_wins,
    }
    log::{
        each_change_is_told_with_its_revision,
        a_position_inside_a_call_is_served,
        changes_are_gap_free_under_concurrent_commits,
        the_log_wakes_a_waiter,
        many_may_wait_at_once,
        a_dropped_waiter_delays_nobody,
        an_idle_log_is_waited_for_as_long_as_asked,
        a_trimmed_log_gives_resync,
        old_changes_leave_the_log,
        another_generation_gives_resync,
    }
    leadership::{
        the_lock_has_one_owner,
        a_released_lock_is_free_at_once,
        an_expired_lock_is_free_and_epochs_rise,
        a_renewed_lock_stays,
        a_generation_begins_without_a_leader,
        pauses_without_a_leader_are_recorded,
        at_most_64_pauses_are_kept,
        leases_are_renewed_for_the_current_session_only,
        a_lost_executor_has_no_lease,
        a_record_without_a_grant_keeps_the_lease,
        announced_schedulers_expire,
    }
    reading::{
        records_and_specs_are_read_as_written,
        the_queue_is_ordered_by_priority_then_submission,
        a_job_put_back_keeps_its_place,
        pages_walk_everything_exactly_once,
        a_page_goes_on_where_its_last_job_has_left,
        a_cursor_of_another_make_is_refused,
        a_deletion_removes_record_spec_and_indexes,
        clusters_on_one_server_do_not_see_each_other,
    }
    failures::{
        a_full_store_refuses_submits_and_lets_running_jobs_end,
        a_submit_with_a_lost_reply_is_unknown_and_applies_once,
        an_update_with_a_lost_reply_is_unknown_and_applies_once,
        a_killed_server_loses_no_acknowledged_write,
        a_waiter_survives_a_restart,
    }
}

#[tokio::test(start_paused = true)]
async fn the_model_agrees_with_itself_after_random_histories() {
    for run in 0..40 {
        let seed = seed().wrapping_add(run);
        contract::histories::records_and_indexes_agree_after_a_random_history(&ModelSubject::new(), seed)
            .await;
    }
}

#[tokio::test]
async fn redis_answers_random_histories_as_the_model_does() {
    let server = RedisSubject::start().await;
    for run in 0..6 {
        let redis = server.open_cluster(&format!("history-{run}")).await;
        let model = ModelSubject::new().open().await;
        contract::histories::two_stores_answer_alike(&model, &redis, seed().wrapping_add(run), 60).await;
    }
}

#[tokio::test]
async fn the_embedded_store_answers_random_histories_as_the_model_does() {
    for run in 0..20 {
        let embedded = EmbeddedSubject::default().open().await;
        let model = ModelSubject::new().open().await;
        contract::histories::two_stores_answer_alike(&model, &embedded, seed().wrapping_add(run), 60).await;
    }
}

#[tokio::test]
async fn redis_that_is_not_there_is_unavailable() {
    let error = RedisSubject::connect_nowhere().await.expect_err("nothing listens there");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_dead_redis_is_unavailable_to_writers_without_waiting() {
    let server = RedisSubject::start().await;
    let store = server.open_with_timeout(Duration::from_secs(2)).await;
    server.kill().await;
    let refusals = async {
        // What is under way when the connection breaks is unknown; what comes later was never sent.
        let mut refused = 0;
        while refused < 20 {
            match store.commit(contract::a_submit("j1")).await {
                Err(StoreError::Unavailable { .. }) => refused += 1,
                Err(StoreError::Unknown { .. }) => refused = 0,
                other => panic!("a commit to a dead server: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refusals).await.expect("refused without waiting");
}

#[tokio::test]
async fn time_goes_on_where_the_clock_of_redis_was_set_back() {
    let server = RedisSubject::start().await;
    let store = server.open().await;
    let before = store.meta().await.expect("the counters").time_ms;
    // As if the clock had been an hour ahead until now.
    let ahead = before + 3_600_000;
    let meta_key = format!("{{{}}}:meta", berth_store::redis::RedisConfig::default().cluster);
    let ahead_ms = ahead.to_string();
    server.raw(&["HSET", &meta_key, "told_ms", &ahead_ms, "clock_ms", &ahead_ms]).await;
    let request = |owner: &str| berth_store::LockRequest {
        owner: owner.to_owned(),
        scheduler_id: owner.to_owned(),
        ttl: Duration::from_millis(30),
    };
    let lock = store.acquire_lock(&request("a")).await.expect("the lock").expect("it is free");
    assert!(lock.expiry_ms >= ahead, "{} is before {ahead}", lock.expiry_ms);
    let next = async {
        loop {
            if let Some(lock) = store.acquire_lock(&request("b")).await.expect("the lock") {
                return lock;
            }
        }
    };
    let next = tokio::time::timeout(Duration::from_secs(20), next).await.expect("it expires as ever");
    assert!(next.epoch > lock.epoch);
    assert!(store.meta().await.expect("the counters").time_ms >= ahead, "time does not go back");
}

#[tokio::test]
async fn no_generation_is_older_than_one_that_was_seen() {
    let server = RedisSubject::start().await;
    let store = server.open().await;
    let seen = store.meta().await.expect("the counters").position.generation;
    // As a copy would have it that was made before this generation began.
    let meta_key = format!("{{{}}}:meta", berth_store::redis::RedisConfig::default().cluster);
    server.raw(&["HSET", &meta_key, "generation", &(seen - 3_600_000).to_string()]).await;
    let next = store.meta().await.expect("the counters").position.generation;
    assert!(next > seen, "{next} after {seen}");
    assert_eq!(store.meta().await.expect("the counters").position.generation, next, "it stays");
}

#[tokio::test]
async fn the_history_of_redis_goes_on_across_restarts() {
    let server = RedisSubject::start().await;
    let store = server.open_itself().await;
    store.commit(contract::a_submit("before")).await.expect("it is stored");
    server.restart().await;
    let store_after = server.open_itself().await;
    store_after.commit(contract::a_submit("after")).await.expect("it is stored");
    let beginning = Position { generation: 0, revision: 0 };
    let all = store_after.history(beginning).await.expect("the log");
    let revisions: Vec<u64> = all.iter().map(|(position, _)| position.revision).collect();
    assert_eq!(revisions, [1, 2], "{all:?}");
    let (first, second) = (all[0].0, all[1].0);
    assert!(first.generation < second.generation, "{all:?}");
    assert_eq!(store_after.history(first).await.expect("the log").len(), 1, "only what is newer");
    assert!(store_after.history(second).await.expect("the log").is_empty());
}

#[tokio::test]
async fn redis_tells_how_durable_it_is() {
    let server = RedisSubject::start().await;
    let description = server.open().await.describe();
    assert_eq!(description.kind, "redis");
    assert!(description.durability.contains("fsync always"), "{}", description.durability);
}

#[tokio::test]
async fn redis_sheds_submits_before_its_memory_runs_out() {
    let server = RedisSubject::start().await;
    let store = server.open().await;
    let info = server.raw(&["INFO", "memory"]).await;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<u64>().ok());
    let limit = used.expect("the memory in use") * 10 / 9;
    server.raw(&["CONFIG", "SET", "maxmemory", &limit.to_string()]).await;
    let refused = store.commit(contract::a_submit("j1")).await;
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    store.commit(Call::default()).await.expect("a call without submits");
}

#[tokio::test]
async fn redis_that_forgot_the_scripts_is_taught_them_again() {
    let server = RedisSubject::start().await;
    let store = server.open().await;
    store.commit(Call::default()).await.expect("a commit");
    server.raw(&["SCRIPT", "FLUSH"]).await;
    store.commit(Call::default()).await.expect("a commit after the scripts were forgotten");
}

#[tokio::test]
async fn redis_that_was_emptied_begins_again() {
    let server = RedisSubject::start().await;
    let store = server.open().await;
    let before = store.head().await.expect("a head");
    server.raw(&["FLUSHALL"]).await;
    let after = store.head().await.expect("a head of an emptied server");
    assert!(after.generation >= before.generation && after.revision == 0);
    store.commit(Call::default()).await.expect("a commit");
}

#[tokio::test]
async fn a_frozen_redis_is_unknown_to_writers_after_the_timeout() {
    let server = RedisSubject::start().await;
    let store = server.open_with_timeout(Duration::from_millis(100)).await;
    server.freeze();
    let result = store.commit(Call::default()).await;
    let read = store.head().await;
    server.thaw();
    assert!(matches!(result, Err(StoreError::Unknown { .. })), "{result:?}");
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
}

/// Keeps the trait usable as an object from many tasks.
#[tokio::test(start_paused = true)]
async fn a_store_is_shared_between_tasks() {
    let store: Arc<dyn Store> = ModelSubject::new().open().await;
    let other = Arc::clone(&store);
    let head = tokio::spawn(async move { other.head().await }).await.expect("a task").expect("a head");
    assert_eq!(head, store.head().await.expect("a head"));
}
