//! `berth executor`: runs the jobs that the schedulers give to this machine.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use berth_executor::Ready as Registered;
use tokio::sync::watch;

use super::machine::{MachineArgs, Place};
use super::ready::{Notice, Ready};
use super::{home, log_stop, stop_on_signal};
use crate::{logging, values};

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
    /// Folder for identity, results and output; by default ~/.local/share/berth/executor, for root /var/lib/berth/executor
    #[arg(long, env = "BERTH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How often everything is compared again in case a wake-up was missed
    #[arg(long, env = "BERTH_SAFETY_INTERVAL", default_value = "10s", value_parser = values::duration)]
    safety_interval: Duration,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs the role until it is told to stop; containers run on.
///
/// # Errors
/// Fails on a wrong setting or a folder that cannot be used.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    logging::start(Some("info"));
    let data_dir = args.data_dir.unwrap_or_else(|| home::default_data_dir("executor"));
    home::prepare(&data_dir)?;
    let _notice = Notice::begin(&data_dir);
    let config = args.machine.config(Place {
        executor_id: args.executor_id,
        cluster: args.cluster,
        schedulers: args.schedulers,
        data_dir: data_dir.clone(),
        safety_interval: args.safety_interval,
    })?;
    let stop = stop_on_signal(log_stop)?;
    let (ready, registered) = watch::channel(None);
    let deps = args.machine.surroundings(&data_dir, ready)?;
    let announced = tokio::spawn(announce(registered, data_dir));
    let ran = berth_executor::run(deps, config, stop).await;
    announced.abort();
    ran.context("the executor cannot run")?;
    Ok(0)
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
    ready.announce(&data_dir);
}
