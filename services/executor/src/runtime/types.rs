//! What goes to a container engine and what comes back, in Berth's words.

use std::collections::BTreeMap;
use std::fmt;

use berth_domain::digest::SpecHash;
use berth_domain::ids::{AttemptRef, JobId, Namespace};
use berth_domain::reconcile::ContainerState;
use berth_domain::resources::GpuDevice;
use berth_domain::spec::{Network, Reuse};
use bytes::Bytes;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// The labels by which containers are found again.
pub mod labels {
    /// The cluster's name.
    pub const CLUSTER: &str = "berth.cluster";
    /// The executor's name.
    pub const EXECUTOR: &str = "berth.executor";
    /// The job's id.
    pub const JOB: &str = "berth.job";
    /// The attempt's number.
    pub const ATTEMPT: &str = "berth.attempt";
    /// The epoch of the leader that assigned the attempt.
    pub const EPOCH: &str = "berth.epoch";
    /// On containers that hold a network for jobs, and are no attempt's: which network it is.
    pub const SLOT: &str = "berth.slot";
    /// On containers that jobs use one after the other, and are no attempt's: whose they are.
    pub const WARM: &str = "berth.warm";
    /// The spec's content, by name.
    pub const SPEC_HASH: &str = "berth.spec-hash";
    /// The machine's boot in which the container was made.
    pub const BOOT: &str = "berth.boot-id";
    /// On jobs that start at most once: milliseconds between the two signals when the lease ends.
    pub const FENCE: &str = "berth.fence-grace-ms";
}

/// Whose containers are meant: those of one executor of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: String,
    /// The executor's name.
    pub executor: String,
}

/// What an engine's upkeep is for.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// Whose containers these are.
    pub owner: Owner,
    /// How many network namespaces are kept ready for jobs at most; 0 is none.
    pub network_slots: usize,
    /// Ends it.
    pub stop: CancellationToken,
}

/// The name of an attempt's container: the same attempt always has the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerName(String);

impl ContainerName {
    /// Names the container of an attempt: `berth-<cluster>-<executor>-<job>-<attempt>-<epoch>`.
    pub fn new(owner: &Owner, attempt: &AttemptRef) -> Self {
        let Owner { cluster, executor } = owner;
        let AttemptRef { job, number, epoch } = attempt;
        Self(format!("berth-{cluster}-{executor}-{job}-{number}-{epoch}"))
    }

    /// Takes the name that an engine shows of a container.
    pub(super) fn found(name: String) -> Self {
        Self(name)
    }

    /// Shows the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything a container is made of. There is no field for anything that could leave its box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPlan {
    /// Its name.
    pub name: ContainerName,
    /// The image reference.
    pub image: String,
    /// The argument vector given to the image's entrypoint; empty means the image's own command.
    pub command: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory; empty means the image's own.
    pub working_dir: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// CPU in thousandths of a core, a hard quota.
    pub cpu_millis: u64,
    /// Memory in bytes, a hard limit without swap.
    pub memory_bytes: u64,
    /// Its GPU devices; emulated ones are in the environment only.
    pub gpus: Vec<GpuDevice>,
    /// Its network.
    pub network: Network,
    /// The tenant, with whose jobs alone it may share anything, and only one after the other.
    pub namespace: Namespace,
    /// Whether the container is its own.
    pub reuse: Reuse,
}

/// What an engine shows of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineState {
    /// Made, and never started.
    Created,
    /// Its main process runs.
    Running,
    /// Its main process has ended.
    Exited,
}

/// A container of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The attempt it belongs to, by its labels.
    pub attempt: AttemptRef,
    /// What it is doing.
    pub state: EngineState,
    /// The machine's boot in which it was made.
    pub boot_id: String,
    /// Milliseconds between the two signals when the lease ends; `None` for jobs that run on.
    pub fence_grace_ms: Option<u64>,
}

impl Listed {
    /// Reads a container of a list; `None` when it is no attempt's.
    pub fn of_labels<'a>(state: EngineState, get: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(Self {
            attempt: attempt_of_labels(&get)?,
            state,
            boot_id: get(labels::BOOT).unwrap_or_default().to_owned(),
            fence_grace_ms: get(labels::FENCE).and_then(|text| text.parse().ok()),
        })
    }

    /// Says whether the list agrees with what is known.
    pub fn shows(&self, known: ContainerState) -> bool {
        match (self.state, known) {
            (EngineState::Created, ContainerState::Created)
            | (EngineState::Running, ContainerState::Running { .. })
            | (EngineState::Exited, ContainerState::Exited) => true,
            (EngineState::Created | EngineState::Running | EngineState::Exited, _) => false,
        }
    }
}

/// A container seen closely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// What it is doing.
    pub state: EngineState,
    /// The exit code of its main process, once it has ended.
    pub exit_code: i32,
    /// The kernel killed something in it for lack of memory.
    pub oom_killed: bool,
    /// When it started, in milliseconds since the Unix epoch.
    pub started_ms: Option<u64>,
    /// When it ended, in milliseconds since the Unix epoch.
    pub finished_ms: Option<u64>,
    /// What the engine says went wrong; empty when nothing did.
    pub error: String,
}

/// A signal for a container's main process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: please end.
    Term,
    /// SIGKILL.
    Kill,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The process got it.
    Sent,
    /// No process runs.
    NotRunning,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Bytes that have come.
    pub pulled_bytes: u64,
    /// Bytes of all layers known so far.
    pub total_bytes: u64,
    /// Grows with every sign of life.
    pub steps: u64,
}

/// Where a line of output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutputStream {
    /// The container's standard output.
    Stdout,
    /// The container's standard error.
    Stderr,
    /// Berth itself.
    System,
}

/// The most lines of output that are handed on at once.
pub const MOST_LINES: usize = 256;

/// A piece of output, as the engine cut it; most often a line with its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// Where it comes from.
    pub stream: OutputStream,
    /// When the engine read it, in nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The bytes, unchanged.
    pub bytes: Bytes,
}

/// Says why an engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The engine was not reached: nothing was asked of it, and asking again may help. A sentence
    /// that says where it was looked for, why it was not found, and what to do.
    #[error("{0}")]
    Unreachable(String),
    /// The engine did not answer: nothing is known, and asking again may help.
    #[error("the container engine does not answer: {0}")]
    Unavailable(String),
    /// The engine answered that it cannot.
    #[error("the container engine failed: {0}")]
    Failed(String),
}

/// Says why no container was made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CreateError {
    /// The image has to be pulled first.
    #[error("the image is not here")]
    NoImage,
    /// The engine refuses the request itself, and would again.
    #[error("the container engine refuses this job: {0}")]
    Refused(String),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Says why a container was not started.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartError {
    /// The command cannot be run: 127 when it is not there, 126 when it is no program.
    #[error("{message}")]
    Command {
        /// 126 or 127.
        code: i32,
        /// What the engine said.
        message: String,
    },
    /// The container is gone.
    #[error("the container is gone")]
    Gone,
    /// It has never run, and never can: the network that was kept ready for it is dead. Once it was removed and
    /// made again, it has a network of its own.
    #[error("its network slot is dead: {0}")]
    SlotDead(String),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Says why an image could not be pulled.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PullError {
    /// It does not exist, is denied, or its reference is none: trying again cannot help.
    #[error("{0}")]
    Permanent(String),
    /// It could not be had now.
    #[error("{0}")]
    Transient(String),
}

/// Writes an image reference with its tag: one that has neither tag nor digest means `latest`.
pub fn tagged(image: &str) -> String {
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    if name.contains(':') || image.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

/// Makes the labels of an attempt's container.
pub fn attempt_labels(
    owner: &Owner,
    attempt: &AttemptRef,
    spec_hash: SpecHash,
    boot_id: &str,
) -> BTreeMap<String, String> {
    [
        (labels::CLUSTER, owner.cluster.clone()),
        (labels::EXECUTOR, owner.executor.clone()),
        (labels::JOB, attempt.job.to_string()),
        (labels::ATTEMPT, attempt.number.to_string()),
        (labels::EPOCH, attempt.epoch.to_string()),
        (labels::SPEC_HASH, spec_hash.to_string()),
        (labels::BOOT, boot_id.to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Reads the attempt from a container's labels; `None` when they are not ours.
pub fn attempt_of_labels<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<AttemptRef> {
    Some(AttemptRef {
        job: JobId::parse(get(labels::JOB)?).ok()?,
        number: get(labels::ATTEMPT)?.parse().ok()?,
        epoch: get(labels::EPOCH)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        assert_eq!(tagged("busybox"), "busybox:latest");
        assert_eq!(tagged("host:5000/a/b"), "host:5000/a/b:latest");
        assert_eq!(tagged("host:5000/a/b:1"), "host:5000/a/b:1");
        assert_eq!(tagged("a@sha256:00"), "a@sha256:00");
    }
}
