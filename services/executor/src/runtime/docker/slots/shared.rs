//! What the calls for jobs and the keeper of slots share. It asks no engine.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::pool::{Pool, Slot};
use crate::runtime::{ContainerName, ContainerPlan, labels};

/// The largest exit code that is not made of a signal.
const MOST_PLAIN: i64 = 128;

/// The slots of an engine. Until its keeper begins, there are none.
#[derive(Default)]
pub(in crate::runtime::docker) struct Slots {
    /// Held for moments only.
    pool: Mutex<Pool>,
    /// Wakes the keeper.
    pub(super) changed: Notify,
}

impl Slots {
    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the slots of something, and the keeper that there may be something to do.
    fn tell<T>(&self, news: impl FnOnce(&mut Pool, Instant) -> T) -> T {
        let told = news(&mut self.pool(), Instant::now());
        self.changed.notify_one();
        told
    }

    /// Gives a container that will be made a slot; `None` where there is none.
    pub fn take(&self, plan: &ContainerPlan) -> Option<Arc<Slot>> {
        self.tell(|pool, now| pool.take(&plan.name, &plan.namespace, plan.network, now))
    }

    /// No container was made: another one may have the slot.
    pub fn unused(&self, container: &ContainerName) {
        self.tell(|pool, now| pool.unused(container, now));
    }

    /// The container may have been made or started, or may have got a signal: no other gets its slot.
    pub fn doom(&self, container: &ContainerName) {
        self.pool().doom(container);
    }

    /// The container could not be made or started in its slot: it gets no other one, and no other container
    /// gets this one.
    pub fn failed(&self, container: &ContainerName) {
        if self.tell(|pool, now| pool.failed(container, now)) {
            tracing::warn!(
                "network slots fail, one after the other: for a while, jobs run in networks of their own, which \
                 start slower"
            );
        }
    }

    /// The container runs.
    pub fn started(&self, container: &ContainerName) {
        self.pool().started(container);
    }

    /// There is no such container, or it has not run and will not.
    pub fn gone(&self, container: &ContainerName) {
        self.tell(|pool, now| pool.gone(container, now));
    }

    /// Says whether the container has ended and left its slot to others.
    pub fn has_left(&self, container: &ContainerName) -> bool {
        self.pool().has_left(container)
    }

    /// Takes note of what a close look at a container showed.
    pub fn seen(&self, container: &ContainerName, found: &ContainerInspectResponse) {
        if let Some(plainly) = end(found) {
            self.tell(|pool, now| pool.ended(container, plainly, now));
        }
    }

    /// Takes note of slots that a list shows as dead.
    pub fn listed(&self, containers: &[ContainerSummary]) {
        let is_slot =
            |it: &&ContainerSummary| it.labels.as_ref().is_some_and(|l| l.contains_key(labels::SLOT));
        let is_dead = |it: &&ContainerSummary| {
            matches!(it.state, Some(ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD))
        };
        for id in containers.iter().filter(is_slot).filter(is_dead).filter_map(|it| it.id.as_deref()) {
            self.tell(|pool, now| pool.died(id, now));
        }
    }
}

/// Says whether a container's main process has ended, and if so, whether nothing but itself ended it.
fn end(found: &ContainerInspectResponse) -> Option<bool> {
    let state = found.state.as_ref()?;
    match state.status? {
        ContainerStateStatusEnum::EXITED => {}
        // It is being taken apart, and no process of it runs; but how it ended is not told.
        ContainerStateStatusEnum::DEAD | ContainerStateStatusEnum::REMOVING => return Some(false),
        ContainerStateStatusEnum::CREATED
        | ContainerStateStatusEnum::RUNNING
        | ContainerStateStatusEnum::PAUSED
        | ContainerStateStatusEnum::RESTARTING
        | ContainerStateStatusEnum::STOPPING
        | ContainerStateStatusEnum::EMPTY => return None,
    }
    let by_itself = state.exit_code.is_some_and(|code| (0..=MOST_PLAIN).contains(&code));
    let in_peace = state.oom_killed != Some(true) && state.error.as_ref().is_none_or(String::is_empty);
    Some(by_itself && in_peace && state.running != Some(true) && state.pid.unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: &str) -> Option<bool> {
        let text = format!("{{\"Id\":\"x\",\"State\":{state}}}");
        end(&serde_json::from_str(&text).expect("it is JSON"))
    }

    #[test]
    fn only_an_exit_of_its_own_accord_is_a_plain_end() {
        let plain = r#"{"Status":"exited","ExitCode":3,"OOMKilled":false,"Pid":0,"Error":""}"#;
        assert_eq!(seen(plain), Some(true));
        for other in [
            r#"{"Status":"exited","ExitCode":137,"OOMKilled":false}"#,
            r#"{"Status":"exited","ExitCode":143,"OOMKilled":false}"#,
            r#"{"Status":"exited","ExitCode":0,"OOMKilled":true}"#,
            r#"{"Status":"exited","ExitCode":0,"Error":"something"}"#,
            r#"{"Status":"dead","ExitCode":0}"#,
            r#"{"Status":"removing","ExitCode":0}"#,
        ] {
            assert_eq!(seen(other), Some(false), "{other}");
        }
        for running in ["created", "running", "paused", "restarting"] {
            assert_eq!(seen(&format!("{{\"Status\":\"{running}\"}}")), None, "{running}");
        }
    }
}
