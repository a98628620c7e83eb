//! Ctrl-C, and a request to terminate, as a stream.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears Ctrl-C (SIGINT) and SIGTERM from its creation on; they no longer end the process by themselves.
#[derive(Debug)]
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Starts to hear.
    ///
    /// # Errors
    /// Fails where the system refuses a signal handler.
    pub fn new() -> anyhow::Result<Self> {
        let hear = |kind| signal(kind).context("cannot listen for Ctrl-C");
        Ok(Self { interrupt: hear(SignalKind::interrupt())?, terminate: hear(SignalKind::terminate())? })
    }

    /// Waits for the next one. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
