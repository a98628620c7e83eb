//! `berth scheduler`: a scheduler replica with its gRPC and REST listeners.

use std::path::PathBuf;

use anyhow::Context;
use berth_domain::ids::SchedulerId;

use super::ready::{Notice, Ready};
use super::replica::{Clocks, ListenArgs, Listeners, Started};
use super::store::StoreArgs;
use super::{home, log_stop, stop_on_signal};
use crate::logging;

/// Run a scheduler replica
#[derive(Debug, clap::Args)]
pub struct Args {
    /// This replica's name; by default the host's name and a persisted identity
    #[arg(long = "id", env = "SCHEDULER_ID", value_name = "ID")]
    scheduler_id: Option<String>,
    #[command(flatten)]
    listen: ListenArgs,
    /// Where other replicas reach this one; by default where gRPC is served
    #[arg(long, env = "BERTH_ADVERTISE", value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The cluster's name, also the prefix of its keys
    #[arg(long, env = "BERTH_CLUSTER", default_value = "berth", value_name = "NAME")]
    cluster: String,
    /// Folder for this replica's files; by default ~/.local/share/berth/scheduler, for root /var/lib/berth/scheduler
    #[arg(long, env = "BERTH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    clocks: Clocks,
}

/// Runs the role until it is told to stop.
///
/// # Errors
/// Fails on a wrong setting, a taken port, or a store that cannot serve a cluster.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    logging::start(Some("info"));
    let data_dir = args.data_dir.unwrap_or_else(|| home::default_data_dir("scheduler"));
    home::prepare(&data_dir)?;
    let _notice = Notice::begin(&data_dir);
    let id = match args.scheduler_id {
        Some(id) => id,
        None => home::default_id(&data_dir)?,
    };
    let id = SchedulerId::parse(&id).context("SCHEDULER_ID")?;
    let mut config = args.clocks.config(id.clone(), &args.cluster)?;
    let stop = stop_on_signal(log_stop)?;
    let listeners = Listeners::open(&args.listen).await?;
    config.advertise = args.advertise.unwrap_or_else(|| listeners.advertise());
    let (grpc, http) = (listeners.grpc_at.to_string(), listeners.http_at.to_string());
    let opened = args.store.open(&args.cluster, &data_dir, args.clocks.safety_interval, &stop).await?;
    let Some(store) = opened else { return Ok(0) };
    let started = Started::new(store, config, listeners, stop).await?;
    let ready = Ready {
        role: "scheduler",
        id: id.as_str(),
        grpc,
        http,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
    };
    ready.announce(&data_dir);
    started.serve().await?;
    Ok(0)
}
