//! The replicas that have announced themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_domain::ids::SchedulerId;

use super::head::after;
use crate::SchedulerInfo;

/// Replicas by id, each with the end of its announcement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announced(BTreeMap<SchedulerId, (SchedulerInfo, u64)>);

impl Announced {
    /// Keeps a replica for a time.
    pub(crate) fn announce(&mut self, scheduler: &SchedulerInfo, ttl: Duration, now_ms: u64) {
        let info = SchedulerInfo { heartbeat_time_ms: now_ms, ..scheduler.clone() };
        self.0.retain(|_, (_, expiry_ms)| *expiry_ms > now_ms);
        self.0.insert(info.id.clone(), (info, after(now_ms, ttl)));
    }

    /// Lists those whose announcement has not expired, by id.
    pub(crate) fn alive(&self, now_ms: u64) -> Vec<SchedulerInfo> {
        let alive = self.0.values().filter(|(_, expiry_ms)| *expiry_ms > now_ms);
        alive.map(|(info, _)| info.clone()).collect()
    }
}
