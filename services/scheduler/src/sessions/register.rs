//! Registration: checks who asks, stores the executor with a new session, and says which of its
//! attempts are no longer wanted.

use berth_api::convert::{attempt_from_wire, attempt_to_wire, capacity_from_wire};
use berth_api::status::Problem;
use berth_api::{MAX_PROTOCOL_VERSION, MIN_PROTOCOL_VERSION, v1};
use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::{AttemptRef, ExecutorId, JobId, SessionId};
use berth_domain::job::Job;
use berth_domain::resources::Reserved;
use berth_store::{Call, Conflict, Mutation, Verdict};

use crate::context::Context;
use crate::entropy::random_name;

/// How often a registration that lost a race is decided again.
const TRIES: u32 = 5;
const MAX_LABELS: usize = 64;

/// Registers an executor.
///
/// # Errors
/// Refuses unknown protocol versions, other clusters, ids that are in use, and malformed messages.
pub async fn register(
    context: &Context,
    request: v1::RegisterRequest,
    peer: String,
) -> Result<v1::RegisterResponse, Problem> {
    let candidate = candidate(context, &request, peer)?;
    for _ in 0..TRIES {
        let known = context.store.executors().await.map_err(|e| context.problem(&e))?;
        let known = known.into_iter().find(|executor| executor.id == candidate.id);
        check_free(context, known.as_ref(), &candidate)?;
        let mut next = candidate.clone();
        if let Some(known) = known {
            next.revision = known.revision;
            // A drain outlives a restart; a verdict does not outlive the executor's return.
            if known.state == ExecutorState::Draining {
                next.state = ExecutorState::Draining;
            }
        }
        next.session = Some(SessionId::trusted(random_name(context.entropy.as_ref())));
        let mutation =
            Mutation::PutExecutor { executor: Box::new(next.clone()), lease: Some(context.config.lease) };
        let call = Call { leader: None, generation: None, mutations: vec![mutation] };
        let committed = context.commit(call).await.map_err(|e| context.problem(&e))?;
        match committed.verdicts.first() {
            Some(Verdict::Applied(_)) => {
                tracing::info!(executor_id = %next.id, peer = %next.peer_address, "executor registered");
                return respond(context, &request, next).await;
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
        message: format!("Executor {} is being changed by others; retry.", candidate.id),
        retry_after: std::time::Duration::from_secs(1),
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
    Ok(Executor {
        id,
        node_id: request.node_id.clone(),
        boot_id: request.boot_id.clone(),
        session: None,
        state: ExecutorState::Active,
        capacity: capacity_from_wire(request.capacity.as_ref(), &request.gpus)?,
        reserved: Reserved::default(),
        labels: request.labels.clone(),
        version: request.version.clone(),
        protocol_version,
        peer_address: peer,
        scheduler: context.config.scheduler_id.clone(),
        scheduler_address: context.config.advertise.clone(),
        register_time_ms: context.clock.now_ms(),
        lease_expiry_ms: 0,
        revision: 0,
    })
}

/// An id whose session is alive is taken, unless the same node asks: its data folder is locked, so
/// the process that held the old session is gone.
fn check_free(context: &Context, known: Option<&Executor>, candidate: &Executor) -> Result<(), Problem> {
    let Some(known) = known else { return Ok(()) };
    let alive = known.session.is_some() && known.lease_expiry_ms > context.clock.now_ms();
    let same_node = !candidate.node_id.is_empty() && known.node_id == candidate.node_id;
    if alive && !same_node {
        return Err(Problem::AlreadyExists {
            reason: "EXECUTOR_ID_IN_USE",
            message: format!(
                "EXECUTOR_ID \"{}\" is already connected from {}. Give each executor its own.",
                known.id,
                host_of(&known.peer_address)
            ),
        });
    }
    Ok(())
}

/// The machine of an address: the port of a client says nothing to anybody.
fn host_of(peer: &str) -> String {
    peer.parse::<std::net::SocketAddr>().map_or_else(|_| peer.to_owned(), |address| address.ip().to_string())
}

async fn respond(
    context: &Context,
    request: &v1::RegisterRequest,
    executor: Executor,
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
    let milliseconds = |duration: std::time::Duration| {
        berth_api::convert::duration(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    Ok(v1::RegisterResponse {
        session_id: executor.session.map(|session| session.to_string()).unwrap_or_default(),
        heartbeat_interval: Some(milliseconds(context.config.heartbeat_interval)),
        lease_duration: Some(milliseconds(context.config.lease)),
        stop: stop.map(|(attempt, _)| attempt_to_wire(attempt)).collect(),
        generation: context.with_image(|image| berth_api::convert::signed(image.position.generation)),
        cluster_id: context.config.cluster.clone(),
    })
}
