//! An executor without containers: it registers, is told what to run, says that it runs, and says that it has succeeded
//! at once, or when it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
const BEAT: Duration = Duration::from_secs(5);

/// Who is told what happens to executors.
pub trait Witness: Send + Sync {
    /// An executor has opened its session.
    fn opened(&self) {}
    /// A job has to be started.
    fn started(&self, _job: &str) {}
    /// The end of a job is stored.
    fn ended(&self, _job: &str) {}
    /// A report was refused.
    fn refused(&self) {}
    /// A heartbeat was answered.
    fn beat(&self, _took: Duration) {}
    /// A report was stored.
    fn stored(&self, _took: Duration) {}
}

/// What an executor is.
pub struct Executor {
    id: String,
    capacity: v1::Resources,
    witness: Arc<dyn Witness>,
    /// Each of these ends one job; `None` ends them at once.
    ends: Option<mpsc::Receiver<()>>,
    works: Works,
}

/// What it works on.
#[derive(Default)]
struct Works {
    hand: Hand,
    /// Jobs that are known to run, oldest first.
    running: VecDeque<String>,
    reported: BTreeMap<i64, Reported>,
    number: i64,
}

/// An attempt in hand.
type Hand = BTreeMap<String, (AttemptRef, v1::JobRef)>;

/// A report that is not acknowledged.
struct Reported {
    job: String,
    has_ended: bool,
    at: Instant,
}

impl Executor {
    /// Makes one that has nothing in hand.
    pub fn new(
        id: String,
        capacity: v1::Resources,
        witness: Arc<dyn Witness>,
        ends: Option<mpsc::Receiver<()>>,
    ) -> Self {
        Self { id, capacity, witness, ends, works: Works::default() }
    }

    /// Runs one session; it ends with an error when the session does. What is in hand stays so for the next one.
    pub async fn run(&mut self, channel: Channel) -> Result<(), String> {
        let mut client = ExecutorServiceClient::new(channel);
        let registered = client.register(self.registration()).await.map_err(|status| status.to_string())?;
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let mut session = Session {
            sender,
            witness: self.witness.clone(),
            is_prompt: self.ends.is_none(),
            works: &mut self.works,
            beaten: BTreeMap::new(),
            sequence: 0,
        };
        session.beat(registered.into_inner().session_id).await?;
        let answers = client.session(ReceiverStream::new(receiver)).await;
        let mut answers = answers.map_err(|status| status.to_string())?.into_inner();
        self.witness.opened();
        session.report_again().await?;
        let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + BEAT, BEAT);
        loop {
            tokio::select! {
                answer = answers.message() => match answer.map_err(|status| status.to_string())? {
                    Some(answer) => session.hear(answer).await?,
                    None => return Err(SESSION_ENDED.to_owned()),
                },
                _ = beats.tick() => session.beat(String::new()).await?,
                Some(()) = next(&mut self.ends) => session.end_one().await?,
            }
        }
    }

    fn registration(&self) -> v1::RegisterRequest {
        let running = |(_, attempt): &(AttemptRef, v1::JobRef)| v1::RunningAttempt {
            r#ref: Some(attempt.clone()),
            state: v1::JobState::Running.into(),
            spec_known: true,
            ..Default::default()
        };
        v1::RegisterRequest {
            executor_id: self.id.clone(),
            capacity: Some(self.capacity.clone()),
            protocol_version: 1,
            node_id: self.id.clone(),
            boot_id: self.id.clone(),
            instance_id: self.id.clone(),
            running: self.works.hand.values().map(running).collect(),
            ..Default::default()
        }
    }
}

async fn next(ends: &mut Option<mpsc::Receiver<()>>) -> Option<()> {
    match ends {
        Some(ends) => ends.recv().await,
        None => std::future::pending().await,
    }
}

struct Session<'a> {
    sender: mpsc::Sender<v1::SessionRequest>,
    witness: Arc<dyn Witness>,
    is_prompt: bool,
    works: &'a mut Works,
    /// When heartbeats were sent that are not answered.
    beaten: BTreeMap<i64, Instant>,
    sequence: i64,
}

impl Session<'_> {
    /// Says again what was not acknowledged.
    async fn report_again(&mut self) -> Result<(), String> {
        let mut reports = Vec::new();
        for (_, Reported { job, has_ended, .. }) in std::mem::take(&mut self.works.reported) {
            if has_ended {
                reports.extend(self.end(&job));
            } else if let Some((_, attempt)) = self.works.hand.get(&job) {
                let attempt = attempt.clone();
                reports.push(self.report(attempt, v1::JobState::Running, None));
            }
        }
        if reports.is_empty() {
            return Ok(());
        }
        self.send(v1::SessionRequest { reports, ..Default::default() }).await
    }

    async fn beat(&mut self, session_id: String) -> Result<(), String> {
        self.sequence += 1;
        let heartbeat = Heartbeat {
            sequence: self.sequence,
            assigned_digest: assigned_digest(self.works.hand.values().map(|(attempt, _)| attempt)),
            ..Default::default()
        };
        self.beaten.insert(self.sequence, Instant::now());
        let request = v1::SessionRequest { session_id, heartbeat: Some(heartbeat), ..Default::default() };
        self.send(request).await
    }

    async fn send(&self, request: v1::SessionRequest) -> Result<(), String> {
        self.sender.send(request).await.map_err(|_| SESSION_ENDED.to_owned())
    }

    async fn hear(&mut self, answer: v1::SessionResponse) -> Result<(), String> {
        if let Some(sent) = answer.ack.and_then(|ack| self.beaten.remove(&ack.sequence)) {
            self.witness.beat(sent.elapsed());
        }
        let mut reports = Vec::new();
        for ack in answer.report_acks {
            let Some(Reported { job, has_ended, at }) = self.works.reported.remove(&ack.number) else {
                continue;
            };
            self.witness.stored(at.elapsed());
            if !ack.current {
                self.witness.refused();
                self.works.hand.remove(&job);
            } else if has_ended {
                self.works.hand.remove(&job);
                self.witness.ended(&job);
            } else if self.is_prompt {
                reports.extend(self.end(&job));
            } else {
                self.works.running.push_back(job);
            }
        }
        for start in answer.starts {
            let attempt = start.r#ref.expect("an attempt");
            let known = attempt_from_wire(Some(&attempt)).expect("an attempt");
            // A set by names alone says nothing that is new.
            if start.spec.is_some()
                && self.works.hand.insert(attempt.job_id.clone(), (known, attempt.clone())).is_none()
            {
                self.witness.started(&attempt.job_id);
                reports.push(self.report(attempt, v1::JobState::Running, None));
            }
        }
        if reports.is_empty() {
            return Ok(());
        }
        self.send(v1::SessionRequest { reports, ..Default::default() }).await
    }

    async fn end_one(&mut self) -> Result<(), String> {
        let Some(job) = self.works.running.pop_front() else { return Ok(()) };
        let reports = self.end(&job).into_iter().collect();
        self.send(v1::SessionRequest { reports, ..Default::default() }).await
    }

    fn end(&mut self, job: &str) -> Option<Report> {
        let (_, attempt) = self.works.hand.get(job)?;
        let attempt = attempt.clone();
        let result = v1::AttemptResult {
            r#ref: Some(attempt.clone()),
            exit_code: Some(0),
            end_reason: v1::EndReason::ExitCode.into(),
            ..Default::default()
        };
        Some(self.report(attempt, v1::JobState::Succeeded, Some(result)))
    }

    fn report(
        &mut self,
        attempt: v1::JobRef,
        state: v1::JobState,
        result: Option<v1::AttemptResult>,
    ) -> Report {
        self.works.number += 1;
        let reported =
            Reported { job: attempt.job_id.clone(), has_ended: result.is_some(), at: Instant::now() };
        self.works.reported.insert(self.works.number, reported);
        Report { number: self.works.number, r#ref: Some(attempt), state: state.into(), result }
    }
}
