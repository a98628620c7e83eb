//! Announcements of scheduler replicas.

use berth_domain::ids::SchedulerId;
use prost::Message;

use super::{pb, undecodable};
use crate::{SchedulerInfo, StoreError};

/// Encodes an announcement; the time of it is not part of it.
pub(crate) fn encode_scheduler(scheduler: &SchedulerInfo) -> Vec<u8> {
    pb::Scheduler {
        id: scheduler.id.as_str().to_owned(),
        address: scheduler.address.clone(),
        version: scheduler.version.clone(),
    }
    .encode_to_vec()
}

/// Decodes an announcement and gives it the time stored beside it.
pub(crate) fn decode_scheduler(bytes: &[u8], heartbeat_time_ms: u64) -> Result<SchedulerInfo, StoreError> {
    let record = pb::Scheduler::decode(bytes).map_err(|error| undecodable("announcement", &error))?;
    Ok(SchedulerInfo {
        id: SchedulerId::trusted(record.id),
        address: record.address,
        version: record.version,
        heartbeat_time_ms,
    })
}
