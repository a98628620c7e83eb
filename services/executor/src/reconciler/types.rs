//! What passes between the reconciler, the session and the steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_domain::ids::AttemptRef;
use berth_domain::lifecycle::AttemptEnd;
use berth_domain::reconcile::Stop;
use berth_domain::resources::Reserved;
use berth_domain::spec::JobSpec;
use tokio::sync::oneshot;

use crate::runtime::{EngineError, Inspected, Listed};

/// What the schedulers want to be run in one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The job's spec; or, where it cannot be run here, why.
    pub spec: Result<JobSpec, String>,
    /// The chosen GPU devices.
    pub gpu_device_ids: Vec<String>,
    /// The member's index, for a member of an array.
    pub array_index: Option<u32>,
    /// The trace it belongs to (W3C Trace Context); may be empty.
    pub traceparent: String,
}

/// A change of what the schedulers want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// The starts are everything that is wanted.
    pub full_set: bool,
    /// Attempts that are wanted; one that is known already stays as it is.
    pub starts: Vec<(AttemptRef, Order)>,
    /// Attempts to be aborted, with the grace between SIGTERM and SIGKILL in milliseconds; `None`
    /// is the spec's. They stay wanted until their end was reported.
    pub stops: Vec<(AttemptRef, Option<u64>)>,
    /// Attempts that are wanted as they were told before.
    pub confirmed: Vec<AttemptRef>,
}

/// What the session tells the reconciler.
#[derive(Debug)]
pub enum Command {
    /// What is wanted has changed.
    Orders(Orders),
    /// A report was answered.
    Acknowledged {
        /// The attempt of the report.
        attempt: AttemptRef,
        /// The report told the attempt's end.
        ended: bool,
        /// The attempt is the job's current one; if not, it must not run on.
        current: bool,
    },
    /// A scheduler has registered this process; a whole set follows.
    Registered,
    /// The attempt is not wanted here.
    Dismiss(AttemptRef),
    /// Asks for everything a registration must tell.
    Inventory(oneshot::Sender<Inventory>),
}

/// What a registration tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Attempts that have not ended.
    pub live: Vec<LiveAttempt>,
    /// Attempts that have; those the schedulers do not know of come first, then the newest.
    pub ended: Vec<Arc<AttemptEnd>>,
    /// The engine has named its containers; without that, there may be more.
    pub containers_known: bool,
}

/// An attempt that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveAttempt {
    /// The attempt.
    pub attempt: AttemptRef,
    /// When its container started; `None` when it has not.
    pub started_ms: Option<u64>,
    /// Its GPU devices, as far as they are known.
    pub gpu_device_ids: Vec<String>,
    /// Its spec is in hand.
    pub spec_known: bool,
}

/// What there is to report of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reportable {
    /// Its container runs.
    Running,
    /// It has ended, and the schedulers have not taken note.
    Ended(Arc<AttemptEnd>),
}

/// What the session shows the schedulers; always the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What is to be reported.
    pub reports: Arc<BTreeMap<AttemptRef, Reportable>>,
    /// The digest of what is wanted here; see [`berth_domain::digest`].
    pub assigned_digest: u64,
    /// What the running containers were given.
    pub used: Reserved,
    /// The engine has named its containers once.
    pub containers_known: bool,
}

/// Where an attempt is before its container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The order has come.
    Accepted,
    /// Its image is pulled.
    Pulling,
    /// Its container is made.
    Creating,
    /// Its container is started.
    Starting,
}

/// A sign of progress: shown, never stored, and dropped when nobody reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The attempt.
    pub attempt: AttemptRef,
    /// Where it is.
    pub phase: Phase,
    /// Bytes of the image that have come.
    pub pulled_bytes: u64,
    /// Bytes of the image known so far.
    pub total_bytes: u64,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The container was looked at.
    Seen(Option<Inspected>),
    /// The container was made.
    Created,
    /// The container was started.
    Started,
    /// The container has never run, and cannot in the network slot it was made in.
    SlotDead,
    /// SIGTERM was sent.
    Stopping(Stop),
    /// SIGTERM may have been sent: the engine did not answer.
    Unsure {
        /// The stop, had it been.
        stop: Stop,
        /// What went wrong.
        message: String,
    },
    /// SIGKILL was sent.
    Killed,
    /// How the attempt ended is on disk.
    Ended {
        /// How.
        end: AttemptEnd,
        /// Its output is on disk to the last byte, or there was none.
        logs_captured: bool,
    },
    /// The container is gone.
    Removed,
    /// Nothing of the attempt is left on disk.
    Forgotten,
    /// The step was given up before it did anything.
    Cancelled,
    /// The step failed; what it did is not known.
    Broken {
        /// The engine said no, as against no answer.
        refused: bool,
        /// What went wrong.
        message: String,
    },
}

/// What tasks beside the owner tell it.
#[derive(Debug)]
pub(super) enum Notice {
    /// A step is done.
    Done(AttemptRef, Outcome),
    /// A container runs no more, or is gone. `witnessed` says that the engine told of the exit
    /// while it happened.
    Exit {
        /// The attempt.
        attempt: AttemptRef,
        /// What the engine shows now.
        seen: Option<Inspected>,
        /// The engine told of the exit when it happened.
        witnessed: bool,
    },
    /// The output of an attempt is complete.
    Captured(AttemptRef),
    /// All containers, asked for in the given turn.
    Listed(u64, Vec<Listed>),
    /// The list could not be had.
    ListFailed(EngineError),
}
