//! Waits for a container's exit. A broken wait means nothing: the container is looked at again.

use std::sync::Arc;
use std::time::Duration;

use berth_domain::backoff::Backoff;

use crate::random::Random;
use crate::runtime::{ContainerName, EngineState, Inspected, Runtime};

/// Waits between looks while the engine does not answer.
const RETRY: Backoff = Backoff { first_ms: 200, most_ms: 5_000 };

/// Returns once the container runs no more, with what the engine then shows, and whether the
/// engine told of the exit while it happened.
pub(super) async fn exit(
    runtime: &Arc<dyn Runtime>,
    random: &Arc<dyn Random>,
    container: &ContainerName,
) -> (Option<Inspected>, bool) {
    let mut failures = 0;
    loop {
        let mut witnessed = match runtime.wait(container).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%container, error = %error, "a wait was broken");
                false
            }
        };
        loop {
            match runtime.inspect(container).await {
                Ok(Some(seen)) if seen.state == EngineState::Running => break,
                Ok(seen) => return (seen, witnessed),
                Err(_) => witnessed = false,
            }
            pause(random, &mut failures).await;
        }
        // It runs although the wait ended.
        pause(random, &mut failures).await;
    }
}

async fn pause(random: &Arc<dyn Random>, failures: &mut u32) {
    let wait_ms = RETRY.wait_ms(*failures, random.next_u32());
    *failures = failures.saturating_add(1);
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
}
