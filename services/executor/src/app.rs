//! Puts an executor together and runs it. The daemon, `berth dev`, tests and the simulation all
//! come through here, each with its own surroundings.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use berth_domain::backoff::Backoff;
use berth_domain::ids::AttemptRef;
use berth_domain::resources::Capacity;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::config::{ConfigError, ExecutorConfig};
use crate::connect::Connect;
use crate::disk::Disk;
use crate::host::{Host, capacity};
use crate::identity::{self, Identity};
use crate::logs::{Capture, LogStore};
use crate::outbox::{Found, Outbox, Stored};
use crate::random::Random;
use crate::readiness;
use crate::reconciler::{Lease, Parts, Reconciler, Snapshot, StepsParts};
use crate::runtime::{ContainerName, EngineError, EngineState, Listed, Owner, Runtime};
use crate::session::{Ready, Session, SessionParts};

/// Commands waiting for the reconciler.
const COMMANDS: usize = 256;
/// Signs of progress waiting for the session.
const PROGRESS: usize = 256;
/// How long jobs that may start only once run on after a start of the executor without a lease.
const FIRST_LEASE: Duration = Duration::from_secs(5);
/// An engine that takes longer to list containers at the start is worth a word.
const ENGINE_SLOW: Duration = Duration::from_secs(3);
/// Waits while the container engine does not answer at the start.
const ENGINE_RETRY: Backoff = Backoff { first_ms: 200, most_ms: 5_000 };

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
    let adopting = stop.run_until_cancelled(adopt(&deps, &opened.owner));
    let Some(adopted) = adopting.await else { return Ok(()) };
    // The reconciler outlives the session, which still announces the stop.
    let reconciler_stop = CancellationToken::new();
    let (reconciler, session, readiness) = assemble(deps, config, opened, adopted, reconciler_stop.clone());
    let _readiness = AbortOnDropHandle::new(tokio::spawn(readiness));
    // Tasks of their own: however long the one is busy, the other still answers.
    let reconciler = AbortOnDropHandle::new(tokio::spawn(reconciler.run()));
    let session = AbortOnDropHandle::new(tokio::spawn(session.run(stop)));
    session.await.map_err(ExecutorError::Broken)?;
    reconciler_stop.cancel();
    reconciler.await.map_err(ExecutorError::Broken)?;
    tracing::info!("executor stopped; its containers run on");
    Ok(())
}

/// What the folder says, and what follows from it.
struct Opened {
    identity: Identity,
    owner: Owner,
    capacity: Capacity,
    outbox: Outbox,
    stored: Vec<Stored>,
    started: Vec<AttemptRef>,
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
    let Found { stored, started } = outbox.load().await.map_err(ExecutorError::Disk)?;
    tracing::info!(
        executor_id = %identity.executor_id,
        node_id = %identity.node_id,
        cpu_millis = capacity.cpu_millis,
        memory_bytes = capacity.memory_bytes,
        gpus = capacity.gpus.len(),
        ended = stored.len(),
        "executor starts"
    );
    let owner = Owner { cluster: config.cluster.clone(), executor: identity.executor_id.to_string() };
    Ok(Opened { identity, owner, capacity, outbox, stored, started })
}

fn assemble(
    deps: Deps,
    config: ExecutorConfig,
    opened: Opened,
    adopted: Vec<Listed>,
    reconciler_stop: CancellationToken,
) -> (Reconciler, Session, impl Future<Output = ()> + Send + 'static) {
    let logs = LogStore::new(deps.disk, config.logs);
    let (commands_in, commands) = mpsc::channel(COMMANDS);
    let (progress, progress_out) = mpsc::channel(PROGRESS);
    let (snapshot, snapshot_out) = watch::channel(Snapshot::default());
    let (not_ready_in, not_ready) = watch::channel(None);
    let readiness = readiness::watch(deps.runtime.clone(), not_ready_in);
    let (lease_in, lease) = watch::channel(Lease { until: Instant::now() + FIRST_LEASE });
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
        adopted,
        stored: opened.stored,
        started: opened.started,
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
        ready: deps.ready,
    });
    (Reconciler::new(parts, reconciler_stop), session, readiness)
}

/// Lists the containers that are there already. One that was made before the machine's current
/// boot and never started is removed: it will be made again if it is still wanted.
async fn adopt(deps: &Deps, owner: &Owner) -> Vec<Listed> {
    let (mut failures, mut last) = (0, None);
    loop {
        match list(deps, owner).await {
            Ok(listed) => {
                let mut adopted = Vec::new();
                for container in listed {
                    let untouched = container.state == EngineState::Created;
                    let name = ContainerName::new(owner, &container.attempt);
                    if untouched
                        && container.boot_id != deps.host.boot_id
                        && deps.runtime.remove(&name).await.is_ok()
                    {
                        continue;
                    }
                    adopted.push(container);
                }
                if !adopted.is_empty() {
                    tracing::info!(count = adopted.len(), "containers adopted");
                }
                return adopted;
            }
            Err(error) => {
                // What lasts is told once; that the engine is out of reach, by the runtime itself.
                if last.as_ref() != Some(&error) && !matches!(error, EngineError::Unreachable(_)) {
                    tracing::warn!(reason = %error, "the containers cannot be listed: waiting for the container engine");
                }
                last = Some(error);
                let wait_ms = ENGINE_RETRY.wait_ms(failures, deps.random.next_u32());
                failures += 1;
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
        }
    }
}

/// Lists the containers; an engine that takes long over it is told of while it is waited for.
async fn list(deps: &Deps, owner: &Owner) -> Result<Vec<Listed>, EngineError> {
    let mut listing = pin!(deps.runtime.list(owner));
    match tokio::time::timeout(ENGINE_SLOW, &mut listing).await {
        Ok(listed) => listed,
        Err(_) => {
            tracing::warn!(
                waited_s = ENGINE_SLOW.as_secs(),
                "the container engine does not answer: it is waited for. Check: docker info"
            );
            listing.await
        }
    }
}
