//! A scheduler replica with its listeners, as `berth scheduler` and `berth dev` run it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use berth_domain::ids::SchedulerId;
use berth_domain::placement::{Placement, Policy};
use berth_scheduler::{Deps, Replica, SchedulerConfig, SeededEntropy, TcpConnect};
use berth_store::Store;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use futures::StreamExt;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use super::{home, listen};
use crate::values;

/// Where a replica is served.
#[derive(Debug, clap::Args)]
pub struct ListenArgs {
    /// Where gRPC is served; port 0 takes a free one
    #[arg(long, env = "BERTH_GRPC_LISTEN", default_value = "127.0.0.1:50051", value_name = "HOST:PORT")]
    grpc_listen: String,
    /// Where REST is served; port 0 takes a free one
    #[arg(long, env = "BERTH_HTTP_LISTEN", default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    http_listen: String,
}

/// How long things take or last.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Clocks")]
pub struct Clocks {
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
    pub safety_interval: Duration,
    /// How long a job waits before an executor is kept free for it
    #[arg(long, env = "BERTH_AGE_LIMIT", default_value = "5m", value_parser = values::duration)]
    age_limit: Duration,
    /// How executors are chosen: `auto` keeps large jobs and scarce GPUs in mind, `best-fit` leaves least over
    #[arg(
        long,
        env = "BERTH_PLACEMENT",
        default_value = "auto",
        value_parser = PossibleValuesParser::new(["auto", "best-fit"]).map(|name| policy(&name)),
        help_heading = "Placement"
    )]
    placement: Policy,
}

fn policy(name: &str) -> Policy {
    if name == "best-fit" { Policy::BestFit } else { Policy::Auto }
}

impl Clocks {
    /// Makes a replica's configuration.
    ///
    /// # Errors
    /// Fails when settings contradict each other.
    pub fn config(&self, id: SchedulerId, cluster: &str) -> anyhow::Result<SchedulerConfig> {
        let config = SchedulerConfig {
            lock_ttl: self.lock_ttl,
            queue_timeout: self.queue_timeout,
            retention: self.retention,
            retention_count: self.retention_count,
            heartbeat_interval: self.heartbeat_interval,
            lease: self.lease,
            lost_after: self.lost_after,
            safety_interval: self.safety_interval,
            placement: Placement {
                policy: self.placement,
                age_limit_ms: u64::try_from(self.age_limit.as_millis()).unwrap_or(u64::MAX),
            },
            ..SchedulerConfig::new(id, cluster.to_owned())
        };
        config.validate()?;
        Ok(config)
    }
}

/// Listeners that are open.
#[derive(Debug)]
pub struct Listeners {
    grpc: TcpListener,
    http: TcpListener,
    /// Where gRPC is served.
    pub grpc_at: SocketAddr,
    /// Where HTTP is served.
    pub http_at: SocketAddr,
}

impl Listeners {
    /// Opens them.
    ///
    /// # Errors
    /// Says what to do when a port is taken.
    pub async fn open(args: &ListenArgs) -> anyhow::Result<Self> {
        let grpc = listen::open(&args.grpc_listen, "--grpc-listen").await?;
        let http = listen::open(&args.http_listen, "--http-listen").await?;
        let (grpc_at, http_at) = (grpc.local_addr()?, http.local_addr()?);
        Ok(Self { grpc, http, grpc_at, http_at })
    }

    /// Tells where other machines reach gRPC, if nobody said.
    pub fn advertise(&self) -> String {
        if self.grpc_at.ip().is_unspecified() {
            format!("{}:{}", home::host_name(), self.grpc_at.port())
        } else {
            self.grpc_at.to_string()
        }
    }
}

/// A replica that has started and is not served yet.
pub struct Started {
    replica: Replica,
    store: Arc<dyn Store>,
    listeners: Listeners,
    stop: CancellationToken,
}

impl Started {
    /// Starts a replica on a store.
    ///
    /// # Errors
    /// Fails when the store cannot be used.
    pub async fn new(
        store: Arc<dyn Store>,
        config: SchedulerConfig,
        listeners: Listeners,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let deps = Deps {
            store: store.clone(),
            entropy: Arc::new(SeededEntropy::from_os()),
            connect: Arc::new(TcpConnect),
        };
        let replica = Replica::start(deps, config, stop.clone()).await.context("the store cannot be used")?;
        Ok(Self { replica, store, listeners, stop })
    }

    /// Serves gRPC and REST until it is told to stop.
    ///
    /// # Errors
    /// Fails when a listener does.
    pub async fn serve(self) -> anyhow::Result<()> {
        let Self { replica, store, listeners, stop } = self;
        let router = berth_gateway::router(replica.routes());
        let rest = tokio::spawn(berth_gateway::serve(listeners.http, router, stop.clone()));
        let incoming = TcpListenerStream::new(listeners.grpc).inspect(|accepted| {
            if let Ok(stream) = accepted
                && let Err(error) = stream.set_nodelay(true)
            {
                tracing::debug!(%error, "nodelay could not be set");
            }
        });
        let served = replica.serve(incoming).await;
        stop.cancel();
        let rest = rest.await;
        store.close().await;
        rest.context("the REST gateway ended abnormally")?;
        served.context("the gRPC listener failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        clocks: Clocks,
    }

    fn placement(arguments: &[&str]) -> Result<Placement, clap::Error> {
        let line = CommandLine::try_parse_from([&["berth"][..], arguments].concat())?;
        let config = line.clocks.config(SchedulerId::trusted("scheduler-1"), "cluster");
        Ok(config.expect("the defaults agree").placement)
    }

    #[test]
    fn executors_are_chosen_as_the_command_line_says() {
        let policy = |arguments: &[&str]| placement(arguments).expect("is understood").policy;
        assert_eq!(policy(&[]), Policy::Auto);
        assert_eq!(policy(&["--placement", "auto"]), Policy::Auto);
        assert_eq!(policy(&["--placement", "best-fit"]), Policy::BestFit);
        let refusal = placement(&["--placement", "random"]).expect_err("is refused").to_string();
        assert!(refusal.contains("auto, best-fit"), "{refusal}");
        let aged = placement(&["--age-limit", "7m"]).expect("is understood");
        assert_eq!(aged, Placement { age_limit_ms: 420_000, ..Placement::default() });
    }
}
