//! The record of a job: what changes during its life, kept small beside its spec.

use crate::digest::{SpecHash, text_hash};
use crate::ids::{AttemptRef, ExecutorId, JobId, Namespace};
use crate::resources::Demand;
use crate::spec::{JobSpec, OnLost};

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// Waits for an executor.
    Pending,
    /// An executor has been chosen and has to start it.
    Assigned,
    /// Its container runs.
    Running,
    /// Its main process exited with 0.
    Succeeded,
    /// It ended in any other way than success or abort.
    Failed,
    /// It was ended on request.
    Aborted,
}

/// Every state, in the order of a life.
pub const JOB_STATES: [JobState; 6] = [
    JobState::Pending,
    JobState::Assigned,
    JobState::Running,
    JobState::Succeeded,
    JobState::Failed,
    JobState::Aborted,
];

impl JobState {
    /// Says whether the job has ended; such a state never changes again.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Assigned | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Aborted => true,
        }
    }

    /// Says whether one commit may move a job from this state to the other.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => match next {
                Self::Assigned | Self::Failed | Self::Aborted => true,
                // A pending job may be put on a later due time and stay pending.
                Self::Pending => true,
                Self::Running | Self::Succeeded => false,
            },
            // A short job's reports coalesce, so an assigned job may end at once.
            Self::Assigned => true,
            Self::Running => match next {
                Self::Assigned => false,
                Self::Running | Self::Pending | Self::Succeeded | Self::Failed | Self::Aborted => true,
            },
            Self::Succeeded | Self::Failed | Self::Aborted => false,
        }
    }

    /// Names the state in upper case, as the API does.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Assigned => "ASSIGNED",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Aborted => "ABORTED",
        }
    }
}

/// Why a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// Its main process exited; the exit code says how.
    ExitCode,
    /// The kernel killed it for using more memory than it asked for.
    OomKilled,
    /// The image does not exist, or access to it was denied.
    ImageNotFound,
    /// The image could not be pulled in spite of retries.
    ImagePullFailed,
    /// No executor could take it in time.
    QueueTimeout,
    /// It ran longer than it may.
    RunTimeout,
    /// A user asked for its end.
    AbortedByUser,
    /// Its executor was lost.
    ExecutorLost,
    /// The executor or its container engine failed.
    ExecutorFault,
    /// It asked for something that is not allowed.
    RefusedByPolicy,
}

/// The record of a job. Fields that never change stand first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The job's name for ever.
    pub id: JobId,
    /// The tenant.
    pub namespace: Namespace,
    /// A name for people; may be empty and need not be unique.
    pub display_name: String,
    /// Names the spec by its content.
    pub spec_hash: SpecHash,
    /// Names the image, so that it is known where it has run before.
    pub image_hash: u64,
    /// Resources asked for, as in the spec.
    pub demand: Demand,
    /// 0 to 100, higher first.
    pub priority: u8,
    /// Time limit on a first allocation; `None` waits for ever.
    pub queue_timeout_ms: Option<u64>,
    /// Time limit on an allocation after a loss; `None` waits for ever.
    pub requeue_timeout_ms: Option<u64>,
    /// How long one attempt may run; `None` is unlimited.
    pub run_timeout_ms: Option<u64>,
    /// How often the job's own failures are retried.
    pub max_retries: u32,
    /// What becomes of an attempt whose executor is lost.
    pub on_lost: OnLost,
    /// The job this one runs again.
    pub retry_of: Option<JobId>,
    /// When it was submitted.
    pub create_time_ms: u64,

    /// Where it is in its life.
    pub state: JobState,
    /// The number of the latest attempt; 0 before the first.
    pub attempt: u32,
    /// The epoch of the leader that assigned the latest attempt.
    pub attempt_epoch: u64,
    /// The executor of the current attempt or, at the end, of the last one.
    pub executor: Option<ExecutorId>,
    /// GPU devices of the current or last attempt.
    pub gpu_device_ids: Vec<String>,
    /// When it last became ready to be placed.
    pub ready_time_ms: u64,
    /// Until when a pending job is held back; `None` when it is ready.
    pub due_time_ms: Option<u64>,
    /// When its current or last attempt started.
    pub start_time_ms: Option<u64>,
    /// When it ended.
    pub end_time_ms: Option<u64>,
    /// Exit code of the main process of the last attempt that had one.
    pub exit_code: Option<i32>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// A sentence for people on the end, or on the latest put-back.
    pub message: String,
    /// A user asked for its end.
    pub abort_requested: bool,
    /// The grace that the abort asked for instead of the spec's.
    pub abort_grace_ms: Option<u64>,
    /// Its executor is to stop it, and it is to be put back: the executor is being emptied.
    pub requeue_requested: bool,
    /// Nobody saw its last attempt stop, whose executor was lost: it waits for another one, or was ended as
    /// aborted.
    pub stop_unconfirmed: bool,
    /// How often it failed by its own doing and was put back.
    pub own_retries: u32,
    /// How often it was put back after faults that were not its own.
    pub infrastructure_retries: u32,
    /// The executor that just failed it, to be avoided if another will do.
    pub avoid_executor: Option<ExecutorId>,
    /// The store's revision that last changed this record; 0 before the first commit.
    pub revision: u64,
}

/// The one index a job stands in; a function of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobIndex {
    /// Ready to be placed.
    Pending,
    /// Pending, and held back until the given time.
    Delayed(u64),
    /// Assigned to, or running on, the executor.
    Assigned(ExecutorId),
    /// Ended at the given time.
    Finished(u64),
}

impl Job {
    /// Makes the record of a job that was just submitted.
    pub fn new(id: JobId, display_name: String, spec: &JobSpec, now_ms: u64) -> Self {
        Self {
            id,
            namespace: spec.namespace.clone(),
            display_name,
            spec_hash: spec.content_hash(),
            image_hash: text_hash(&spec.image),
            demand: spec.demand.clone(),
            priority: spec.priority,
            queue_timeout_ms: spec.clocks.queue_timeout_ms,
            requeue_timeout_ms: spec.clocks.requeue_timeout_ms,
            run_timeout_ms: spec.clocks.run_timeout_ms,
            max_retries: spec.max_retries,
            on_lost: spec.on_lost,
            retry_of: None,
            create_time_ms: now_ms,
            state: JobState::Pending,
            attempt: 0,
            attempt_epoch: 0,
            executor: None,
            gpu_device_ids: Vec::new(),
            ready_time_ms: now_ms,
            due_time_ms: None,
            start_time_ms: None,
            end_time_ms: None,
            exit_code: None,
            end_reason: None,
            message: String::new(),
            abort_requested: false,
            abort_grace_ms: None,
            requeue_requested: false,
            stop_unconfirmed: false,
            own_retries: 0,
            infrastructure_retries: 0,
            avoid_executor: None,
            revision: 0,
        }
    }

    /// Tells which index the job stands in.
    pub fn index(&self) -> JobIndex {
        match self.state {
            JobState::Pending => match self.due_time_ms {
                Some(due) => JobIndex::Delayed(due),
                None => JobIndex::Pending,
            },
            JobState::Assigned | JobState::Running => match &self.executor {
                Some(executor) => JobIndex::Assigned(executor.clone()),
                // An assigned job always has an executor; a record without one is ready again.
                None => JobIndex::Pending,
            },
            JobState::Succeeded | JobState::Failed | JobState::Aborted => {
                JobIndex::Finished(self.end_time_ms.unwrap_or(self.create_time_ms))
            }
        }
    }

    /// Says whether its executor is to stop it.
    pub fn is_to_stop(&self) -> bool {
        self.abort_requested || self.requeue_requested
    }

    /// Names the current attempt; `None` while the job is pending or ended.
    pub fn current_attempt(&self) -> Option<AttemptRef> {
        match self.state {
            JobState::Assigned | JobState::Running => Some(self.last_attempt()),
            JobState::Pending | JobState::Succeeded | JobState::Failed | JobState::Aborted => None,
        }
    }

    /// Names the latest attempt, current or not.
    pub fn last_attempt(&self) -> AttemptRef {
        AttemptRef { job: self.id.clone(), number: self.attempt, epoch: self.attempt_epoch }
    }
}
