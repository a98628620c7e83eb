//! What placement is told, and what it answers.

use super::worth::Policy;
use crate::constraint::Labels;
use crate::ids::{ExecutorId, JobId, Namespace};
use crate::resources::{Capacity, Demand, Reserved};

/// What placement needs to know of an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The executor.
    pub id: ExecutorId,
    /// False for one that must not get new jobs; it still counts as large enough for a job.
    pub takes_jobs: bool,
    /// What it has in all.
    pub capacity: Capacity,
    /// What is reserved on it.
    pub reserved: Reserved,
    /// Its labels.
    pub labels: Labels,
}

impl Node {
    /// Says whether there is room for a demand now, on labels that will do.
    pub fn fits(&self, demand: &Demand) -> bool {
        demand.suits(&self.labels) && demand.fits(&self.capacity, &self.reserved)
    }

    /// Says whether there would be if it ran nothing.
    pub fn fits_empty(&self, demand: &Demand) -> bool {
        demand.suits(&self.labels) && demand.fits_empty(&self.capacity)
    }
}

/// What placement needs to know of a job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The job.
    pub job: JobId,
    /// What it asks for.
    pub demand: Demand,
    /// An executor to be used only if no other will do.
    pub avoid: Option<ExecutorId>,
    /// The higher the sooner.
    pub priority: u8,
    /// Whose it is; namespaces share the cluster fairly.
    pub namespace: Namespace,
    /// When it was submitted.
    pub create_time_ms: u64,
    /// Since when it is ready.
    pub ready_time_ms: u64,
    /// How long it may run at most.
    pub run_timeout_ms: Option<u64>,
    /// False for a job that must not start while the store may have forgotten that it did.
    pub may_repeat: bool,
    /// Names its image.
    pub image_hash: u64,
}

/// What placement needs to know of a job that has an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The job.
    pub job: JobId,
    /// Where it is.
    pub executor: ExecutorId,
    /// What it asked for.
    pub demand: Demand,
    /// The devices that it has.
    pub gpu_device_ids: Vec<String>,
    /// Whose it is.
    pub namespace: Namespace,
    /// When it ends.
    pub ends: Ends,
}

/// When a job ends at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Then.
    By(u64),
    /// So long after it has started, which it has not yet.
    Within(u64),
    /// Nobody knows.
    Unknown,
}

impl Ends {
    /// The end of a job that may have started.
    pub fn new(start_time_ms: Option<u64>, run_timeout_ms: Option<u64>) -> Self {
        match (start_time_ms, run_timeout_ms) {
            (_, None) => Self::Unknown,
            (None, Some(lasts_ms)) => Self::Within(lasts_ms),
            (Some(start_ms), Some(lasts_ms)) => Self::By(start_ms.saturating_add(lasts_ms)),
        }
    }

    /// When that is, as things are now; `u64::MAX` where nobody knows. What is late is thought to be late by as much
    /// again.
    pub fn by_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::By(ends_ms) if ends_ms >= now_ms => ends_ms,
            Self::By(ends_ms) => now_ms.saturating_add(now_ms - ends_ms),
            Self::Within(lasts_ms) => now_ms.saturating_add(lasts_ms),
            Self::Unknown => u64::MAX,
        }
    }
}

/// Where a job goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The executor.
    pub executor: ExecutorId,
    /// The devices, as many as the job asked for.
    pub gpu_device_ids: Vec<String>,
}

/// How jobs are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// How executors are chosen.
    pub policy: Policy,
    /// How long a job waits before an executor is kept for it.
    pub age_limit_ms: u64,
}

impl Default for Placement {
    fn default() -> Self {
        Self { policy: Policy::Auto, age_limit_ms: 300_000 }
    }
}

/// When and how far a round goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Now.
    pub now_ms: u64,
    /// It ends with so many jobs placed.
    pub limit: usize,
    /// So many at most are put in order at once, the hardest first.
    pub window: usize,
    /// False where jobs that must not start twice are passed over.
    pub with_unrepeatable: bool,
}

/// What a round decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Jobs and where they go, in the order in which they were placed.
    pub placed: Vec<(JobId, Choice)>,
    /// True where every job was offered to every executor: whatever is not placed fits nowhere now.
    pub is_complete: bool,
    /// Executors that are kept for jobs that have waited for too long.
    pub reserved: Vec<(JobId, ExecutorId)>,
}

/// What would become of a job if it waited with the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trial {
    /// Where it would go now; none where it would wait.
    pub choice: Option<Choice>,
    /// Executors that would be kept, and for which jobs.
    pub reserved: Vec<(JobId, ExecutorId)>,
    /// Where there will be room for it first, if nothing else came; none where it would go now, or never.
    pub opening: Option<Opening>,
}

/// Room that jobs make by ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Where.
    pub executor: ExecutorId,
    /// How many jobs have to end.
    pub jobs: usize,
    /// When they will have, at the latest; none where nobody knows.
    pub by_ms: Option<u64>,
}
