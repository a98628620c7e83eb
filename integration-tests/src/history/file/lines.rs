//! The lines of a history's file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(super) enum Line {
    /// What holds for the whole history; the last one counts.
    Settings {
        #[serde(default)]
        lost_after_ms: u64,
        #[serde(default)]
        is_quiet: bool,
        #[serde(default)]
        calm_since_ms: u64,
        #[serde(default)]
        until_ms: u64,
        #[serde(default)]
        lost_ms: u64,
    },
    /// A submit, with the job where it was acknowledged.
    Submit {
        key: String,
        spec: String,
        #[serde(default)]
        job: Option<String>,
        #[serde(default)]
        refused: bool,
        #[serde(default)]
        began_ms: u64,
        #[serde(default)]
        answered_ms: u64,
        #[serde(default)]
        end: Option<String>,
        #[serde(default)]
        exit_code: Option<i32>,
    },
    /// An abort, with the state where it was answered.
    Abort {
        job: String,
        #[serde(default)]
        state: Option<String>,
        #[serde(default)]
        at_ms: u64,
    },
    /// A change of the store.
    Change(Box<ChangeLine>),
    /// What a container did.
    Run {
        job: String,
        attempt: u32,
        #[serde(default)]
        epoch: u64,
        executor: String,
        started_ms: u64,
        #[serde(default)]
        ended_ms: Option<u64>,
        #[serde(default)]
        exit_code: Option<i32>,
        #[serde(default)]
        neighbour: bool,
    },
    /// What the store kept beside its records.
    Sets {
        revision: u64,
        #[serde(default)]
        pending: Vec<String>,
        #[serde(default)]
        delayed: Vec<String>,
        #[serde(default)]
        finished: Vec<String>,
        #[serde(default)]
        assigned: BTreeMap<String, Vec<String>>,
        #[serde(default)]
        reserved: BTreeMap<String, ReservedLine>,
    },
    /// What a watcher was told: a job at a revision, or that all of it is void.
    Told {
        watch: usize,
        #[serde(default)]
        job: String,
        #[serde(default)]
        revision: u64,
        #[serde(default)]
        resync: bool,
    },
    /// What a client read of a job; no revision where there was none.
    Read {
        reader: usize,
        job: String,
        #[serde(default)]
        revision: Option<u64>,
        #[serde(default)]
        began_ms: u64,
    },
    /// A call that nobody answered.
    Unanswered { call: String },
}

/// A change of the store: exactly one of job, deleted, executor and leader.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChangeLine {
    #[serde(default = "first")]
    pub generation: u64,
    pub revision: u64,
    #[serde(default)]
    pub at_ms: u64,
    #[serde(default)]
    pub lost: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ExecutorLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<LeaderLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<ByLine>,
}

/// Whose word made a change: a leader's, a report's, or that of neither.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ByLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(default)]
    pub attempt_epoch: u64,
}

fn first() -> u64 {
    1
}

fn middle() -> u8 {
    50
}

/// A job's record, as far as promises are about it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct JobLine {
    pub id: String,
    pub state: String,
    #[serde(default)]
    pub attempt: u32,
    #[serde(default)]
    pub attempt_epoch: u64,
    #[serde(default)]
    pub executor_id: Option<String>,
    #[serde(default)]
    pub gpu_device_ids: Vec<String>,
    #[serde(default)]
    pub on_lost: Option<String>,
    #[serde(default)]
    pub cpu_millis: u64,
    #[serde(default)]
    pub memory_bytes: u64,
    #[serde(default)]
    pub constraints: Vec<String>,
    #[serde(default)]
    pub gpu_count: u32,
    #[serde(default)]
    pub gpu_models: Vec<String>,
    #[serde(default = "middle")]
    pub priority: u8,
    #[serde(default)]
    pub queue_timeout_ms: Option<u64>,
    #[serde(default)]
    pub requeue_timeout_ms: Option<u64>,
    #[serde(default)]
    pub run_timeout_ms: Option<u64>,
    #[serde(default)]
    pub create_time_ms: u64,
    #[serde(default)]
    pub due_time_ms: Option<u64>,
    #[serde(default)]
    pub end_time_ms: Option<u64>,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub end_reason: Option<String>,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub infrastructure_retries: u32,
    #[serde(default)]
    pub stop_unconfirmed: bool,
    #[serde(default)]
    pub abort_requested: bool,
    #[serde(default)]
    pub requeue_requested: bool,
}

/// An executor's record, as far as promises are about it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExecutorLine {
    pub id: String,
    #[serde(default)]
    pub session: Option<String>,
    #[serde(default)]
    pub lost: bool,
    #[serde(default)]
    pub not_ready: bool,
    #[serde(default)]
    pub restarting: bool,
    #[serde(default)]
    pub draining: bool,
    #[serde(default)]
    pub fenced: bool,
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    #[serde(default)]
    pub gpu_device_ids: Vec<String>,
    #[serde(default)]
    pub gpu_models: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Who leads; nobody where the id is empty.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LeaderLine {
    pub epoch: u64,
    #[serde(default)]
    pub scheduler_id: String,
}

/// What is reserved on an executor.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReservedLine {
    #[serde(default)]
    pub cpu_millis: u64,
    #[serde(default)]
    pub memory_bytes: u64,
    #[serde(default)]
    pub gpu_device_ids: Vec<String>,
}
