//! Builders and helpers of the suite: records with defaults, and the transitions of a job as its
//! lifecycle would make them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_domain::constraint::Constraint;
use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId, Namespace, SchedulerId, SessionId};
use berth_domain::job::{EndReason, Job, JobIndex, JobState};
use berth_domain::resources::{Capacity, Demand, GpuDevice, Reserved};
use berth_domain::spec::{Clocks, JobSpec, Network, OnLost, PullPolicy, Reuse};
use tokio::time::Instant;

use crate::{Call, Committed, Cursor, IdempotencyKey, Mutation, Scope, Store, StoreError, Verdict};

pub(super) const GIB: u64 = 1 << 30;
/// A time of records; the suite never compares it with a clock.
pub(super) const NOW_MS: u64 = 1_700_000_000_000;
/// Longer than anything takes that works.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn job_id(id: &str) -> JobId {
    JobId::trusted(id)
}

pub(super) fn executor_id(id: &str) -> ExecutorId {
    ExecutorId::trusted(id)
}

pub(super) fn session_id(id: &str) -> SessionId {
    SessionId::trusted(id)
}

pub(super) fn spec() -> JobSpec {
    JobSpec {
        image: "busybox".to_owned(),
        command: vec!["true".to_owned()],
        env: BTreeMap::from([("KEY".to_owned(), "value".to_owned())]),
        working_dir: String::new(),
        demand: Demand {
            cpu_millis: 1_000,
            memory_bytes: GIB,
            gpu_count: 0,
            gpu_models: Vec::new(),
            constraints: vec![Constraint::parse("zone in (a, b)").expect("is valid")],
        },
        priority: 50,
        clocks: Clocks { stop_grace_ms: 10_000, pull_timeout_ms: 120_000, ..Clocks::default() },
        max_retries: 0,
        labels: BTreeMap::new(),
        on_lost: OnLost::Retry,
        network: Network::Bridge,
        pull_policy: PullPolicy::Missing,
        reuse: Reuse::None,
        namespace: Namespace::trusted("default"),
    }
}

pub(super) fn job(id: &str) -> Job {
    Job::new(job_id(id), format!("name of {id}"), &spec(), NOW_MS)
}

pub(super) fn submit(job: Job) -> Mutation {
    Mutation::Submit { job: Arc::new(job), spec: Arc::new(spec()), idempotency: None }
}

pub(super) fn submit_with_key(job: Job, key: &str, hash: &str) -> Mutation {
    let ttl = Duration::from_secs(3_600);
    let key = IdempotencyKey { key: key.to_owned(), request_hash: hash.to_owned(), ttl };
    Mutation::Submit { job: Arc::new(job), spec: Arc::new(spec()), idempotency: Some(key) }
}

pub(super) fn update(job: Job) -> Mutation {
    Mutation::Update { job: Arc::new(job), session: None, attempt: None }
}

pub(super) fn delete(job: &Job) -> Mutation {
    Mutation::Delete { job_id: job.id.clone(), revision: job.revision }
}

pub(super) fn assigned(job: &Job, executor: &str, epoch: u64) -> Job {
    let mut next = job.clone();
    next.state = JobState::Assigned;
    next.attempt += 1;
    next.attempt_epoch = epoch;
    next.executor = Some(executor_id(executor));
    next.due_time_ms = None;
    next
}

pub(super) fn running(job: &Job) -> Job {
    Job { state: JobState::Running, start_time_ms: Some(NOW_MS + 5), ..job.clone() }
}

pub(super) fn put_back(job: &Job) -> Job {
    Job { state: JobState::Pending, executor: None, gpu_device_ids: Vec::new(), ..job.clone() }
}

pub(super) fn delayed(job: &Job, due_ms: u64) -> Job {
    Job { due_time_ms: Some(due_ms), ..put_back(job) }
}

pub(super) fn ended(job: &Job, end_ms: u64) -> Job {
    Job {
        state: JobState::Succeeded,
        end_time_ms: Some(end_ms),
        exit_code: Some(0),
        end_reason: Some(EndReason::ExitCode),
        ..job.clone()
    }
}

/// An executor of 4 cores, 4 GiB and the given devices, with the session `session-1`.
pub(super) fn executor(id: &str, gpus: &[&str]) -> Executor {
    let device = |id: &&str| GpuDevice { id: (*id).to_owned(), model: "a100".to_owned(), emulated: true };
    let gpus = gpus.iter().map(device).collect();
    let capacity = Capacity { cpu_millis: 4_000, memory_bytes: 4 * GIB, gpus };
    let scheduler = SchedulerId::trusted("scheduler-1");
    Executor {
        node_id: format!("node of {id}"),
        boot_id: "boot-1".to_owned(),
        instance_id: "instance-1".to_owned(),
        session: Some(session_id("session-1")),
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        version: "0.1.0".to_owned(),
        peer_address: "10.0.0.1:1".to_owned(),
        scheduler_address: "10.0.0.2:2".to_owned(),
        ..Executor::new(executor_id(id), scheduler, capacity, NOW_MS)
    }
}

pub(super) fn put(executor: Executor) -> Mutation {
    Mutation::PutExecutor { executor: Box::new(executor), lease: Some(Duration::from_secs(15)) }
}

pub(super) async fn commit(store: &Arc<dyn Store>, mutations: Vec<Mutation>) -> Committed {
    store.commit(Call { mutations, ..Call::default() }).await.expect("a commit")
}

pub(super) async fn verdict(store: &Arc<dyn Store>, mutation: Mutation) -> Verdict {
    let mut verdicts = commit(store, vec![mutation]).await.verdicts;
    assert_eq!(verdicts.len(), 1, "one verdict a mutation");
    verdicts.remove(0)
}

/// Commits one job mutation that must apply, and gives the record as it is stored then.
pub(super) async fn apply(store: &Arc<dyn Store>, mutation: Mutation) -> Job {
    let id = match &mutation {
        Mutation::Submit { job, .. } | Mutation::Update { job, .. } => job.id.clone(),
        Mutation::Delete { .. } | Mutation::PutExecutor { .. } => panic!("not a job's record"),
    };
    let revision = match verdict(store, mutation).await {
        Verdict::Applied(revision) => revision,
        other @ (Verdict::Existing(_) | Verdict::Conflict(_)) => panic!("{id}: {other:?}"),
    };
    let stored = read(store, id.as_str()).await.expect("the record that was just written");
    assert_eq!(stored.revision, revision);
    stored
}

/// Commits an executor's record that must apply, and gives it as it is stored then.
pub(super) async fn register(store: &Arc<dyn Store>, executor: Executor) -> Executor {
    let id = executor.id.clone();
    let verdict = verdict(store, put(executor)).await;
    assert!(matches!(verdict, Verdict::Applied(_)), "{verdict:?}");
    read_executor(store, id.as_str()).await
}

pub(super) async fn read(store: &Arc<dyn Store>, id: &str) -> Option<Job> {
    store.jobs(&[job_id(id)]).await.expect("a read").remove(0)
}

pub(super) async fn read_executor(store: &Arc<dyn Store>, id: &str) -> Executor {
    let all = store.executors().await.expect("a read");
    assert_eq!(store.executor(&executor_id("nobody")).await.expect("a read"), None);
    for known in &all {
        assert_eq!(store.executor(&known.id).await.expect("a read").as_ref(), Some(known));
    }
    all.into_iter().find(|executor| executor.id.as_str() == id).expect("the executor")
}

/// Walks an index to its end in pages of the given size.
pub(super) async fn walk(store: &Arc<dyn Store>, scope: &Scope, limit: usize) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let page = store.page(scope, cursor.as_ref(), limit).await.expect("a page");
        assert!(page.jobs.len() <= limit, "a page of {} where {limit} were asked for", page.jobs.len());
        jobs.extend(page.jobs);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return jobs,
        }
    }
}

pub(super) async fn walk_ids(store: &Arc<dyn Store>, scope: &Scope, limit: usize) -> Vec<String> {
    walk(store, scope, limit).await.into_iter().map(|job| job.id.to_string()).collect()
}

/// Tries until the store can be reached again.
pub(super) async fn reachable<T>(mut attempt: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let result = eventually(async || match attempt().await {
        Err(StoreError::Unavailable { .. }) => None,
        other => Some(other),
    });
    result.await.expect("a call once the store can be reached")
}

/// Tries until there is a result.
pub(super) async fn eventually<T>(mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not happen within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Checks that indexes, counters and reservations agree with the records.
pub(super) async fn check_agreement(store: &Arc<dyn Store>) {
    let all = walk(store, &Scope::All, 7).await;
    let executors = store.executors().await.expect("a read");
    let mut indexed: BTreeMap<JobId, JobIndex> = BTreeMap::new();
    let mut scopes = vec![Scope::Pending, Scope::Delayed, Scope::Finished];
    scopes.extend(executors.iter().map(|executor| Scope::Assigned(executor.id.clone())));
    for scope in &scopes {
        for job in walk(store, scope, 5).await {
            let place = job.index();
            let is_right = match (&place, scope) {
                (JobIndex::Pending, Scope::Pending)
                | (JobIndex::Delayed(_), Scope::Delayed)
                | (JobIndex::Finished(_), Scope::Finished) => true,
                (JobIndex::Assigned(own), Scope::Assigned(scope)) => own == scope,
                _ => false,
            };
            assert!(is_right, "job {} stands in {scope:?}, its record says {place:?}", job.id);
            assert!(indexed.insert(job.id.clone(), place).is_none(), "job {} stands in two indexes", job.id);
        }
    }
    let mut counts: BTreeMap<JobState, u64> = BTreeMap::new();
    for job in &all {
        assert!(indexed.contains_key(&job.id), "job {} stands in no index", job.id);
        *counts.entry(job.state).or_default() += 1;
    }
    assert_eq!(indexed.len(), all.len(), "an index names a job that is not in the list of all");
    assert_eq!(store.meta().await.expect("meta").counts, counts);
    for executor in &executors {
        let mut reserved = Reserved::default();
        for job in walk(store, &Scope::Assigned(executor.id.clone()), 100).await {
            reserved.add(&job.demand, &job.gpu_device_ids);
        }
        assert_eq!(executor.reserved, reserved, "reservations of {}", executor.id);
    }
}
