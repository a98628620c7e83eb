//! Where the shipped code decides: a compact record is spelled out into the domain's job, the domain's
//! lifecycle is asked, and its answer is made compact again; the executor's next step is the one that
//! the domain's `reconcile` gives.

use std::collections::BTreeMap;

use berth_domain::ids::{AttemptRef, ExecutorId, JobId, Namespace};
use berth_domain::job::{Job, JobState};
use berth_domain::lifecycle::{AttemptEnd, EndCause, Event, Refused, apply};
use berth_domain::reconcile::{
    Assignment, ContainerState, Memory, Situation, Step, Stop, StopCause, reconcile,
};
use berth_domain::resources::Demand;
use berth_domain::spec::{Clocks, JobSpec, Network, OnLost, PullPolicy, Reuse};

use super::state::{Attempt, Container, End, Exit, Record, Stop as Begun};

/// The time at which everything is decided; whatever is due is due by then.
const NOW_MS: u64 = 1_000_000;
/// Later than any time that is looked at.
const NEVER_MS: u64 = u64::MAX / 2;
const EXECUTOR_NAMES: [&str; 2] = ["a", "b"];

/// Something that happens to a job, in the model's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happens {
    /// A leader chose an executor.
    Assigned {
        /// The executor.
        executor: u8,
        /// The leader's epoch.
        epoch: u8,
    },
    /// Its due time has come.
    Due,
    /// Its executor was judged lost.
    Lost {
        /// An operator has declared it dead.
        is_fenced: bool,
    },
    /// A user wants its end.
    Abort,
    /// An executor says that the attempt's container runs.
    Started {
        /// The attempt, as (number, epoch).
        attempt: (u8, u8),
    },
    /// An executor says how the attempt ended.
    Ended {
        /// The attempt, as (number, epoch).
        attempt: (u8, u8),
        /// How.
        end: End,
        /// Its container had started.
        has_started: bool,
    },
}

/// The jobs' records as they were submitted.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    submitted: Job,
}

impl Lifecycle {
    /// Takes note of what does not change in the life of a job.
    pub fn new(on_lost: OnLost, max_retries: u32) -> Self {
        let spec = JobSpec {
            image: "image".to_owned(),
            command: Vec::new(),
            env: BTreeMap::new(),
            working_dir: String::new(),
            demand: Demand { cpu_millis: 1, memory_bytes: 1, ..Demand::default() },
            priority: 50,
            clocks: Clocks::default(),
            max_retries,
            labels: BTreeMap::new(),
            on_lost,
            network: Network::Bridge,
            pull_policy: PullPolicy::Missing,
            reuse: Reuse::None,
            namespace: Namespace::trusted("default"),
        };
        Self { submitted: Job::new(JobId::trusted("j"), String::new(), &spec, 1) }
    }

    /// What becomes of it when its executor is lost.
    pub fn on_lost(&self) -> OnLost {
        self.submitted.on_lost
    }

    /// The same for a job that would be tried again.
    pub fn as_retry(&self) -> Self {
        Self { submitted: Job { on_lost: OnLost::Retry, ..self.submitted.clone() } }
    }

    /// The record of a job that was just submitted.
    pub fn submitted(&self) -> Record {
        compact(&self.submitted)
    }

    /// Asks the domain's lifecycle.
    ///
    /// # Errors
    /// Says why the event changes nothing.
    pub fn decide(&self, record: &Record, happens: Happens) -> Result<Record, Refused> {
        let job = self.spelled_out(record);
        let event = match happens {
            Happens::Assigned { executor, epoch } => {
                let executor = executor_id(executor);
                Event::Assign { executor, epoch: epoch.into(), gpu_device_ids: Vec::new() }
            }
            Happens::Due => Event::BecameDue,
            Happens::Lost { is_fenced } => Event::ExecutorLost { fenced: is_fenced, jitter: 0 },
            Happens::Abort => Event::AbortRequested { grace_ms: None, reason: String::new() },
            Happens::Started { attempt } => {
                Event::Started { attempt: attempt_ref(&job.id, attempt), at_ms: NOW_MS }
            }
            Happens::Ended { attempt, end, has_started } => Event::Ended(AttemptEnd {
                attempt: attempt_ref(&job.id, attempt),
                cause: cause(end),
                message: String::new(),
                start_time_ms: has_started.then_some(NOW_MS),
                end_time_ms: NOW_MS,
                jitter: 0,
            }),
        };
        apply(&job, event, NOW_MS).map(|next| compact(&next))
    }

    fn spelled_out(&self, record: &Record) -> Job {
        let is_running = record.state == JobState::Running;
        Job {
            state: record.state,
            attempt: record.attempt.into(),
            attempt_epoch: record.epoch.into(),
            executor: record.executor.map(executor_id),
            due_time_ms: record.is_delayed.then_some(NOW_MS),
            start_time_ms: is_running.then_some(NOW_MS),
            abort_requested: record.is_to_abort,
            stop_unconfirmed: record.is_unconfirmed,
            own_retries: record.own_retries.into(),
            infrastructure_retries: record.infrastructure_retries.into(),
            ..self.submitted.clone()
        }
    }
}

fn compact(job: &Job) -> Record {
    let small = |number: u32| u8::try_from(number).expect("a case has few attempts");
    let executor = job.executor.as_ref().map(|id| u8::from(id.as_str() == EXECUTOR_NAMES[1]));
    Record {
        state: job.state,
        attempt: small(job.attempt),
        epoch: u8::try_from(job.attempt_epoch).expect("a case has few epochs"),
        executor,
        is_delayed: job.due_time_ms.is_some(),
        is_to_abort: job.abort_requested,
        is_unconfirmed: job.stop_unconfirmed,
        own_retries: small(job.own_retries),
        infrastructure_retries: small(job.infrastructure_retries),
    }
}

fn executor_id(executor: u8) -> ExecutorId {
    ExecutorId::trusted(EXECUTOR_NAMES[usize::from(executor)])
}

fn attempt_ref(job: &JobId, (number, epoch): (u8, u8)) -> AttemptRef {
    AttemptRef { job: job.clone(), number: number.into(), epoch: epoch.into() }
}

fn cause(end: End) -> EndCause {
    match end {
        End::Zero => EndCause::Exited { code: 0, oom: false },
        End::One => EndCause::Exited { code: 1, oom: false },
        End::Aborted => EndCause::Aborted { code: None },
        End::Fault => EndCause::ExecutorFault,
    }
}

/// Says how a container's end is told: what was stopped was ended by the stop, whatever its code.
pub fn concluded(exit: Exit, stop: Option<Begun>) -> End {
    match (exit, stop) {
        (Exit::Cut, _) => End::Fault,
        (Exit::Zero | Exit::One | Exit::Stopped, Some(Begun::Abort)) => End::Aborted,
        (Exit::Zero | Exit::One | Exit::Stopped, Some(Begun::Superseded)) | (Exit::Stopped, None) => {
            End::Fault
        }
        (Exit::Zero, None) => End::Zero,
        (Exit::One, None) => End::One,
    }
}

/// Asks the domain what an executor does next for an attempt whose container, if there is none, was
/// `is_created` or not. Exits are always waited for, and nothing is ever cleaned up.
pub fn next_step(attempt: &Attempt, is_told: bool, is_created: bool) -> Option<Step> {
    let key = attempt_ref(&JobId::trusted("j"), attempt.key);
    let assignment = Assignment {
        abort_grace_ms: attempt.is_to_abort.then_some(1),
        run_timeout_ms: None,
        stop_grace_ms: 1,
    };
    let container = match attempt.container {
        Container::None => is_created.then_some(ContainerState::Created),
        Container::Running => Some(ContainerState::Running { started_ms: NOW_MS }),
        Container::Exited(_) => Some(ContainerState::Exited),
    };
    let stop_cause = |begun| match begun {
        Begun::Abort => StopCause::Abort,
        Begun::Superseded => StopCause::Superseded,
    };
    let memory = Memory {
        start_requested: attempt.container != Container::None,
        watched: true,
        stop: attempt.stop.map(|begun| Stop {
            cause: stop_cause(begun),
            kill_at_ms: NEVER_MS,
            killed: false,
        }),
        ended_ms: attempt.end.map(|_| NOW_MS),
        acknowledged: attempt.is_noted || (attempt.is_dismissed && !attempt.is_ordered),
        logs_captured: true,
        ..Memory::default()
    };
    let only_if = |is_there: bool| is_there.then(|| (key.clone(), assignment)).into_iter().collect();
    let plan = reconcile(&Situation {
        assignments: &only_if(attempt.is_ordered),
        assignments_known: is_told || attempt.is_dismissed,
        containers: &container.map(|container| (key.clone(), container)).into_iter().collect(),
        memory: &BTreeMap::from([(key.clone(), memory)]),
        cleanup_after_ms: NEVER_MS,
        remember_ms: NEVER_MS,
        now_ms: NOW_MS,
    });
    plan.steps.first().map(|(_, step)| *step)
}
