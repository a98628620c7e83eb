//! Follows a container's output onto the disk until the container has ended and its last byte is
//! there. Whatever breaks meanwhile is opened again where it broke.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth_domain::backoff::Backoff;
use berth_domain::ids::AttemptRef;
use bytes::Bytes;
use futures::StreamExt;
use thiserror::Error;

use super::store::LogStore;
use super::writer::LogWriter;
use crate::clock::Clock;
use crate::random::Random;
use crate::runtime::{ContainerName, EngineError, EngineState, OutputLine, OutputStream, Runtime};

/// Waits between attempts to read on.
const RETRY: Backoff = Backoff { first_ms: 100, most_ms: 10_000 };
/// How often an engine may say no before the output of an ended container is given up.
const MOST_REFUSALS: u32 = 5;

#[derive(Debug, Error)]
enum CopyError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the output cannot be written")]
    Disk(#[from] io::Error),
}

/// Captures outputs.
#[derive(Clone)]
pub struct Capture {
    /// Where the output comes from.
    pub runtime: Arc<dyn Runtime>,
    /// Where it goes.
    pub store: LogStore,
    /// The time, for lines of our own.
    pub clock: Arc<dyn Clock>,
    /// Spreads repeated attempts.
    pub random: Arc<dyn Random>,
    /// The disk takes nothing now, and that was told: once, however many outputs wait for it.
    pub stuck: Arc<AtomicBool>,
}

impl Capture {
    /// Captures one attempt's output to its end. The container must have been started.
    pub async fn run(&self, attempt: &AttemptRef, container: &ContainerName) {
        let mut failures = 0;
        loop {
            match self.store.writer(attempt).await {
                Ok(mut writer) => {
                    self.capture(&mut writer, attempt, container).await;
                    return self.store.close(attempt);
                }
                Err(error) => {
                    self.stuck(&error);
                    self.pause(&mut failures).await;
                }
            }
        }
    }

    async fn capture(&self, writer: &mut LogWriter, attempt: &AttemptRef, container: &ContainerName) {
        let (mut failures, mut refusals) = (0, 0);
        let mut ended = false;
        while !writer.is_complete() {
            let copied = self.copy(writer, container, !ended).await;
            if copied.is_ok() && ended {
                self.finish(writer, None).await;
                return;
            }
            if let Err(error) = &copied {
                refusals += u32::from(matches!(error, CopyError::Engine(EngineError::Failed(_))));
                match error {
                    CopyError::Disk(error) => self.stuck(error),
                    CopyError::Engine(error) => {
                        tracing::debug!(job_id = %attempt.job, %error, "capture of output was broken");
                    }
                }
            }
            match self.runtime.inspect(container).await {
                Ok(None) => {
                    let note = (!ended || copied.is_err()).then_some("the container is gone");
                    return self.finish(writer, note).await;
                }
                // What came between the end of the stream and the end of the process is read once more.
                Ok(Some(seen)) => ended = seen.state == EngineState::Exited,
                Err(_) => {}
            }
            if ended && refusals >= MOST_REFUSALS {
                return self.finish(writer, Some("the container engine does not give the output")).await;
            }
            if copied.is_err() || !ended {
                self.pause(&mut failures).await;
            }
        }
    }

    async fn copy(
        &self,
        writer: &mut LogWriter,
        container: &ContainerName,
        follow: bool,
    ) -> Result<(), CopyError> {
        writer.reopened();
        let mut batches = self.runtime.logs(container, writer.since_seconds(), follow).await?;
        while let Some(lines) = batches.next().await {
            writer.append(lines?).await?;
            self.unstuck();
        }
        Ok(())
    }

    async fn finish(&self, writer: &mut LogWriter, reason: Option<&str>) {
        let note = reason.map(|reason| OutputLine {
            stream: OutputStream::System,
            time_ns: self.clock.wall_ms().saturating_mul(1_000_000),
            bytes: Bytes::from(format!("[berth] output may be missing: {reason}\n")),
        });
        let mut failures = 0;
        while let Err(error) = writer.finish(note.clone()).await {
            self.stuck(&error);
            self.pause(&mut failures).await;
        }
        self.unstuck();
    }

    fn stuck(&self, error: &io::Error) {
        if !self.stuck.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "output of jobs cannot be written to the data folder: it is tried again until it works");
        }
    }

    fn unstuck(&self) {
        if self.stuck.load(Ordering::Relaxed) && self.stuck.swap(false, Ordering::Relaxed) {
            tracing::info!("output of jobs is written again");
        }
    }

    async fn pause(&self, failures: &mut u32) {
        let wait_ms = RETRY.wait_ms(*failures, self.random.next_u32());
        *failures = failures.saturating_add(1);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}
