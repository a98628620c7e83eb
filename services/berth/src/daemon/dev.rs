//! `berth dev`: a whole cluster on this machine in one process: a scheduler on the embedded store and an
//! executor, wired as they are when they run apart.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use berth_domain::ids::SchedulerId;
use berth_executor::Ready as Registered;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::machine::{MachineArgs, Place};
use super::ready::{Notice, Ready};
use super::replica::{Clocks, ListenArgs, Listeners, Started};
use super::{home, stop_on_signal, store};
use crate::{logging, output};

/// Run a whole cluster on this machine: scheduler, store and executor in one process
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    listen: ListenArgs,
    /// The replica's name; by default the host's name and a persisted identity
    #[arg(long, env = "SCHEDULER_ID", value_name = "ID")]
    scheduler_id: Option<String>,
    /// The executor's name; by default the host's name and a persisted identity
    #[arg(long, env = "EXECUTOR_ID", value_name = "ID")]
    executor_id: Option<String>,
    /// The cluster's name, also a label of its containers
    #[arg(long, env = "BERTH_CLUSTER", default_value = "berth", value_name = "NAME")]
    cluster: String,
    /// Folder for the queue, results and output; by default ~/.local/share/berth/dev, for root /var/lib/berth/dev
    #[arg(long, env = "BERTH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    clocks: Clocks,
}

/// Runs the cluster until it is told to stop; containers run on, and the next run adopts them.
///
/// # Errors
/// Fails on a wrong setting, a taken port, or a folder that cannot be used.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    logging::start(Some("warn"));
    let data_dir = args.data_dir.unwrap_or_else(|| home::default_data_dir("dev"));
    let (scheduler_dir, executor_dir) = (data_dir.join("scheduler"), data_dir.join("executor"));
    home::prepare(&scheduler_dir)?;
    home::prepare(&executor_dir)?;
    let _notice = Notice::begin(&data_dir);
    let id = match args.scheduler_id {
        Some(id) => id,
        None => home::default_id(&scheduler_dir)?,
    };
    let id = SchedulerId::parse(&id).context("SCHEDULER_ID")?;
    let mut config = args.clocks.config(id, &args.cluster)?;
    let stop = stop_on_signal(tell_stop)?;
    let listeners = Listeners::open(&args.listen).await?;
    config.advertise = listeners.advertise();
    let (grpc_at, http_at) = (listeners.grpc_at, listeners.http_at);
    let executor = args.machine.config(Place {
        executor_id: args.executor_id,
        cluster: args.cluster,
        schedulers: vec![reachable(grpc_at).to_string()],
        data_dir: executor_dir.clone(),
        safety_interval: args.clocks.safety_interval,
    })?;
    let (ready, registered) = watch::channel(None);
    let deps = args.machine.surroundings(&executor_dir, ready)?;

    let store = store::open_embedded(data_dir.join("store")).await?;
    // The scheduler outlives the executor, which still says goodbye to it.
    let scheduler_stop = CancellationToken::new();
    let scheduler = Started::new(store, config, listeners, scheduler_stop.clone()).await?;
    let announced = tokio::spawn(announce(registered, data_dir, (grpc_at, http_at)));
    // A task of its own: however busy the executor is, the scheduler still answers.
    let serving = AbortOnDropHandle::new(tokio::spawn(scheduler.serve()));
    let executed = tokio::select! {
        ran = berth_executor::run(deps, executor, stop) => ran.context("the executor cannot run"),
        () = scheduler_stop.cancelled() => Ok(()),
    };
    scheduler_stop.cancel();
    let served = serving.await.context("the scheduler ended abnormally")?;
    announced.abort();
    served.and(executed)?;
    Ok(0)
}

/// Says what a stop means for what runs.
fn tell_stop() {
    output::note("Stopping: running jobs go on and are taken up again. A second Ctrl-C leaves at once.");
}

/// Where this machine reaches a listener of its own.
fn reachable(listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listener.port())
    } else {
        listener
    }
}

/// Says that the cluster is ready once its executor is registered, and what can be done with it.
async fn announce(
    mut registered: watch::Receiver<Option<Registered>>,
    data_dir: PathBuf,
    (grpc_at, http_at): (SocketAddr, SocketAddr),
) {
    let Ok(first) = registered.wait_for(Option::is_some).await.map(|seen| seen.clone()) else { return };
    let id = first.map(|ready| ready.executor_id.to_string()).unwrap_or_default();
    let ready = Ready {
        role: "dev",
        id: &id,
        grpc: grpc_at.to_string(),
        http: http_at.to_string(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
    };
    ready.announce(&data_dir);
    let grpc = reachable(grpc_at);
    let address = if grpc.port() == 50051 { String::new() } else { format!("BERTH_ADDR={grpc} ") };
    output::note(format!(
        "The queue and all output are in {}. Ctrl-C stops the cluster; running jobs go on and are taken up again.\n\
         Next, in another terminal:\n  \
         {address}berth run IMAGE COMMAND...\n  \
         {address}berth ps -a\n  \
         curl {}/jobs",
        data_dir.display(),
        reachable(http_at)
    ));
}
