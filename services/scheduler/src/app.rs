//! Wires a replica together: the one place where its parts meet.

use std::sync::Arc;
use std::time::Duration;

use berth_api::v1;
use berth_domain::ids::SchedulerId;
use berth_store::{SchedulerInfo, Store, StoreError};
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};

use crate::config::SchedulerConfig;
use crate::context::Context;
use crate::entropy::Entropy;
use crate::grpc::{Cluster, Executors, Jobs, Relay};
use crate::sessions::{Batched, LeaseBatcher, UpdateBatcher};
use crate::{feed, leader};

/// Any error, as tonic's server wants the errors of its listener.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How often a replica announces itself.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);
/// How long an announcement lasts.
const ANNOUNCE_TTL: Duration = Duration::from_secs(15);
/// Silence on a connection after which it is probed.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long a leader that stops waits until its lock is released.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How long connections may take to end at a shutdown.
const DRAIN: Duration = Duration::from_secs(3);

/// How other replicas are reached.
pub trait Connect: Send + Sync + 'static {
    /// Makes a channel to `host:port`; it connects when first used.
    ///
    /// # Errors
    /// Fails when the address is malformed.
    fn channel(&self, address: &str) -> Result<Channel, String>;
}

/// Reaches other replicas over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnect;

impl Connect for TcpConnect {
    fn channel(&self, address: &str) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
        Ok(endpoint.connect_timeout(Duration::from_secs(2)).connect_lazy())
    }
}

/// What a replica is given.
pub struct Deps {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// How other replicas are reached.
    pub connect: Arc<dyn Connect>,
}

/// A running replica.
pub struct Replica {
    routes: Routes,
    tasks: JoinSet<()>,
    /// The replica is told to stop.
    stop: CancellationToken,
    /// It leads no more: the rest ends.
    over: CancellationToken,
}

impl Replica {
    /// Starts a replica's loops; its services are served once a listener is given.
    ///
    /// # Errors
    /// Fails when the store cannot be reached.
    pub async fn start(
        deps: Deps,
        config: SchedulerConfig,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let meta = deps.store.meta().await?;
        let over = CancellationToken::new();
        let context = Arc::new(Context::new(config, deps.store, deps.entropy, meta.time_ms, over.clone()));
        let (leases, lease_client) = LeaseBatcher::new();
        let (updates, update_client) = UpdateBatcher::new();
        // Nothing is served before the image is there: decisions rest on its generation.
        feed::load(&context).await?;
        announce_once(&context).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(feed::follow(context.clone(), over.clone()));
        tasks.spawn(leases.run(context.clone(), over.clone()));
        tasks.spawn(updates.run(context.clone(), over.clone()));
        tasks.spawn(announce(context.clone(), over.clone()));
        tasks.spawn(lead_first(context.clone(), stop.clone(), over.clone()));
        let batched = Batched { leases: lease_client, updates: update_client };
        let routes = routes(&context, batched, deps.connect)?;
        Ok(Self { routes, tasks, stop, over })
    }

    /// Gives the services, for a bridge in this process.
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Serves until `stop`, then lets connections end and the loops finish.
    ///
    /// # Errors
    /// Fails when the listener does.
    pub async fn serve<I, C, E>(mut self, incoming: I) -> Result<(), tonic::transport::Error>
    where
        I: Stream<Item = Result<C, E>>,
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        E: Into<BoxError>,
    {
        let over = self.over.clone();
        let served = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .tcp_nodelay(true)
            .add_routes(self.routes.clone())
            .serve_with_incoming_shutdown(incoming, over.cancelled());
        let drained = async {
            over.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let result = tokio::select! {
            biased;
            result = served => result,
            // Streams that never end by themselves are cut.
            () = drained => Ok(()),
        };
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a loop ended abnormally");
            }
        }
        result
    }
}

/// Competes for leadership until `stop`, and gives it up before anything else ends: the next leader need not
/// wait for, nor compete with, what sessions have to say at their end.
async fn lead_first(context: Arc<Context>, stop: CancellationToken, over: CancellationToken) {
    let _over = over.clone().drop_guard();
    let hand_over = async {
        stop.cancelled().await;
        tokio::time::sleep(HAND_OVER).await;
    };
    let competing = leader::compete(context, stop.clone());
    tokio::pin!(competing);
    tokio::select! {
        biased;
        () = &mut competing => {}
        // The store does not answer: the lock expires by itself.
        () = hand_over => {
            over.cancel();
            competing.await;
        }
    }
}

fn routes(context: &Arc<Context>, batched: Batched, connect: Arc<dyn Connect>) -> Result<Routes, StoreError> {
    let most = berth_api::MAX_MESSAGE_BYTES;
    let jobs = Jobs { context: context.clone(), connect: connect.clone() };
    let jobs = v1::job_service_server::JobServiceServer::new(jobs).max_decoding_message_size(most);
    let executors = Executors { context: context.clone(), batched, connect };
    let executors =
        v1::executor_service_server::ExecutorServiceServer::new(executors).max_decoding_message_size(most);
    let cluster = v1::cluster_service_server::ClusterServiceServer::new(Cluster { context: context.clone() });
    let relay = v1::relay_service_server::RelayServiceServer::new(Relay { context: context.clone() });
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(berth_api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
            .include_reflection_service(false)
    };
    let broken = |error: tonic_reflection::server::Error| StoreError::Malformed { reason: error.to_string() };
    let (health, health_service) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(jobs)
        .add_service(executors)
        .add_service(cluster)
        .add_service(relay)
        .add_service(reflection().build_v1().map_err(broken)?)
        .add_service(reflection().build_v1alpha().map_err(broken)?)
        .add_service(health_service);
    // The empty name, which stands for the whole server, is serving from the start.
    drop(health);
    routes = routes.prepare();
    Ok(routes)
}

async fn announce_once(context: &Context) -> Result<(), StoreError> {
    let info = SchedulerInfo {
        id: SchedulerId::trusted(context.config.scheduler_id.as_str()),
        address: context.config.advertise.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        heartbeat_time_ms: context.clock.now_ms(),
    };
    let time_ms = context.store.announce_scheduler(&info, ANNOUNCE_TTL).await?;
    // In a quiet cluster nothing else tells that the store's clock was set.
    context.clock.observe(time_ms);
    context.note_answer();
    Ok(())
}

async fn announce(context: Arc<Context>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ANNOUNCE_EVERY) => {}
        }
        if let Err(error) = announce_once(&context).await {
            tracing::warn!(%error, "replica could not be announced");
        }
    }
}
