//! What an executor has and runs jobs with, as `berth executor` and `berth dev` are told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use berth_domain::constraint::Constraint;
use berth_domain::ids::ExecutorId;
use berth_domain::quantity::{parse_cpus, parse_memory};
use berth_executor::clock::{Clock, TokioClock};
use berth_executor::config::{GpuOverride, Overrides, parse_gpu_override, parse_network_slots};
use berth_executor::connect::TcpConnect;
use berth_executor::disk::RealDisk;
use berth_executor::random::SeededRandom;
use berth_executor::runtime::{DockerRuntime, DockerSettings, Runtime, SimulatedEngine, SimulatedRuntime};
use berth_executor::{Deps, ExecutorConfig, Ready, host};
use tokio::sync::watch;

use crate::values;

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

/// The machine.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
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
    /// How long an ended container is kept
    #[arg(long, env = "BERTH_CLEANUP_AFTER", default_value = "120s", value_parser = values::duration)]
    cleanup_after: Duration,
    /// Network namespaces kept ready for jobs at most, or "off"; by default 32, more on large machines
    #[arg(long, env = "BERTH_NETWORK_SLOTS", value_parser = parse_network_slots, value_name = "COUNT|off")]
    network_slots: Option<usize>,
}

/// GPUs as given on the command line.
#[derive(Debug, Clone)]
struct Gpus(Vec<GpuOverride>);

impl Gpus {
    fn parse(text: &str) -> Result<Self, String> {
        parse_gpu_override(text).map(Self).map_err(|error| error.to_string())
    }
}

/// What an executor is called and where it belongs.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name; the host's name and a persisted identity if `None`.
    pub executor_id: Option<String>,
    /// The cluster it belongs to.
    pub cluster: String,
    /// gRPC addresses of schedulers.
    pub schedulers: Vec<String>,
    /// Folder for identity, results and output.
    pub data_dir: PathBuf,
    /// How often everything is compared again.
    pub safety_interval: Duration,
}

/// Reads labels of an executor: such as jobs can ask for, each once.
fn labels(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for text in texts {
        let (name, value) =
            text.split_once('=').with_context(|| format!("--label {text:?} is not NAME=VALUE"))?;
        // One without a value can be asked for by its name.
        let asked = if value.is_empty() { name.to_owned() } else { format!("{name}={value}") };
        anyhow::ensure!(
            Constraint::parse(&asked).is_ok_and(|asked| asked.key() == name),
            "--label {text:?}: a name has a-z, A-Z, 0-9, '.', '_', '-' and '/', a value none of , ( ) = !"
        );
        let before = labels.insert(name.to_owned(), value.to_owned());
        anyhow::ensure!(before.is_none(), "--label {name} is given twice");
    }
    Ok(labels)
}

impl MachineArgs {
    /// Makes an executor's configuration.
    ///
    /// # Errors
    /// Fails on a wrong setting.
    pub fn config(&self, place: Place) -> anyhow::Result<ExecutorConfig> {
        let executor_id =
            place.executor_id.as_deref().map(ExecutorId::parse).transpose().context("EXECUTOR_ID")?;
        let config = ExecutorConfig {
            executor_id,
            cluster: place.cluster,
            cleanup_after: self.cleanup_after,
            network_slots: self.network_slots,
            overrides: Overrides {
                cpu_millis: self.cpus,
                memory_bytes: self.memory,
                gpus: self.gpus.clone().map(|gpus| gpus.0),
            },
            labels: labels(&self.labels)?,
            safety_interval: place.safety_interval,
            ..ExecutorConfig::new(place.data_dir, place.schedulers)
        };
        config.validate()?;
        Ok(config)
    }

    /// Makes an executor's surroundings: this machine, its engine, its disk.
    ///
    /// # Errors
    /// Fails when the folder cannot be used or the machine's resources cannot be found out.
    pub fn surroundings(&self, data_dir: &Path, ready: watch::Sender<Option<Ready>>) -> anyhow::Result<Deps> {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
        let runtime: Arc<dyn Runtime> = match self.runtime {
            RuntimeKind::Docker => Arc::new(DockerRuntime::new(DockerSettings { host: docker_host() })),
            RuntimeKind::Simulated => {
                Arc::new(SimulatedRuntime::new(SimulatedEngine::default(), clock.clone(), SIMULATED_LATENCY))
            }
        };
        Ok(Deps {
            runtime,
            connector: Arc::new(TcpConnect),
            disk: Arc::new(RealDisk::open(data_dir).context("the data folder cannot be used")?),
            host: host::probe().context("this machine's resources cannot be found out")?,
            clock,
            random: Arc::new(SeededRandom::from_system()),
            ready,
        })
    }
}

/// The engine that Docker's own client would use.
fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())
}
