//! Reads what Docker shows of a container.

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum,
};
use prost_types::Timestamp;

use crate::runtime::{EngineState, Inspected, Listed};

/// Reads a close look.
pub(super) fn inspected(container: &ContainerInspectResponse) -> Inspected {
    let state = container.state.clone().unwrap_or_default();
    let status = match state.status {
        Some(ContainerStateStatusEnum::CREATED) => EngineState::Created,
        Some(
            ContainerStateStatusEnum::RUNNING
            | ContainerStateStatusEnum::PAUSED
            | ContainerStateStatusEnum::RESTARTING
            | ContainerStateStatusEnum::STOPPING,
        ) => EngineState::Running,
        Some(
            ContainerStateStatusEnum::REMOVING
            | ContainerStateStatusEnum::EXITED
            | ContainerStateStatusEnum::DEAD
            | ContainerStateStatusEnum::EMPTY,
        )
        | None => EngineState::Exited,
    };
    let ended = status == EngineState::Exited;
    Inspected {
        state: status,
        exit_code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1),
        oom_killed: state.oom_killed.unwrap_or(false),
        started_ms: state.started_at.as_deref().and_then(time_ns).map(|ns| ns / 1_000_000),
        finished_ms: state
            .finished_at
            .as_deref()
            .filter(|_| ended)
            .and_then(time_ns)
            .map(|ns| ns / 1_000_000),
        error: state.error.unwrap_or_default(),
    }
}

/// Says whether a container was made in the network of another, and has never run.
pub(super) fn waits_in_slot(container: &ContainerInspectResponse) -> bool {
    let state = container.state.as_ref().and_then(|state| state.status);
    let network = container.host_config.as_ref().and_then(|host| host.network_mode.as_deref());
    state == Some(ContainerStateStatusEnum::CREATED)
        && network.is_some_and(|mode| mode.starts_with("container:"))
}

/// Reads a container of a list; `None` when it has not our labels.
pub(super) fn listed(container: &ContainerSummary) -> Option<Listed> {
    let labels = container.labels.as_ref()?;
    let state = match container.state {
        Some(ContainerSummaryStateEnum::CREATED) => EngineState::Created,
        Some(
            ContainerSummaryStateEnum::RUNNING
            | ContainerSummaryStateEnum::PAUSED
            | ContainerSummaryStateEnum::RESTARTING
            | ContainerSummaryStateEnum::STOPPING,
        ) => EngineState::Running,
        Some(
            ContainerSummaryStateEnum::EXITED
            | ContainerSummaryStateEnum::REMOVING
            | ContainerSummaryStateEnum::DEAD
            | ContainerSummaryStateEnum::EMPTY,
        )
        | None => EngineState::Exited,
    };
    Listed::of_labels(state, |key| labels.get(key).map(String::as_str))
}

/// Reads a time as Docker writes it (RFC 3339), in nanoseconds since the Unix epoch. The zero time
/// that stands for "never" is `None`.
pub(super) fn time_ns(text: &str) -> Option<u64> {
    let time: Timestamp = text.parse().ok()?;
    let seconds = u64::try_from(time.seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(seconds.saturating_mul(1_000_000_000) + u64::try_from(time.nanos).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond_and_never_is_none() {
        assert_eq!(time_ns("1970-01-01T00:00:01.000000002Z"), Some(1_000_000_002));
        assert_eq!(time_ns("2026-11-25T00:26:01.5Z"), Some(1_795_566_361_500_000_000));
        assert_eq!(time_ns("0001-01-01T00:00:00Z"), None);
        assert_eq!(time_ns("yesterday"), None);
    }

    #[test]
    fn a_container_that_never_started_has_no_times() {
        let text = r#"{"Id":"x","State":{"Status":"created","ExitCode":127,"OOMKilled":false,
            "StartedAt":"0001-01-01T00:00:00Z","FinishedAt":"0001-01-01T00:00:00Z","Error":"e"}}"#;
        let seen = inspected(&serde_json::from_str(text).expect("it is JSON"));
        assert_eq!((seen.state, seen.started_ms, seen.finished_ms), (EngineState::Created, None, None));
    }
}
