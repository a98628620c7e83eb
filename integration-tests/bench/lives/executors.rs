//! Executors without containers: each has a session of its own over gRPC, is told what to run, says that it runs, and,
//! once that is stored, that it has succeeded.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_api::convert::attempt_from_wire;
use berth_api::v1;
use berth_api::v1::executor_service_client::ExecutorServiceClient;
use berth_api::v1::session_request::{Heartbeat, Report};
use berth_domain::digest::assigned_digest;
use berth_domain::ids::AttemptRef;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Messages that wait to be sent on a session.
const MOST_WAITING: usize = 64;
const SESSION_ENDED: &str = "the session has ended";

/// What is known of jobs that were submitted and have not ended.
#[derive(Default)]
pub struct Ledger {
    /// Acknowledged to the client, and not said to have ended.
    open: HashSet<String>,
    /// Said to have ended before the client heard that they exist.
    early: HashSet<String>,
    /// How many were acknowledged to the client.
    pub submitted: u64,
    /// How many ends were acknowledged to executors.
    pub ended: u64,
    /// Jobs that ended twice, or ran where they must not.
    pub wrong: u64,
}

impl Ledger {
    /// Notes that a job was acknowledged.
    pub fn submitted(&mut self, id: String) {
        self.submitted += 1;
        if !self.early.remove(&id) {
            self.open.insert(id);
        }
    }

    fn ended(&mut self, id: &str) {
        self.ended += 1;
        if !self.open.remove(id) && !self.early.insert(id.to_owned()) {
            self.wrong += 1;
        }
    }

    /// How many acknowledged jobs have not ended.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

/// Shared by all that submit and run.
pub type Shared = Arc<Mutex<Ledger>>;

/// Looks at the ledger.
pub fn with<T>(ledger: &Shared, look: impl FnOnce(&mut Ledger) -> T) -> T {
    look(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner))
}

/// An attempt in hand, and whether it is known to run.
type Hand = BTreeMap<String, (AttemptRef, v1::JobRef)>;

/// Runs an executor's session for ever.
pub async fn run(id: String, slots: i64, channel: Channel, ledger: Shared) -> Result<(), String> {
    let mut client = ExecutorServiceClient::new(channel);
    let capacity = v1::Resources {
        cpu_millis: slots * super::CPU_MILLIS,
        memory_bytes: slots * super::MEMORY,
        ..Default::default()
    };
    let request = v1::RegisterRequest {
        executor_id: id.clone(),
        capacity: Some(capacity),
        protocol_version: 1,
        node_id: id.clone(),
        boot_id: id.clone(),
        instance_id: id,
        ..Default::default()
    };
    let registered = client.register(request).await.map_err(|status| status.to_string())?.into_inner();
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    let mut executor =
        Executor { sender, hand: Hand::new(), reported: BTreeMap::new(), number: 0, sequence: 0, ledger };
    executor.beat(registered.session_id).await?;
    let answers = client.session(ReceiverStream::new(receiver)).await;
    let mut answers = answers.map_err(|status| status.to_string())?.into_inner();
    let mut beats = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            answer = answers.message() => match answer.map_err(|status| status.to_string())? {
                Some(answer) => executor.hear(answer).await?,
                None => return Err(SESSION_ENDED.to_owned()),
            },
            _ = beats.tick() => executor.beat(String::new()).await?,
        }
    }
}

struct Executor {
    sender: mpsc::Sender<v1::SessionRequest>,
    hand: Hand,
    /// Reports that are not acknowledged: of which job, and whether it has ended by it.
    reported: BTreeMap<i64, (String, bool)>,
    number: i64,
    sequence: i64,
    ledger: Shared,
}

impl Executor {
    async fn beat(&mut self, session_id: String) -> Result<(), String> {
        self.sequence += 1;
        let heartbeat = Heartbeat {
            sequence: self.sequence,
            assigned_digest: assigned_digest(self.hand.values().map(|(attempt, _)| attempt)),
            ..Default::default()
        };
        let request = v1::SessionRequest { session_id, heartbeat: Some(heartbeat), ..Default::default() };
        self.send(request).await
    }

    async fn send(&self, request: v1::SessionRequest) -> Result<(), String> {
        self.sender.send(request).await.map_err(|_| SESSION_ENDED.to_owned())
    }

    async fn hear(&mut self, answer: v1::SessionResponse) -> Result<(), String> {
        let mut reports = Vec::new();
        for ack in answer.report_acks {
            let Some((job, has_ended)) = self.reported.remove(&ack.number) else { continue };
            if !ack.current {
                with(&self.ledger, |ledger| ledger.wrong += 1);
                self.hand.remove(&job);
            } else if has_ended {
                self.hand.remove(&job);
                with(&self.ledger, |ledger| ledger.ended(&job));
            } else if let Some((_, attempt)) = self.hand.get(&job) {
                let result = v1::AttemptResult {
                    r#ref: Some(attempt.clone()),
                    exit_code: Some(0),
                    end_reason: v1::EndReason::ExitCode.into(),
                    ..Default::default()
                };
                let attempt = attempt.clone();
                reports.push(self.report(attempt, v1::JobState::Succeeded, Some(result)));
            }
        }
        for start in answer.starts {
            let attempt = start.r#ref.expect("an attempt");
            let known = attempt_from_wire(Some(&attempt)).expect("an attempt");
            if self.hand.insert(attempt.job_id.clone(), (known, attempt.clone())).is_none() {
                reports.push(self.report(attempt, v1::JobState::Running, None));
            }
        }
        if reports.is_empty() {
            return Ok(());
        }
        self.send(v1::SessionRequest { reports, ..Default::default() }).await
    }

    fn report(
        &mut self,
        attempt: v1::JobRef,
        state: v1::JobState,
        result: Option<v1::AttemptResult>,
    ) -> Report {
        self.number += 1;
        self.reported.insert(self.number, (attempt.job_id.clone(), result.is_some()));
        Report { number: self.number, r#ref: Some(attempt), state: state.into(), result }
    }
}
