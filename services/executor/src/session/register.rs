//! What an executor says of itself when it registers.

use std::time::Duration;

use berth_api::convert::{attempt_end_to_wire, capacity_to_wire, gpus_to_wire};
use berth_api::v1::RegisterRequest;
use tokio::sync::{mpsc, oneshot};

use super::runner::SessionParts;
use super::wire;
use crate::reconciler::{Command, Inventory};

/// The protocol this executor speaks.
const PROTOCOL_VERSION: i32 = 1;
/// The most images named.
const MOST_IMAGES: usize = 500;
/// How long the engine may take to list them; without a list, placement only knows less.
const IMAGES_WAIT: Duration = Duration::from_secs(2);

/// Asks the reconciler for what it has; `None` when the executor stops.
pub(super) async fn inventory(commands: &mpsc::Sender<Command>) -> Option<Inventory> {
    let (answer, answered) = oneshot::channel();
    commands.send(Command::Inventory(answer)).await.ok()?;
    answered.await.ok()
}

/// Makes the registration.
pub(super) async fn request(parts: &SessionParts, inventory: &Inventory) -> RegisterRequest {
    let listed = tokio::time::timeout(IMAGES_WAIT, parts.runtime.images()).await;
    let mut images = listed.ok().and_then(Result::ok).unwrap_or_default();
    images.truncate(MOST_IMAGES);
    RegisterRequest {
        executor_id: parts.identity.executor_id.to_string(),
        capacity: Some(capacity_to_wire(&parts.capacity)),
        gpus: gpus_to_wire(&parts.capacity.gpus),
        labels: parts.labels.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_version: PROTOCOL_VERSION,
        boot_id: parts.boot_id.clone(),
        running: inventory.live.iter().map(wire::live).collect(),
        ended: inventory.ended.iter().map(|end| attempt_end_to_wire(end)).collect(),
        images,
        node_id: parts.identity.node_id.clone(),
        cluster_id: parts.cluster.clone(),
        instance_id: parts.instance_id.clone(),
        not_ready: parts.not_ready.borrow().clone().unwrap_or_default(),
    }
}
