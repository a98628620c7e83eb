//! Those who use a cluster and remember what they were told: they submit, repeat, abort and watch. Each
//! call is repeated until it is answered, by whichever replica.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use berth_api::v1;
use berth_api::v1::job_service_client::JobServiceClient;
use berth_api::v1::watch_jobs_response::Event;
use berth_domain::job::{JOB_STATES, JobState};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tonic::transport::Channel;

use crate::history::{Abort, Answer, Read, Submit, Told};
use crate::seen::Seen;

/// How long a call is waited for.
pub const ANSWER: Duration = Duration::from_secs(2);
/// The pause before it is repeated.
pub const PAUSE: Duration = Duration::from_millis(150);

/// The ways to the replicas.
#[async_trait]
pub trait Ways: Send + Sync {
    /// How many replicas there are to be asked.
    fn count(&self) -> usize;

    /// A way to a replica, by its number from 0; `None` where it cannot be reached.
    async fn channel(&self, index: usize) -> Option<Channel>;

    /// The true time, in milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;

    /// Says whether the store may come to have again what it has lost.
    fn may_return(&self) -> bool;
}

/// A client or an operator.
#[derive(Clone)]
pub struct Caller {
    /// The ways to the replicas.
    pub ways: Arc<dyn Ways>,
    /// What was seen.
    pub seen: Seen,
    /// Which replica is asked first: each call begins with the next one.
    pub turn: Arc<AtomicUsize>,
}

/// A job that is wanted.
#[derive(Debug, Clone)]
pub struct Order {
    /// Its number: jobs of the same number have the same idempotency key.
    pub number: usize,
    /// What is to be run.
    pub spec: v1::JobSpec,
    /// Tells the spec from others under the same key.
    pub words: String,
    /// How it ends if nothing but its command ends it.
    pub end: JobState,
    /// The code with which its command exits if nothing ends it before.
    pub code: i32,
}

/// Calls one replica after the other, from the next one on, until one gives what `read` takes for an answer.
macro_rules! until_answered {
    ($caller:expr, $client:ident, $method:ident($request:expr), $read:expr) => {{
        let mut found = None;
        for attempt in $caller.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed).. {
            if let Some(channel) = $caller.ways.channel(attempt % $caller.ways.count()).await {
                let mut client = $client::new(channel);
                let answer = tokio::time::timeout($crate::clients::ANSWER, client.$method($request)).await;
                if let Ok(answer) = answer {
                    found = $read(answer.map(tonic::Response::into_inner));
                }
            }
            if found.is_some() || $caller.seen.is_over() {
                break;
            }
            tokio::time::sleep($crate::clients::PAUSE).await;
        }
        found
    }};
}
pub(crate) use until_answered;

fn state_of(state: v1::JobState) -> JobState {
    JOB_STATES.into_iter().find(|known| state.as_str_name().ends_with(known.name())).expect("it has a state")
}

impl Caller {
    /// Submits a job until it is acknowledged, or refused because its key stands for another.
    pub async fn submit(&self, order: &Order) -> Option<String> {
        let key = format!("wish-{}", order.number);
        let request = || v1::SubmitJobRequest {
            spec: Some(order.spec.clone()),
            request_id: key.clone(),
            ..Default::default()
        };
        let read = |answer: Result<v1::SubmitJobResponse, tonic::Status>| match answer {
            Ok(answer) => answer.job.map(|job| Some(job.id)),
            // Another spec under a key must be refused.
            Err(status) if status.code() == tonic::Code::AlreadyExists => Some(None),
            Err(_) => None,
        };
        let began_ms = self.ways.now_ms();
        let read = until_answered!(self, JobServiceClient, submit_job(request()), read);
        let answered_ms = read.as_ref().map_or(0, |_| self.ways.now_ms());
        let job = read.clone().flatten();
        let answer = match read {
            Some(Some(id)) => Answer::Job(id),
            Some(None) => Answer::Refused,
            None => Answer::Unknown,
        };
        let (end, code) = (Some(order.end), Some(order.code));
        let submit = Submit { key, spec: order.words.clone(), answer, began_ms, answered_ms, end, code };
        let mut record = self.seen.record();
        record.submits.push(submit);
        if let Some(id) = &job {
            record.acknowledge(order.number, id);
        }
        job
    }

    /// Aborts a job until it is answered with its end.
    pub async fn abort(self, id: String, pause: Duration) {
        tokio::time::sleep(pause).await;
        let at_ms = self.ways.now_ms();
        self.seen.record().aborts.push(Abort { job: id.clone(), state: None, at_ms });
        let request = || v1::AbortJobRequest { id: id.clone(), ..Default::default() };
        let read = |answer: Result<v1::AbortJobResponse, tonic::Status>| match answer {
            Ok(answer) => {
                let state = state_of(answer.job.expect("an answer has a job").state());
                let at_ms = self.ways.now_ms();
                self.seen.record().aborts.push(Abort { job: id.clone(), state: Some(state), at_ms });
                state.is_terminal().then_some(())
            }
            // It has ended otherwise.
            Err(status) if status.code() == tonic::Code::FailedPrecondition => Some(()),
            // The store has lost it: that is all, unless it comes back.
            Err(status) => (status.code() == tonic::Code::NotFound && !self.ways.may_return()).then_some(()),
        };
        until_answered!(self, JobServiceClient, abort_job(request()), read);
    }

    /// Reads jobs that were acknowledged, one after the other, by one replica after the other.
    pub async fn read(self, number: usize) {
        let mut rng = StdRng::seed_from_u64(number as u64);
        while !self.seen.is_over() {
            tokio::time::sleep(Duration::from_millis(rng.random_range(100..2_000))).await;
            let known = self.seen.record().acknowledged();
            let Some(id) = known.choose(&mut rng).cloned() else { continue };
            let began_ms = self.ways.now_ms();
            let request = || v1::GetJobRequest { id: id.clone() };
            let read = |answer: Result<v1::GetJobResponse, tonic::Status>| match answer {
                Ok(answer) => answer.job.map(|job| u64::try_from(job.revision).ok()),
                Err(status) => (status.code() == tonic::Code::NotFound).then_some(None),
            };
            if let Some(revision) = until_answered!(self, JobServiceClient, get_job(request()), read) {
                self.seen.record().reads[number].push(Read { job: id.clone(), revision, began_ms });
            }
        }
    }

    /// Watches every job, by one replica after the other, and goes on where the one before broke off.
    pub async fn watch(self, number: usize) {
        let mut token = String::new();
        let mut rng = StdRng::seed_from_u64(number as u64);
        for attempt in number.. {
            // Some break off by themselves, at any answer.
            let most = if rng.random_bool(0.3) { rng.random_range(1..60) } else { usize::MAX };
            if let Some(channel) = self.ways.channel(attempt % self.ways.count()).await {
                self.follow(number, channel, &mut token, most).await;
            }
            if self.seen.is_over() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&self, number: usize, channel: Channel, token: &mut String, most: usize) {
        let request = v1::WatchJobsRequest { resume_token: token.clone(), ..Default::default() };
        let mut client = JobServiceClient::new(channel);
        let Ok(Ok(stream)) = tokio::time::timeout(ANSWER, client.watch_jobs(request)).await else { return };
        let mut stream = stream.into_inner();
        if token.is_empty() {
            // It begins anew: what it was told before is void.
            self.seen.record().watches[number].push(Told::Resync);
        }
        for _ in 0..most {
            if self.seen.is_over() {
                return;
            }
            let answer = match tokio::time::timeout(Duration::from_secs(1), stream.message()).await {
                Err(_) => continue,
                Ok(Ok(Some(answer))) => answer,
                Ok(Ok(None) | Err(_)) => return,
            };
            let told = match answer.event {
                Some(Event::Job(job)) => {
                    let revision = u64::try_from(job.revision).expect("revisions are positive");
                    Some(Told::Job { job: job.id, revision })
                }
                Some(Event::Resync(_)) => Some(Told::Resync),
                Some(Event::Counts(_)) | None => None,
            };
            *token = answer.resume_token;
            let is_void = matches!(told, Some(Told::Resync));
            self.seen.record().watches[number].extend(told);
            if is_void {
                token.clear();
                return;
            }
        }
    }
}
