//! What the cluster knows, and the scripts it plays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use berth_api::v1::log_entry::Stream;
use berth_api::v1::{EndReason, Job, JobState, LogEntry, SubmitJobRequest};
use bytes::Bytes;
use prost_types::Timestamp;
use tokio::sync::watch;

/// One thing that happens to a job.
#[derive(Debug, Clone)]
pub enum Step {
    /// The job waits again, with this message.
    Requeue(&'static str),
    /// A new attempt is assigned.
    Assign,
    /// The attempt's container starts.
    Start,
    /// The attempt writes.
    Write(Stream, Bytes),
    /// Nothing happens for some milliseconds.
    Sleep(u64),
    /// Nothing happens before this was asked for.
    Until(&'static str),
    /// The job ends in this state, for this reason, with this exit code.
    End(JobState, EndReason, Option<i32>),
}

#[derive(Debug, Default)]
pub struct Known {
    /// The oldest first.
    pub jobs: Vec<Job>,
    /// Pieces of log by job.
    pub logs: BTreeMap<String, Vec<LogEntry>>,
    /// Jobs by the key of their request.
    pub keys: BTreeMap<String, String>,
    /// What was asked for, in order.
    pub calls: Vec<String>,
    revision: i64,
}

/// The cluster.
#[derive(Debug)]
pub struct Cluster {
    known: Mutex<Known>,
    script: Vec<Step>,
    changes: watch::Sender<()>,
    noted: watch::Sender<()>,
    me: Weak<Cluster>,
}

impl Cluster {
    /// Makes a cluster that has `jobs` and plays `script` for every job submitted.
    pub fn new(jobs: Vec<Job>, script: Vec<Step>) -> Arc<Self> {
        let known = Known { jobs, revision: 100, ..Default::default() };
        Arc::new_cyclic(|me| Self {
            known: Mutex::new(known),
            script,
            changes: watch::Sender::new(()),
            noted: watch::Sender::new(()),
            me: me.clone(),
        })
    }

    /// Gives a handle to it, as the services only borrow it.
    pub fn handle(&self) -> Arc<Self> {
        self.me.upgrade().expect("who borrows it keeps it")
    }

    /// Gives what it knows.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no test panics while it holds this")
    }

    /// Hears of changes.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Notes a call.
    pub fn note(&self, call: impl Into<String>) {
        self.known().calls.push(call.into());
        self.noted.send_replace(());
    }

    /// Waits until this was asked for.
    pub async fn asked(&self, call: &str) {
        let mut noted = self.noted.subscribe();
        while !self.calls().iter().any(|known| known == call) {
            noted.changed().await.expect("the cluster is there");
        }
    }

    /// Lists the calls noted.
    pub fn calls(&self) -> Vec<String> {
        self.known().calls.clone()
    }

    /// Finds a job.
    pub fn job(&self, id: &str) -> Option<Job> {
        self.known().jobs.iter().find(|job| job.id == id).cloned()
    }

    /// Stores a job and plays its script, or finds the one stored under the same key.
    pub fn submit(self: &Arc<Self>, request: SubmitJobRequest) -> Job {
        let mut known = self.known();
        if let Some(id) = known.keys.get(&request.request_id).cloned() {
            return known.jobs.iter().find(|job| job.id == id).cloned().unwrap_or_default();
        }
        let job = Job {
            id: format!("0193ffff-{:04}", known.jobs.len()),
            display_name: request.display_name,
            spec: request.spec,
            state: JobState::Pending.into(),
            create_time: Some(now()),
            ..Default::default()
        };
        if !request.request_id.is_empty() {
            known.keys.insert(request.request_id, job.id.clone());
        }
        known.jobs.push(job.clone());
        drop(known);
        tokio::spawn(self.clone().play(job.id.clone()));
        job
    }

    /// Ends a job as aborted, unless its image is "stubborn".
    pub fn abort(&self, id: &str) -> Option<Job> {
        let job = self.job(id)?;
        if job.spec.as_ref().is_some_and(|spec| spec.image == "stubborn") {
            return Some(job);
        }
        self.change(id, &Step::End(JobState::Aborted, EndReason::AbortedByUser, Some(143)));
        self.job(id)
    }

    async fn play(self: Arc<Self>, id: String) {
        // Steps without a pause between them happen at once, before anyone can look.
        for step in self.script.clone() {
            match step {
                Step::Sleep(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                Step::Until(call) => self.asked(call).await,
                step => self.change(&id, &step),
            }
        }
    }

    fn change(&self, id: &str, step: &Step) {
        let mut known = self.known();
        known.revision += 1;
        let revision = known.revision;
        let Some(job) = known.jobs.iter_mut().find(|job| job.id == id) else { return };
        if job.end_time.is_some() {
            return;
        }
        job.revision = revision;
        match step {
            Step::Requeue(message) => {
                job.state = JobState::Pending.into();
                job.message = (*message).to_owned();
            }
            Step::Assign => {
                job.state = JobState::Assigned.into();
                job.executor_id = "executor-1".into();
                job.attempt += 1;
            }
            Step::Start => {
                job.state = JobState::Running.into();
                job.start_time = Some(now());
            }
            Step::End(state, reason, code) => {
                job.state = (*state).into();
                job.end_reason = (*reason).into();
                job.exit_code = *code;
                job.end_time = Some(now());
                job.message = "as the script says".into();
            }
            Step::Write(stream, data) => {
                let attempt = job.attempt;
                known.logs.entry(id.to_owned()).or_default().push(LogEntry {
                    job_id: id.to_owned(),
                    attempt,
                    stream: (*stream).into(),
                    data: data.clone(),
                    ..Default::default()
                });
            }
            Step::Sleep(_) | Step::Until(_) => {}
        }
        drop(known);
        self.changes.send_replace(());
    }
}

fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

/// Makes a job that has ended.
pub fn ended(id: &str, state: JobState, code: Option<i32>) -> Job {
    Job {
        id: id.into(),
        state: state.into(),
        end_reason: EndReason::ExitCode.into(),
        exit_code: code,
        attempt: 1,
        create_time: Some(now()),
        start_time: Some(now()),
        end_time: Some(now()),
        ..Default::default()
    }
}

/// Makes a running job with a name.
pub fn named(id: &str, name: &str) -> Job {
    Job {
        id: id.into(),
        display_name: name.into(),
        state: JobState::Running.into(),
        attempt: 1,
        create_time: Some(now()),
        start_time: Some(now()),
        ..Default::default()
    }
}
