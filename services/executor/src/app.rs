//! Puts an executor together and runs it. The daemon, `berth dev`, tests and the simulation all
//! come through here, each with its own surroundings.

use std::io;
use std::sync::Arc;

use berth_domain::resources::Capacity;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::config::{ConfigError, ExecutorConfig};
use crate::connect::Connect;
use crate::disk::Disk;
use crate::host::{Host, capacity};
use crate::identity::{self, Identity};
use crate::lease::{Lease, LeaseFile};
use crate::logs::{Capture, LogStore};
use crate::outbox::{Found, Outbox};
use crate::random::Random;
use crate::readiness;
use crate::reconciler::{Parts, Reconciler, Snapshot, StepsParts};
use crate::runtime::{Owner, Runtime, Upkeep};
use crate::session::{Ready, Session, SessionParts};

/// Commands waiting for the reconciler.
const COMMANDS: usize = 256;
/// Signs of progress waiting for the session.
const PROGRESS: usize = 256;

/// The surroundings of an executor.
pub struct Deps {
    /// The container engine.
    pub runtime: Arc<dyn Runtime>,
    /// Opens channels to schedulers.
    pub connector: Arc<dyn Connect>,
    /// The executor's folder.
    pub disk: Arc<dyn Disk>,
    /// What the machine has.
    pub host: Host,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Told when the executor is registered and its session answers; `None` while it is not.
    pub ready: watch::Sender<Option<Ready>>,
}

/// Says why an executor cannot run.
#[derive(Debug, Error)]
pub enum ExecutorError {
    /// A setting is wrong.
    #[error("the configuration is not valid")]
    Config(#[from] ConfigError),
    /// The folder cannot be used, or another executor uses it.
    #[error("the data folder cannot be used")]
    Disk(#[source] io::Error),
    /// A part of it ended abnormally; the next run adopts what is there.
    #[error("a part of the executor ended abnormally")]
    Broken(#[source] tokio::task::JoinError),
}

/// Runs an executor until it is told to stop. Containers run on after that, and the next run
/// adopts them.
///
/// # Errors
/// Fails at the start, when a setting is wrong or the folder cannot be used, and when a part of it
/// breaks. A scheduler or an engine that is not there is waited for.
pub async fn run(deps: Deps, config: ExecutorConfig, stop: CancellationToken) -> Result<(), ExecutorError> {
    config.validate()?;
    let opened = open(&deps, &config).await?;
    let asking = stop.run_until_cancelled(readiness::ask(deps.runtime.as_ref()));
    let Some(problem) = asking.await else { return Ok(()) };
    // The reconciler outlives the session, which still announces the stop.
    let reconciler_stop = CancellationToken::new();
    let upkeep_stop = CancellationToken::new();
    let upkeep = deps.runtime.upkeep(Upkeep {
        owner: opened.owner.clone(),
        network_slots: config.network_slots(deps.host.cores),
        stop: upkeep_stop.clone(),
    });
    let lease = watch::channel(opened.lease);
    let upkeep = upkeep.map(|upkeep| {
        let upkeep = once_entitled(lease.1.clone(), upkeep, upkeep_stop.clone());
        AbortOnDropHandle::new(tokio::spawn(upkeep))
    });
    let (reconciler, session, readiness) =
        assemble(deps, config, opened, problem, lease, reconciler_stop.clone());
    let _readiness = AbortOnDropHandle::new(tokio::spawn(readiness));
    // Tasks of their own: however long the one is busy, the other still answers.
    let reconciler = AbortOnDropHandle::new(tokio::spawn(reconciler.run()));
    let session = AbortOnDropHandle::new(tokio::spawn(session.run(stop)));
    session.await.map_err(ExecutorError::Broken)?;
    reconciler_stop.cancel();
    reconciler.await.map_err(ExecutorError::Broken)?;
    upkeep_stop.cancel();
    if let Some(upkeep) = upkeep {
        upkeep.await.map_err(ExecutorError::Broken)?;
    }
    tracing::info!("executor stopped; its containers run on");
    Ok(())
}

/// Does the engine's upkeep as soon as the name is this executor's own.
async fn once_entitled(
    mut lease: watch::Receiver<Lease>,
    upkeep: impl Future<Output = ()>,
    stop: CancellationToken,
) {
    let entitled = async { lease.wait_for(|lease| lease.entitled).await.is_ok() };
    if stop.run_until_cancelled(entitled).await == Some(true) {
        upkeep.await;
    }
}

/// What the folder says, and what follows from it.
struct Opened {
    identity: Identity,
    owner: Owner,
    capacity: Capacity,
    outbox: Outbox,
    found: Found,
    lease_file: LeaseFile,
    lease: Lease,
}

async fn open(deps: &Deps, config: &ExecutorConfig) -> Result<Opened, ExecutorError> {
    let disk = deps.disk.as_ref();
    disk.lock().await.map_err(ExecutorError::Disk)?;
    let (configured, hostname) = (config.executor_id.as_ref(), &deps.host.hostname);
    let identity = identity::load(disk, configured, hostname, deps.random.as_ref())
        .await
        .map_err(ExecutorError::Disk)?;
    let capacity = capacity(&deps.host, &config.overrides, &identity.executor_id);
    let outbox = Outbox::new(deps.disk.clone());
    let found = outbox.load().await.map_err(ExecutorError::Disk)?;
    let owner = Owner { cluster: config.cluster.clone(), executor: identity.executor_id.to_string() };
    let lease_file = LeaseFile::new(deps.disk.clone(), deps.clock.clone(), owner.clone());
    let lease = lease_file.load().await.map_err(ExecutorError::Disk)?;
    tracing::info!(
        executor_id = %identity.executor_id,
        node_id = %identity.node_id,
        cpu_millis = capacity.cpu_millis,
        memory_bytes = capacity.memory_bytes,
        gpus = capacity.gpus.len(),
        ended = found.stored.len(),
        "executor starts"
    );
    Ok(Opened { identity, owner, capacity, outbox, found, lease_file, lease })
}

fn assemble(
    deps: Deps,
    config: ExecutorConfig,
    opened: Opened,
    engine_problem: Option<String>,
    (lease_in, lease): (watch::Sender<Lease>, watch::Receiver<Lease>),
    reconciler_stop: CancellationToken,
) -> (Reconciler, Session, impl Future<Output = ()> + Send + 'static) {
    let logs = LogStore::new(deps.disk, config.logs);
    let (commands_in, commands) = mpsc::channel(COMMANDS);
    let (progress, progress_out) = mpsc::channel(PROGRESS);
    let (snapshot, snapshot_out) = watch::channel(Snapshot::default());
    let (not_ready_in, not_ready) = watch::channel(engine_problem);
    let readiness = readiness::watch(deps.runtime.clone(), not_ready_in);
    let parallelism = config.parallelism(deps.host.cores);
    let capture = Capture {
        runtime: deps.runtime.clone(),
        store: logs.clone(),
        clock: deps.clock.clone(),
        random: deps.random.clone(),
        stuck: Arc::default(),
    };
    let steps = StepsParts {
        runtime: deps.runtime.clone(),
        outbox: opened.outbox,
        capture,
        clock: deps.clock,
        random: deps.random.clone(),
        progress,
        parallelism,
    };
    let parts = Parts {
        steps,
        owner: opened.owner,
        boot_id: deps.host.boot_id.clone(),
        gpus: opened.capacity.gpus.clone(),
        cleanup_after: config.cleanup_after,
        safety_interval: config.safety_interval,
        commands,
        snapshot,
        lease,
        found: opened.found,
    };
    let session = Session::new(SessionParts {
        identity: opened.identity,
        instance_id: identity::instance_id(deps.random.as_ref()),
        cluster: config.cluster,
        schedulers: config.schedulers,
        capacity: opened.capacity,
        labels: config.labels,
        boot_id: deps.host.boot_id,
        connector: deps.connector,
        runtime: deps.runtime,
        logs,
        random: deps.random,
        commands: commands_in,
        snapshot: snapshot_out,
        not_ready,
        progress: progress_out,
        lease: lease_in,
        lease_file: opened.lease_file,
        ready: deps.ready,
    });
    (Reconciler::new(parts, reconciler_stop), session, readiness)
}
