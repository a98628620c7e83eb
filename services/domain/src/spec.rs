//! What a user asks to be run. A `JobSpec` exists only once it has passed every check of the gate
//! that built it (the API crate); the limits it is held to stand here.

use std::collections::BTreeMap;

use crate::digest::{Content, SpecHash};
use crate::ids::Namespace;
use crate::resources::Demand;

/// The largest spec accepted, in encoded bytes.
pub const MAX_SPEC_BYTES: usize = 256 * 1024;
/// The most environment entries a spec may have.
pub const MAX_ENV_ENTRIES: usize = 1_000;
/// The most labels a spec may have.
pub const MAX_LABELS: usize = 64;
/// The CPU of a job that names none, in thousandths of a core.
pub const DEFAULT_CPU_MILLIS: u64 = 1_000;
/// The memory of a job that names none: 256 MiB.
pub const DEFAULT_MEMORY_BYTES: u64 = 256 * 1024 * 1024;
/// The least memory a container can be held to: 6 MiB, as Docker Engine has it.
pub const MIN_MEMORY_BYTES: u64 = 6 * 1024 * 1024;
/// The priority of a job that names none; the range is 0 to 100, higher first.
pub const DEFAULT_PRIORITY: u8 = 50;
/// How long a job has to end after SIGTERM before it is killed, unless it says otherwise.
pub const DEFAULT_STOP_GRACE_MS: u64 = 10_000;
/// How long a pull may make no progress, unless the job says otherwise.
pub const DEFAULT_PULL_TIMEOUT_MS: u64 = 120_000;
/// How often a job is put back after faults that are not its own.
pub const MAX_INFRASTRUCTURE_RETRIES: u32 = 5;

/// What becomes of an attempt whose executor is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLost {
    /// Run it again elsewhere: at least once.
    #[default]
    Retry,
    /// End it as failed: at most one start, ever.
    Fail,
    /// Wait until the executor returns or is fenced: never two at once.
    Hold,
}

/// The network a job's container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// A bridge with address translation; nothing is published to the host.
    #[default]
    Bridge,
    /// Only a loopback interface.
    None,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Pull only what the executor does not have.
    #[default]
    Missing,
    /// Never pull; an image that is not there fails the job.
    Never,
}

/// Whether a job's container is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reuse {
    /// A container of its own.
    #[default]
    None,
    /// A process in a container that others of its kind have used, one after the other.
    Warm,
}

/// The clocks of a job, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clocks {
    /// How long the job may be ready without a first allocation; `None` waits for ever.
    pub queue_timeout_ms: Option<u64>,
    /// The same after a loss; `None` waits for ever.
    pub requeue_timeout_ms: Option<u64>,
    /// How long one attempt may run; `None` is unlimited.
    pub run_timeout_ms: Option<u64>,
    /// How long the job has to end after SIGTERM.
    pub stop_grace_ms: u64,
    /// How long a pull may make no progress.
    pub pull_timeout_ms: u64,
}

/// What is run, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// The image reference.
    pub image: String,
    /// The argument vector; empty means the image's own command.
    pub command: Vec<String>,
    /// Environment of the container.
    pub env: BTreeMap<String, String>,
    /// Working directory inside the container; empty means the image's own.
    pub working_dir: String,
    /// Resources asked for.
    pub demand: Demand,
    /// 0 to 100, higher first.
    pub priority: u8,
    /// The job's clocks.
    pub clocks: Clocks,
    /// How often the job's own failures are retried.
    pub max_retries: u32,
    /// User's labels, for filters.
    pub labels: BTreeMap<String, String>,
    /// What becomes of an attempt whose executor is lost.
    pub on_lost: OnLost,
    /// The container's network.
    pub network: Network,
    /// When the image is pulled.
    pub pull_policy: PullPolicy,
    /// The tenant.
    pub namespace: Namespace,
    /// Whether its container is its own.
    pub reuse: Reuse,
}

impl JobSpec {
    /// Estimates the size of the encoded spec from its texts, in bytes: never less than half of it.
    pub fn approximate_bytes(&self) -> usize {
        let pairs =
            |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| k.len() + v.len() + 8).sum::<usize>();
        let command: usize = self.command.iter().map(|argument| argument.len() + 4).sum();
        200 + self.image.len() + self.working_dir.len() + command + pairs(&self.env) + pairs(&self.labels)
    }

    /// Names the spec by its content: SHA-256 over every field.
    /// Two submits with one idempotency key are the same submit when the names are equal.
    pub fn content_hash(&self) -> SpecHash {
        // Whoever adds a field has to say here how it is told.
        let Self {
            image,
            command,
            env,
            working_dir,
            demand,
            priority,
            clocks,
            max_retries,
            labels,
            on_lost,
            network,
            pull_policy,
            namespace,
            reuse,
        } = self;
        let Demand { cpu_millis, memory_bytes, gpu_count, gpu_models, constraints } = demand;
        let Clocks { queue_timeout_ms, requeue_timeout_ms, run_timeout_ms, stop_grace_ms, pull_timeout_ms } =
            clocks;
        let mut content = Content::default();
        content.text(image);
        content.texts(command);
        content.pairs(env);
        content.text(working_dir);
        [*cpu_millis, *memory_bytes, u64::from(*gpu_count)]
            .into_iter()
            .for_each(|number| content.number(number));
        content.texts(gpu_models);
        content.number(constraints.len() as u64);
        constraints.iter().for_each(|constraint| content.text(&constraint.to_string()));
        content.number(u64::from(*priority));
        for clock in [queue_timeout_ms, requeue_timeout_ms, run_timeout_ms] {
            content.perhaps(*clock);
        }
        [*stop_grace_ms, *pull_timeout_ms].into_iter().for_each(|clock| content.number(clock));
        content.number(u64::from(*max_retries));
        content.pairs(labels);
        for choice in [*on_lost as u64, *network as u64, *pull_policy as u64, *reuse as u64] {
            content.number(choice);
        }
        content.text(namespace.as_str());
        content.hash()
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
