//! The daemons: what a role needs before it runs, and how it says that it is ready. The roles
//! themselves are other crates.

pub mod dev;
pub mod executor;
pub mod home;
mod listen;
mod machine;
mod ready;
mod redis_wait;
pub mod reload;
mod replica;
pub mod scheduler;
mod store;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Makes a token that SIGTERM or SIGINT cancels, and a new program where [`reload`] is asked for. A second
/// signal ends the process at once: nothing is lost by that, it only takes the next start longer.
///
/// `tell` says that the signal was heard.
///
/// # Errors
/// Fails when signals cannot be received, or the program's folder cannot be watched.
fn stop_on_signal(tell: fn()) -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        signalled(&mut term, &mut interrupt).await;
        tell();
        // Who says stop while a new program is on its way means stop.
        reload::forget();
        token.cancel();
        std::process::exit(signalled(&mut term, &mut interrupt).await);
    });
    reload::watch(&stop)?;
    Ok(stop)
}

/// Notes a stop in the log, as a daemon does.
fn log_stop() {
    tracing::info!("stopping");
}

/// Waits for a signal to stop; gives the exit code of a process that it ends.
async fn signalled(term: &mut Signal, interrupt: &mut Signal) -> i32 {
    let signal = tokio::select! {
        _ = term.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
    };
    128 + signal.as_raw_value()
}
