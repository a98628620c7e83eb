//! `berth executor`: runs the jobs that the schedulers give to this machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use berth_domain::ids::ExecutorId;
use berth_domain::quantity::{parse_cpus, parse_memory};
use berth_executor::clock::{Clock, TokioClock};
use berth_executor::config::{GpuOverride, Overrides, parse_gpu_override};
use berth_executor::connect::TcpConnect;
use berth_executor::disk::RealDisk;
use berth_executor::random::SeededRandom;
use berth_executor::runtime::{DockerRuntime, DockerSettings, Runtime, SimulatedEngine, SimulatedRuntime};
use berth_executor::{Deps, ExecutorConfig, Ready as Registered, host};
use tokio::sync::watch;

use super::ready::Ready;
use super::{home, stop_on_signal};
use crate::{logging, values};

/// What simulated engine calls take.
const SIMULATED_LATENCY: Duration = Duration::from_millis(1);

/// What runs the jobs.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RuntimeKind {
    /// A Docker Engine; DOCKER_HOST says which
    Docker,
    /// Nothing: jobs are played (`true`, `false`, `exit N`, `sleep S`)
    Simulated,
}

/// Run an executor
#[derive(Debug, clap::Args)]
pub struct Args {
    /// This executor's name; by default the host's name and a persisted identity
    #[arg(long = "id", env = "EXECUTOR_ID", value_name = "ID")]
    executor_id: Option<String>,
    /// gRPC addresses of schedulers
    #[arg(
        long,
        env = "BERTH_SCHEDULERS",
        default_value = "127.0.0.1:50051",
        value_delimiter = ',',
        value_name = "HOST:PORT,.."
    )]
    schedulers: Vec<String>,
    /// The cluster it belongs to
    #[arg(long, env = "BERTH_CLUSTER", default_value = "berth", value_name = "NAME")]
    cluster: String,
    /// What runs the jobs
    #[arg(long, env = "BERTH_RUNTIME", value_enum, default_value_t = RuntimeKind::Docker)]
    runtime: RuntimeKind,
    /// CPUs that jobs may use, for example 2 or 0.5; by default all there are
    #[arg(long, env = "EXECUTOR_CPUS", value_parser = |text: &str| parse_cpus(text), value_name = "CPUS")]
    cpus: Option<u64>,
    /// Memory that jobs may use, for example 512m or 2Gi; by default all there is
    #[arg(long, env = "EXECUTOR_MEMORY", value_parser = |text: &str| parse_memory(text), value_name = "SIZE")]
    memory: Option<u64>,
    /// GPUs that jobs may use, emulated ones such as a100:4, or "none"; by default those found
    #[arg(long, env = "EXECUTOR_GPUS", value_parser = Gpus::parse, value_name = "MODEL:COUNT,..")]
    gpus: Option<Gpus>,
    /// A label of this executor; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Folder for identity, results and output
    #[arg(long, env = "BERTH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How long an ended container is kept
    #[arg(long, env = "BERTH_CLEANUP_AFTER", default_value = "120s", value_parser = values::duration)]
    cleanup_after: Duration,
    /// How often everything is compared again in case a wake-up was missed
    #[arg(long, env = "BERTH_SAFETY_INTERVAL", default_value = "10s", value_parser = values::duration)]
    safety_interval: Duration,
}

/// GPUs as given on the command line.
#[derive(Debug, Clone)]
struct Gpus(Vec<GpuOverride>);

impl Gpus {
    fn parse(text: &str) -> Result<Self, String> {
        parse_gpu_override(text).map(Self).map_err(|error| error.to_string())
    }
}

/// Runs the role until it is told to stop; containers run on.
///
/// # Errors
/// Fails on a wrong setting or a folder that cannot be used.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    logging::start(Some("info"));
    let data_dir = args.data_dir.clone().unwrap_or_else(|| home::default_data_dir("executor"));
    home::prepare(&data_dir)?;
    let config = config(&args, data_dir.clone())?;
    let stop = stop_on_signal()?;
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
    let runtime: Arc<dyn Runtime> = match args.runtime {
        RuntimeKind::Docker => Arc::new(DockerRuntime::new(DockerSettings { host: docker_host() })),
        RuntimeKind::Simulated => {
            Arc::new(SimulatedRuntime::new(SimulatedEngine::default(), clock.clone(), SIMULATED_LATENCY))
        }
    };
    let (ready, registered) = watch::channel(None);
    let deps = Deps {
        runtime,
        connector: Arc::new(TcpConnect),
        disk: Arc::new(RealDisk::open(&data_dir).context("the data folder cannot be used")?),
        host: host::probe().context("this machine's resources cannot be found out")?,
        clock,
        random: Arc::new(SeededRandom::from_system()),
        ready,
    };
    let announced = tokio::spawn(announce(registered, data_dir));
    let ran = berth_executor::run(deps, config, stop).await;
    announced.abort();
    ran.context("the executor cannot run")?;
    Ok(0)
}

/// The engine that Docker's own client would use.
fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())
}

fn config(args: &Args, data_dir: PathBuf) -> anyhow::Result<ExecutorConfig> {
    let executor_id =
        args.executor_id.as_deref().map(ExecutorId::parse).transpose().context("EXECUTOR_ID")?;
    let label = |text: &String| {
        let (name, value) =
            text.split_once('=').with_context(|| format!("--label {text:?} is not NAME=VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    let config = ExecutorConfig {
        executor_id,
        cluster: args.cluster.clone(),
        cleanup_after: args.cleanup_after,
        overrides: Overrides {
            cpu_millis: args.cpus,
            memory_bytes: args.memory,
            gpus: args.gpus.clone().map(|gpus| gpus.0),
        },
        labels: args.labels.iter().map(label).collect::<anyhow::Result<BTreeMap<_, _>>>()?,
        safety_interval: args.safety_interval,
        ..ExecutorConfig::new(data_dir, args.schedulers.clone())
    };
    config.validate()?;
    Ok(config)
}

/// Says that the executor is ready once it is registered for the first time.
async fn announce(mut registered: watch::Receiver<Option<Registered>>, data_dir: PathBuf) {
    let Ok(first) = registered.wait_for(Option::is_some).await.map(|seen| seen.clone()) else { return };
    let id = first.map(|ready| ready.executor_id.to_string()).unwrap_or_default();
    let ready = Ready {
        role: "executor",
        id: &id,
        grpc: String::new(),
        http: String::new(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
    };
    if let Err(error) = ready.announce(&data_dir) {
        tracing::warn!(error = format!("{error:#}"), "readiness could not be written");
    }
}
