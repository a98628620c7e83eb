//! `berth scheduler`: a scheduler replica with its gRPC and REST listeners.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use berth_domain::ids::SchedulerId;
use berth_scheduler::{Deps, Replica, SchedulerConfig, SeededEntropy, TcpConnect};
use berth_store::redis::{RedisConfig, RedisStore};
use berth_store::{Store, StoreError};
use futures::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use super::ready::Ready;
use super::{home, listen, stop_on_signal};
use crate::{logging, values};

/// The wait between two attempts to reach Redis at the start.
const REDIS_RETRY: Duration = Duration::from_secs(2);

/// Run a scheduler replica
#[derive(Debug, clap::Args)]
pub struct Args {
    /// This replica's name; by default the host's name and a persisted identity
    #[arg(long = "id", env = "SCHEDULER_ID", value_name = "ID")]
    scheduler_id: Option<String>,
    /// Where gRPC is served; port 0 takes a free one
    #[arg(long, env = "BERTH_GRPC_LISTEN", default_value = "127.0.0.1:50051", value_name = "HOST:PORT")]
    grpc_listen: String,
    /// Where REST is served; port 0 takes a free one
    #[arg(long, env = "BERTH_HTTP_LISTEN", default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    http_listen: String,
    /// Where other replicas reach this one; by default where gRPC is served
    #[arg(long, env = "BERTH_ADVERTISE", value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where Redis is; overrides REDIS_HOST and REDIS_PORT
    #[arg(long, env = "BERTH_REDIS_URL", value_name = "URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// Host of Redis
    #[arg(long, env = "REDIS_HOST", default_value = "127.0.0.1", value_name = "HOST")]
    redis_host: String,
    /// Port of Redis
    #[arg(long, env = "REDIS_PORT", default_value_t = 6379, value_name = "PORT")]
    redis_port: u16,
    /// The cluster's name, also the prefix of its keys
    #[arg(long, env = "BERTH_CLUSTER", default_value = "berth", value_name = "NAME")]
    cluster: String,
    /// Folder for this replica's files
    #[arg(long, env = "BERTH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    clocks: Clocks,
}

/// How long things take or last.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Clocks")]
struct Clocks {
    /// How long the leader lock is held without a renewal
    #[arg(long, env = "BERTH_LOCK_TTL", default_value = "3s", value_parser = values::duration)]
    lock_ttl: Duration,
    /// The queue timeout of a job that names none; 0 waits for ever
    #[arg(long, env = "BERTH_QUEUE_TIMEOUT", default_value = "15s", value_parser = values::duration)]
    queue_timeout: Duration,
    /// How long an ended job is kept
    #[arg(long, env = "BERTH_RETENTION", default_value = "24h", value_parser = values::duration)]
    retention: Duration,
    /// How many ended jobs are kept at most
    #[arg(long, env = "BERTH_RETENTION_COUNT", default_value_t = 1_000_000)]
    retention_count: u64,
    /// How often executors send heartbeats
    #[arg(long, env = "BERTH_HEARTBEAT_INTERVAL", default_value = "5s", value_parser = values::duration)]
    heartbeat_interval: Duration,
    /// How long an executor counts as in touch after a heartbeat
    #[arg(long, env = "BERTH_LEASE", default_value = "15s", value_parser = values::duration)]
    lease: Duration,
    /// How long after its last heartbeat an executor is judged lost
    #[arg(long, env = "BERTH_LOST_AFTER", default_value = "30s", value_parser = values::duration)]
    lost_after: Duration,
    /// How often everything is read again in case a wake-up was missed
    #[arg(long, env = "BERTH_SAFETY_INTERVAL", default_value = "10s", value_parser = values::duration)]
    safety_interval: Duration,
}

/// Runs the role until it is told to stop.
///
/// # Errors
/// Fails on a wrong setting, a taken port, or a Redis that cannot serve a cluster.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    logging::start(Some("info"));
    let data_dir = args.data_dir.clone().unwrap_or_else(|| home::default_data_dir("scheduler"));
    home::prepare(&data_dir)?;
    let mut config = config(&args, &data_dir)?;
    let stop = stop_on_signal()?;
    let grpc = listen::open(&args.grpc_listen, "--grpc-listen").await?;
    let http = listen::open(&args.http_listen, "--http-listen").await?;
    let (grpc_at, http_at) = (grpc.local_addr()?, http.local_addr()?);
    config.advertise = args.advertise.clone().unwrap_or_else(|| {
        if grpc_at.ip().is_unspecified() {
            format!("{}:{}", home::host_name(), grpc_at.port())
        } else {
            grpc_at.to_string()
        }
    });
    let Some(store) = connect(&args, &stop).await? else { return Ok(0) };
    let id = config.scheduler_id.to_string();
    let deps = Deps { store, entropy: Arc::new(SeededEntropy::from_os()), connect: Arc::new(TcpConnect) };
    let replica = Replica::start(deps, config, stop.clone()).await.context("the store cannot be used")?;
    let rest =
        tokio::spawn(berth_gateway::serve(http, berth_gateway::router(replica.routes()), stop.clone()));
    let ready = Ready {
        role: "scheduler",
        id: &id,
        grpc: grpc_at.to_string(),
        http: http_at.to_string(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
    };
    ready.announce(&data_dir)?;
    let incoming = TcpListenerStream::new(grpc).inspect(|accepted| {
        if let Ok(stream) = accepted
            && let Err(error) = stream.set_nodelay(true)
        {
            tracing::debug!(%error, "nodelay could not be set");
        }
    });
    let served = replica.serve(incoming).await;
    stop.cancel();
    rest.await.context("the REST gateway ended abnormally")?;
    served.context("the gRPC listener failed")?;
    Ok(0)
}

fn config(args: &Args, data_dir: &std::path::Path) -> anyhow::Result<SchedulerConfig> {
    let id = match &args.scheduler_id {
        Some(id) => id.clone(),
        None => format!("{}-{}", home::host_name(), &home::node_id(data_dir)?.get(..8).unwrap_or_default()),
    };
    let id = SchedulerId::parse(&id).context("SCHEDULER_ID")?;
    let clocks = &args.clocks;
    let config = SchedulerConfig {
        lock_ttl: clocks.lock_ttl,
        queue_timeout: clocks.queue_timeout,
        retention: clocks.retention,
        retention_count: clocks.retention_count,
        heartbeat_interval: clocks.heartbeat_interval,
        lease: clocks.lease,
        lost_after: clocks.lost_after,
        safety_interval: clocks.safety_interval,
        ..SchedulerConfig::new(id, args.cluster.clone())
    };
    config.validate()?;
    Ok(config)
}

/// Connects to Redis, patiently: a cluster often starts all at once. `None` when told to stop first.
async fn connect(args: &Args, stop: &CancellationToken) -> anyhow::Result<Option<Arc<dyn Store>>> {
    let url =
        args.redis_url.clone().unwrap_or_else(|| format!("redis://{}:{}", args.redis_host, args.redis_port));
    let config = RedisConfig {
        url,
        cluster: args.cluster.clone(),
        recheck: args.clocks.safety_interval,
        ..RedisConfig::default()
    };
    let address = config.masked_url();
    let address = address.split_once("://").map_or(address.as_str(), |(_, rest)| rest).to_owned();
    for attempt in 1_u64.. {
        match RedisStore::connect(config.clone()).await {
            Ok(store) => return Ok(Some(Arc::new(store))),
            Err(StoreError::Unavailable { reason }) => {
                eprintln!(
                    "Redis at {address} cannot be reached ({reason}); retrying every 2 s (try {attempt}). Set REDIS_HOST/REDIS_PORT if it is elsewhere."
                );
            }
            Err(error) => return Err(error).context("Redis cannot serve a cluster"),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(REDIS_RETRY) => {}
        }
    }
    Ok(None)
}
