//! Registration: checks who asks, stores the executor with a new session, and says which of its
//! attempts are no longer wanted.

use std::sync::Arc;
use std::time::Duration;

use berth_api::convert::{attempt_from_wire, attempt_to_wire, capacity_from_wire};
use berth_api::status::Problem;
use berth_api::v1::relay_service_client::RelayServiceClient;
use berth_api::{MAX_PROTOCOL_VERSION, MIN_PROTOCOL_VERSION, v1};
use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::{AttemptRef, ExecutorId, JobId, SessionId};
use berth_domain::job::Job;
use berth_domain::lifecycle::shorten_message;
use berth_domain::resources::GpuDevice;
use berth_store::{Call, Conflict, Mutation, StoreError, Verdict};

use super::recovery;
use super::registry::Registered;
use crate::app::Connect;
use crate::context::Context;
use crate::entropy::random_name;
use crate::feed::reached_within;
use crate::image::Image;

/// How long another replica may take to say whether it holds a session.
const CHECK_WAIT: Duration = Duration::from_secs(1);
/// How long the image may take to show a registration.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How often a registration that lost a race is decided again.
const TRIES: u32 = 5;
const MAX_LABELS: usize = 64;

/// Registers an executor.
///
/// # Errors
/// Refuses unknown protocol versions, other clusters, ids that are in use, and malformed messages.
pub async fn register(
    context: &Context,
    connect: &dyn Connect,
    request: v1::RegisterRequest,
    peer: String,
) -> Result<v1::RegisterResponse, Problem> {
    for _ in 0..TRIES {
        // Read first: all that the inventory is compared with is at least as new, and dated by the clock of this
        // generation: that of a later one may be behind.
        let generation = context.generation();
        let candidate = candidate(context, &request, peer.clone())?;
        check_devices(context, &candidate).await?;
        let known = context.store.executor(&candidate.id).await.map_err(|e| context.problem(&e))?;
        check_free(context, connect, known.as_ref(), &candidate).await?;
        let mut next = candidate.clone();
        if let Some(known) = known {
            check_buried(context, &known)?;
            next.revision = known.revision;
            if is_same_process(&known, &candidate) {
                // It has been there all along; what it was told before a new generation still counts.
                next.register_time_ms = known.register_time_ms;
            }
            // A drain outlives restarts and verdicts; a verdict does not outlive the executor's return.
            next.drain = known.drain;
        }
        next.session = Some(SessionId::trusted(random_name(context.entropy.as_ref())));
        let mutation =
            Mutation::PutExecutor { executor: Box::new(next.clone()), lease: Some(context.config.lease) };
        let call = Call { leader: None, generation: Some(generation), mutations: vec![mutation] };
        let committed = match context.commit(call).await {
            Err(StoreError::Generation { .. }) => continue,
            committed => committed.map_err(|e| context.problem(&e))?,
        };
        match committed.verdicts.first() {
            Some(Verdict::Applied(revision)) => {
                next.revision = *revision;
                tracing::info!(executor_id = %next.id, peer = %next.peer_address, "executor registered");
                // At once, before the leader gives it to somebody again.
                recovery::recover(context, &request, &next, generation).await?;
                // So that its session is known here when it opens, and whoever was stored before it is seen.
                let is_shown = reached_within(context, committed.position, CATCH_UP).await;
                check_devices_again(context, &next, generation, is_shown).await?;
                return respond(context, &request, next, generation).await;
            }
            Some(Verdict::Conflict(Conflict::Revision(_) | Conflict::Missing)) => {}
            Some(Verdict::Conflict(conflict)) => return Err(Problem::Internal(conflict.to_string())),
            Some(Verdict::Existing(_)) | None => {
                return Err(Problem::Internal("the store gave no verdict".to_owned()));
            }
        }
    }
    Err(Problem::Unavailable {
        reason: "EXECUTOR_CHANGING",
        message: format!("Executor {} is being changed by others; retry.", request.executor_id),
        retry_after: Duration::from_secs(1),
    })
}

fn candidate(context: &Context, request: &v1::RegisterRequest, peer: String) -> Result<Executor, Problem> {
    let id =
        ExecutorId::parse(&request.executor_id).map_err(|e| Problem::field("executor_id", e.to_string()))?;
    let protocol_version = u32::try_from(request.protocol_version).unwrap_or(0);
    if !(MIN_PROTOCOL_VERSION..=MAX_PROTOCOL_VERSION).contains(&protocol_version) {
        // Who is behind has to move.
        let behind = if protocol_version > MAX_PROTOCOL_VERSION {
            format!("the schedulers, then {id}")
        } else {
            id.to_string()
        };
        return Err(Problem::Precondition {
            reason: "PROTOCOL_VERSION",
            message: format!(
                "Executor {} speaks protocol {}; this cluster needs {MIN_PROTOCOL_VERSION}-{MAX_PROTOCOL_VERSION}. Upgrade {behind}.",
                request.version, request.protocol_version
            ),
        });
    }
    if !request.cluster_id.is_empty() && request.cluster_id != context.config.cluster {
        return Err(Problem::Precondition {
            reason: "OTHER_CLUSTER",
            message: format!(
                "Executor {id} belongs to cluster {:?}; this is cluster {:?}. Check --schedulers and --cluster.",
                request.cluster_id, context.config.cluster
            ),
        });
    }
    if request.labels.len() > MAX_LABELS {
        return Err(Problem::field("labels", format!("has more than {MAX_LABELS} entries")));
    }
    let capacity = capacity_from_wire(request.capacity.as_ref(), &request.gpus)?;
    let scheduler = context.config.scheduler_id.clone();
    Ok(Executor {
        node_id: request.node_id.clone(),
        boot_id: request.boot_id.clone(),
        instance_id: request.instance_id.clone(),
        not_ready: (!request.not_ready.is_empty()).then(|| shorten_message(&request.not_ready)),
        labels: request.labels.clone(),
        version: request.version.clone(),
        protocol_version,
        peer_address: peer,
        scheduler_address: context.config.advertise.clone(),
        ..Executor::new(id, scheduler, capacity, context.clock.now_ms())
    })
}

/// An id whose session is alive is taken, unless it is the same process that asks, which has lost its
/// way to the schedulers, or the same node after a restart: its data folder is locked, so the process
/// that held the session is gone, and the session's stream with it. A copy of the folder is told from a
/// restart by the stream that is still open.
async fn check_free(
    context: &Context,
    connect: &dyn Connect,
    known: Option<&Executor>,
    candidate: &Executor,
) -> Result<(), Problem> {
    let Some(known) = known else { return Ok(()) };
    let Some(session) = &known.session else { return Ok(()) };
    if known.lease_expiry_ms <= context.clock.now_ms() {
        return Ok(());
    }
    let same_node = !candidate.node_id.is_empty() && known.node_id == candidate.node_id;
    let rebooted = known.boot_id != candidate.boot_id;
    if is_same_process(known, candidate)
        || (same_node && (rebooted || !is_open(context, connect, known, session).await))
    {
        return Ok(());
    }
    let copy = if same_node { " Both run on the same data folder, or on a copy of it." } else { "" };
    Err(Problem::AlreadyExists {
        reason: "EXECUTOR_ID_IN_USE",
        message: format!(
            "EXECUTOR_ID \"{}\" is already connected from {}. Give each executor its own.{copy}",
            known.id,
            host_of(&known.peer_address)
        ),
    })
}

/// What a fenced executor had is put back before it may return: it would be taken for running otherwise.
fn check_buried(context: &Context, known: &Executor) -> Result<(), Problem> {
    let is_buried = |image: &Image| {
        // An image that does not show the fence yet may not show its jobs either.
        image.position.revision >= known.revision && image.assigned_to(&known.id).next().is_none()
    };
    if !known.fenced || context.with_image(is_buried) {
        return Ok(());
    }
    Err(Problem::Unavailable {
        reason: "EXECUTOR_FENCED",
        message: format!("Executor {} was fenced, and its jobs are being put back; retry.", known.id),
        retry_after: Duration::from_secs(1),
    })
}

fn is_same_process(known: &Executor, candidate: &Executor) -> bool {
    !candidate.instance_id.is_empty() && known.instance_id == candidate.instance_id
}

/// Says whether the replica that holds a session has its stream open. One that does not answer holds
/// nothing that could be kept.
async fn is_open(context: &Context, connect: &dyn Connect, executor: &Executor, session: &SessionId) -> bool {
    if context.sessions.is_open(&executor.id, session) {
        return true;
    }
    if executor.scheduler_address == context.config.advertise {
        return false;
    }
    let Ok(channel) = connect.channel(&executor.scheduler_address) else { return false };
    let request =
        v1::CheckSessionRequest { executor_id: executor.id.to_string(), session_id: session.to_string() };
    let mut relay = RelayServiceClient::new(channel);
    let asked = tokio::time::timeout(CHECK_WAIT, relay.check_session(request)).await;
    asked.is_ok_and(|answered| answered.is_ok_and(|answer| answer.into_inner().open))
}

/// A real device belongs to one executor; two that register the same would both count on it.
async fn check_devices(context: &Context, candidate: &Executor) -> Result<(), Problem> {
    for other in sharing(context, candidate).await? {
        if let Some(gpu) = shared(&other, candidate) {
            return Err(gpu_in_use(gpu, &other));
        }
    }
    Ok(())
}

fn gpu_in_use(gpu: &GpuDevice, other: &Executor) -> Problem {
    Problem::AlreadyExists {
        reason: "GPU_IN_USE",
        message: format!(
            "GPU {} is already registered by executor \"{}\". Give each executor GPUs of its own, \
             or EXECUTOR_GPUS=none.",
            gpu.id, other.id
        ),
    }
}

/// The living executors that have a real device of this one, by the image; their leases as the store has them.
async fn sharing(context: &Context, candidate: &Executor) -> Result<Vec<Executor>, Problem> {
    let is_other = |other: &&Arc<Executor>| {
        other.id != candidate.id && other.session.is_some() && shared(other, candidate).is_some()
    };
    let ids: Vec<ExecutorId> = context
        .with_image(|image| image.executors().filter(is_other).map(|other| other.id.clone()).collect());
    let mut found = Vec::new();
    for id in ids {
        found.extend(context.store.executor(&id).await.map_err(|e| context.problem(&e))?);
    }
    Ok(living(context, found))
}

/// Those whose lease runs.
fn living(context: &Context, mut executors: Vec<Executor>) -> Vec<Executor> {
    let now_ms = context.clock.now_ms();
    executors.retain(|other| other.session.is_some() && other.lease_expiry_ms > now_ms);
    executors
}

/// A real device that both have.
fn shared<'a>(one: &Executor, other: &'a Executor) -> Option<&'a GpuDevice> {
    let has = |gpu: &GpuDevice| one.capacity.gpus.iter().any(|its| !its.emulated && its.id == gpu.id);
    other.capacity.gpus.iter().find(|gpu| !gpu.emulated && has(gpu))
}

/// Two that register the same device at the same time do not see each other before they are stored. The
/// later one then gives way.
async fn check_devices_again(
    context: &Context,
    registered: &Executor,
    generation: u64,
    is_shown: bool,
) -> Result<(), Problem> {
    if registered.capacity.gpus.iter().all(|gpu| gpu.emulated) {
        return Ok(());
    }
    // Rather both give way than none: a record may have changed since.
    let earlier = |other: &&Executor| {
        let order = |executor: &Executor| (executor.register_time_ms, executor.id.clone());
        other.revision < registered.revision || order(other) < order(registered)
    };
    let sharing = if is_shown {
        sharing(context, registered).await?
    } else {
        let all = context.store.executors().await.map_err(|e| context.problem(&e))?;
        living(context, all.into_iter().filter(|other| other.id != registered.id).collect())
    };
    let Some((other, gpu)) =
        sharing.iter().filter(earlier).find_map(|other| Some((other, shared(other, registered)?)))
    else {
        return Ok(());
    };
    let problem = gpu_in_use(gpu, other);
    let withdrawn = Executor { state: ExecutorState::Lost, session: None, ..registered.clone() };
    let mutation = Mutation::PutExecutor { executor: Box::new(withdrawn), lease: None };
    let call = Call { leader: None, generation: Some(generation), mutations: vec![mutation] };
    context.commit(call).await.map_err(|e| context.problem(&e))?;
    Err(problem)
}

/// The machine of an address: the port of a client says nothing to anybody.
fn host_of(peer: &str) -> String {
    peer.parse::<std::net::SocketAddr>().map_or_else(|_| peer.to_owned(), |address| address.ip().to_string())
}

async fn respond(
    context: &Context,
    request: &v1::RegisterRequest,
    executor: Executor,
    generation: u64,
) -> Result<v1::RegisterResponse, Problem> {
    let running: Vec<AttemptRef> =
        request.running.iter().filter_map(|running| attempt_from_wire(running.r#ref.as_ref()).ok()).collect();
    let ids: Vec<JobId> = running.iter().map(|attempt| attempt.job.clone()).collect();
    let jobs = context.store.jobs(&ids).await.map_err(|e| context.problem(&e))?;
    let wanted = |attempt: &AttemptRef, job: &Option<Job>| {
        job.as_ref().is_some_and(|job| {
            job.executor.as_ref() == Some(&executor.id) && job.current_attempt().as_ref() == Some(attempt)
        })
    };
    let stop = running.iter().zip(&jobs).filter(|(attempt, job)| !wanted(attempt, job));
    let in_hand = request.running.iter().filter(|running| running.spec_known);
    let in_hand = in_hand.filter_map(|running| attempt_from_wire(running.r#ref.as_ref()).ok()).collect();
    if let Some(session) = &executor.session {
        context.sessions.note_registered(&executor.id, session, Registered { generation, in_hand });
    }
    let milliseconds = |duration: Duration| {
        berth_api::convert::duration(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    Ok(v1::RegisterResponse {
        session_id: executor.session.map(|session| session.to_string()).unwrap_or_default(),
        heartbeat_interval: Some(milliseconds(context.config.heartbeat_interval)),
        lease_duration: Some(milliseconds(context.config.lease)),
        stop: stop.map(|(attempt, _)| attempt_to_wire(attempt)).collect(),
        generation: berth_api::convert::signed(generation),
        cluster_id: context.config.cluster.clone(),
    })
}
