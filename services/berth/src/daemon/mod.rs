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

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Makes a token that SIGTERM or SIGINT cancels, and a new program where [`reload`] is asked for.
///
/// # Errors
/// Fails when signals cannot be received, or the program's folder cannot be watched.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        // Who says stop while a new program is on its way means stop.
        reload::forget();
        token.cancel();
    });
    reload::watch(&stop)?;
    Ok(stop)
}
