//! Records survive being stored, and what cannot be read is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_domain::constraint::Constraint;
use berth_domain::executor::{Drain, Executor, ExecutorState};
use berth_domain::ids::{ExecutorId, JobId, Namespace, SchedulerId, SessionId};
use berth_domain::job::{EndReason, JOB_STATES, Job};
use berth_domain::resources::{Capacity, Demand, GpuDevice, Reserved};
use berth_domain::spec::{Clocks, JobSpec, Network, OnLost, PullPolicy, Reuse};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{Change, StoreError};

fn id() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}"
}

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(any::<String>(), any::<String>(), 0..3)
}

fn demand() -> impl Strategy<Value = Demand> {
    let constraints = prop::sample::subsequence(vec!["!spot", "zone in (a, b)", "zone!=c"], 0..3);
    (any::<u64>(), any::<u64>(), any::<u32>(), vec(any::<String>(), 0..3), constraints).prop_map(
        |(cpu_millis, memory_bytes, gpu_count, gpu_models, constraints)| Demand {
            cpu_millis,
            memory_bytes,
            gpu_count,
            gpu_models,
            constraints: constraints.iter().map(|text| Constraint::parse(text).expect("is valid")).collect(),
        },
    )
}

fn on_lost() -> impl Strategy<Value = OnLost> {
    prop_oneof![Just(OnLost::Retry), Just(OnLost::Fail), Just(OnLost::Hold)]
}

fn end_reason() -> impl Strategy<Value = EndReason> {
    prop::sample::select(vec![
        EndReason::ExitCode,
        EndReason::OomKilled,
        EndReason::ImageNotFound,
        EndReason::ImagePullFailed,
        EndReason::QueueTimeout,
        EndReason::RunTimeout,
        EndReason::AbortedByUser,
        EndReason::ExecutorLost,
        EndReason::ExecutorFault,
        EndReason::RefusedByPolicy,
    ])
}

fn time() -> impl Strategy<Value = Option<u64>> {
    option::of(any::<u64>())
}

fn clocks() -> impl Strategy<Value = Clocks> {
    (time(), time(), time(), any::<u64>(), any::<u64>()).prop_map(
        |(queue_timeout_ms, requeue_timeout_ms, run_timeout_ms, stop_grace_ms, pull_timeout_ms)| Clocks {
            queue_timeout_ms,
            requeue_timeout_ms,
            run_timeout_ms,
            stop_grace_ms,
            pull_timeout_ms,
        },
    )
}

prop_compose! {
    fn spec()(
        texts in (any::<String>(), vec(any::<String>(), 0..4), any::<String>()),
        maps in (texts(), texts()),
        demand in demand(),
        clocks in clocks(),
        numbers in (any::<u8>(), any::<u32>()),
        on_lost in on_lost(),
        network in prop_oneof![Just(Network::Bridge), Just(Network::None)],
        pull_policy in prop_oneof![Just(PullPolicy::Missing), Just(PullPolicy::Never)],
        namespace in id(),
        reuse in prop_oneof![Just(Reuse::None), Just(Reuse::Warm)],
    ) -> JobSpec {
        JobSpec {
            image: texts.0,
            command: texts.1,
            working_dir: texts.2,
            env: maps.0,
            labels: maps.1,
            demand,
            clocks,
            priority: numbers.0,
            max_retries: numbers.1,
            on_lost,
            network,
            pull_policy,
            namespace: Namespace::trusted(namespace),
            reuse,
        }
    }
}

prop_compose! {
    fn job()(
        spec in spec(),
        texts in (id(), any::<String>(), any::<String>(), vec(any::<String>(), 0..4)),
        state in prop::sample::select(JOB_STATES.to_vec()),
        ids in (option::of(id()), option::of(id()), option::of(id())),
        times in (any::<u64>(), any::<u64>(), time(), time(), time(), time()),
        counts in (any::<u32>(), any::<u64>(), any::<u32>(), any::<u32>()),
        end in (option::of(any::<i32>()), option::of(end_reason())),
        flags in (any::<bool>(), any::<bool>(), any::<bool>()),
        revision in any::<u64>(),
    ) -> Job {
        Job {
            state,
            attempt: counts.0,
            attempt_epoch: counts.1,
            own_retries: counts.2,
            infrastructure_retries: counts.3,
            retry_of: ids.0.map(JobId::trusted),
            executor: ids.1.map(ExecutorId::trusted),
            avoid_executor: ids.2.map(ExecutorId::trusted),
            message: texts.2,
            gpu_device_ids: texts.3,
            ready_time_ms: times.1,
            due_time_ms: times.2,
            start_time_ms: times.3,
            end_time_ms: times.4,
            abort_grace_ms: times.5,
            exit_code: end.0,
            end_reason: end.1,
            abort_requested: flags.0,
            stop_unconfirmed: flags.1,
            requeue_requested: flags.2,
            revision,
            ..Job::new(JobId::trusted(texts.0), texts.1, &spec, times.0)
        }
    }
}

prop_compose! {
    fn executor()(
        ids in (id(), option::of(id()), id()),
        texts in (any::<String>(), any::<String>(), any::<String>(), any::<String>(), any::<String>()),
        state in prop_oneof![Just(ExecutorState::Active), Just(ExecutorState::Lost)],
        drain in option::of(option::of(any::<u64>())),
        absent in (any::<bool>(), option::of(any::<u64>())),
        capacity in (any::<u64>(), any::<u64>(), vec((any::<String>(), any::<String>(), any::<bool>()), 0..4)),
        labels in texts(),
        numbers in (any::<u32>(), any::<u64>(), any::<u64>()),
        condition in (option::of(any::<String>()), any::<bool>(), any::<String>()),
    ) -> Executor {
        let gpus = capacity.2.into_iter().map(|(id, model, emulated)| GpuDevice { id, model, emulated }).collect();
        Executor {
            id: ExecutorId::trusted(ids.0),
            session: ids.1.map(SessionId::trusted),
            scheduler: SchedulerId::trusted(ids.2),
            node_id: texts.0,
            boot_id: texts.1,
            version: texts.2,
            peer_address: texts.3,
            scheduler_address: texts.4,
            state,
            not_ready: condition.0,
            drain: drain.map(|deadline_ms| Drain { deadline_ms }),
            restarting: absent.0,
            seen_ms: absent.1,
            fenced: condition.1,
            instance_id: condition.2,
            capacity: Capacity { cpu_millis: capacity.0, memory_bytes: capacity.1, gpus },
            reserved: Reserved::default(),
            labels,
            protocol_version: numbers.0,
            register_time_ms: numbers.1,
            lease_expiry_ms: 0,
            revision: numbers.2,
        }
    }
}

/// As many cases as `PROPTEST_CASES` says, or as many as are given.
fn cases(usual: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() {
        config
    } else {
        ProptestConfig { cases: usual, ..config }
    }
}

/// A record with some bytes changed, doubled or left out.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let record = prop_oneof![
        job().prop_map(|job| encode_job(&job)),
        spec().prop_map(|spec| encode_spec(&spec)),
        executor().prop_map(|executor| encode_executor(&executor)),
        job().prop_map(|job| encode_change(&Change::Job(Arc::new(job)))),
    ];
    (record, vec((any::<u16>(), 0..3_u8, any::<u8>()), 0..6)).prop_map(|(mut record, edits)| {
        for (at, act, byte) in edits {
            let at = usize::from(at) % (record.len() + 1);
            match act {
                0 if at < record.len() => record[at] = byte,
                1 => record.truncate(at),
                _ => record.insert(at, byte),
            }
        }
        record
    })
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn damaged_records_are_read_or_refused(bytes in damaged()) {
        if let Ok(job) = decode_job(&bytes, 1) {
            prop_assert_eq!(decode_job(&encode_job(&job), 1).unwrap(), job);
        }
        if let Ok(spec) = decode_spec(&bytes) {
            prop_assert_eq!(decode_spec(&encode_spec(&spec)).unwrap(), spec);
        }
        if let Ok(executor) = decode_executor(&bytes, 1) {
            prop_assert_eq!(decode_executor(&encode_executor(&executor), 1).unwrap(), executor);
        }
        let _ = decode_log_entry(&bytes, 1);
        let _ = decode_scheduler(&bytes, 1);
    }
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn a_job_survives_being_stored(job in job()) {
        prop_assert_eq!(decode_job(&encode_job(&job), job.revision).unwrap(), job);
    }

    #[test]
    fn a_spec_survives_being_stored(spec in spec()) {
        prop_assert_eq!(decode_spec(&encode_spec(&spec)).unwrap(), spec);
    }

    #[test]
    fn an_executor_survives_being_stored(executor in executor()) {
        prop_assert_eq!(decode_executor(&encode_executor(&executor), executor.revision).unwrap(), executor);
    }

    #[test]
    fn joined_changes_are_one_valid_log_entry(
        mut job in job(), mut executor in executor(), first in 1_u64..1 << 53, epoch in any::<u64>(),
    ) {
        job.revision = first;
        executor.revision = first + 1;
        let changes = [
            Change::Job(Arc::new(job)),
            Change::Executor(Box::new(executor)),
            Change::JobDeleted(JobId::trusted("gone")),
            Change::Leader { epoch, scheduler_id: "s-1".to_owned() },
        ];
        let bytes: Vec<u8> = changes.iter().flat_map(encode_change).collect();
        let read = decode_log_entry(&bytes, first).unwrap();
        let expected: Vec<_> = (first..).zip(changes).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn decoding_never_panics(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode_job(&bytes, 1);
        let _ = decode_spec(&bytes);
        let _ = decode_executor(&bytes, 1);
        let _ = decode_log_entry(&bytes, 1);
    }
}

#[test]
fn an_unknown_state_is_corrupt_not_guessed() {
    let mut record =
        pb::Job { demand: Some(pb::Demand::default()), on_lost: 1, state: 99, ..pb::Job::default() };
    let read = decode_job(&record.encode_to_vec(), 1);
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
    record.state = 0;
    let read = decode_job(&record.encode_to_vec(), 1);
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
}
