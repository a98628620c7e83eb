//! Those who use the cluster: clients that submit, repeat, abort and watch, and an operator. Each call is
//! repeated until it is answered, by whichever replica.

use std::time::Duration;

use berth_api::v1;
use berth_api::v1::cluster_service_client::ClusterServiceClient;
use berth_api::v1::job_service_client::JobServiceClient;
use berth_api::v1::watch_jobs_response::Event;
use berth_domain::job::{JOB_STATES, JobState};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::network::SimulatedConnect;
use super::plan::{Plan, Round, Wish};
use super::seen::Seen;
use super::world::{address, now_ms};
use crate::history::{Abort, Submit, Told};

/// How long a call is waited for.
const ANSWER: Duration = Duration::from_secs(2);
/// The pause before it is repeated.
const PAUSE: Duration = Duration::from_millis(150);

/// Clients that watch.
pub const WATCHES: usize = 2;

/// Lets everybody use the cluster for as long as a run lasts. They share one machine, since what a run costs
/// grows with the square of its machines.
pub async fn use_cluster(caller: Caller, plan: Plan) -> turmoil::Result {
    let mut all = JoinSet::new();
    if let Some(executor) = plan.dead() {
        all.spawn(caller.clone().fence(executor));
    }
    all.spawn(caller.clone().submit_all(plan.seed, plan.jobs));
    for round in plan.rounds {
        all.spawn(caller.clone().operate(round));
    }
    for number in 0..WATCHES {
        all.spawn(caller.clone().watch(number));
    }
    while all.join_next().await.is_some() {}
    Ok(())
}

/// A client or an operator.
#[derive(Clone)]
pub struct Caller {
    /// How many replicas there are to be asked.
    pub schedulers: usize,
    /// What was seen.
    pub seen: Seen,
}

async fn channel(index: usize) -> Option<Channel> {
    let address = address(index);
    let connect =
        <SimulatedConnect as berth_executor::connect::Connect>::connect(&SimulatedConnect, &address);
    tokio::time::timeout(ANSWER, connect).await.ok()?.ok()
}

/// Calls one replica after the other until one gives what `read` takes for an answer.
macro_rules! until_answered {
    ($caller:expr, $client:ident, $method:ident($request:expr), $read:expr) => {{
        let mut found = None;
        for attempt in 0.. {
            if let Some(channel) = channel(attempt % $caller.schedulers).await {
                let mut client = $client::new(channel);
                let answer = tokio::time::timeout(ANSWER, client.$method($request)).await;
                if let Ok(answer) = answer {
                    found = $read(answer.map(tonic::Response::into_inner));
                }
            }
            if found.is_some() || $caller.seen.is_over() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        found
    }};
}

fn state_of(state: v1::JobState) -> JobState {
    JOB_STATES.into_iter().find(|known| state.as_str_name().ends_with(known.name())).expect("it has a state")
}

fn spec(wish: &Wish) -> v1::JobSpec {
    let duration = |duration: Duration| {
        berth_api::convert::duration(u64::try_from(duration.as_millis()).expect("it is short"))
    };
    let resources = v1::Resources {
        cpu_millis: i64::try_from(wish.cpu_millis).expect("it is small"),
        memory_bytes: 64 << 20,
        gpu_count: wish.gpus,
        gpu_models: Vec::new(),
    };
    v1::JobSpec {
        image: wish.image.to_owned(),
        command: wish.command.split(' ').map(str::to_owned).collect(),
        on_lost: wish.on_lost.into(),
        resources: Some(resources),
        priority: Some(wish.priority),
        max_retries: wish.max_retries,
        // Zero waits for ever.
        queue_timeout: Some(duration(wish.queue_timeout.unwrap_or_default())),
        requeue_timeout: wish.queue_timeout.map(duration),
        run_timeout: wish.run_timeout.map(duration),
        stop_grace: Some(duration(wish.stop_grace)),
        ..v1::JobSpec::default()
    }
}

impl Caller {
    /// Submits the jobs, aborts those that are to be aborted, and repeats some submits.
    async fn submit_all(self, seed: u64, jobs: Vec<Wish>) {
        let mut aborts = JoinSet::new();
        for wish in jobs {
            tokio::time::sleep(wish.pause).await;
            let mut rng = StdRng::seed_from_u64(seed ^ (wish.number as u64 + 1).rotate_left(32));
            let Some(id) = self.submit(&wish).await else { return };
            if let Some(pause) = wish.abort_after {
                aborts.spawn(self.clone().abort(id, pause));
            }
            if rng.random_bool(0.1) {
                self.submit(&wish).await;
            }
            if rng.random_bool(0.1) {
                self.submit(&Wish { command: "another one, under the same key".to_owned(), ..wish }).await;
            }
        }
        while aborts.join_next().await.is_some() {}
    }

    async fn submit(&self, wish: &Wish) -> Option<String> {
        let key = format!("wish-{}", wish.number);
        let request =
            || v1::SubmitJobRequest { spec: Some(spec(wish)), request_id: key.clone(), ..Default::default() };
        let read = |answer: Result<v1::SubmitJobResponse, tonic::Status>| match answer {
            Ok(answer) => answer.job.map(|job| Some(job.id)),
            // Another spec under a key must be refused.
            Err(status) if status.code() == tonic::Code::AlreadyExists => Some(None),
            Err(_) => None,
        };
        let answer = until_answered!(self, JobServiceClient, submit_job(request()), read);
        let job = answer.flatten();
        let (end, code) = (Some(wish.end), Some(wish.code()));
        let submit = Submit { key, spec: wish.command.clone(), job: job.clone(), end, code };
        let mut record = self.seen.record();
        record.submits.push(submit);
        if let Some(id) = &job {
            record.acknowledge(wish.number, id);
        }
        job
    }

    /// Aborts a job until it is answered with its end.
    async fn abort(self, id: String, pause: Duration) {
        tokio::time::sleep(pause).await;
        self.seen.record().aborts.push(Abort { job: id.clone(), state: None, at_ms: now_ms() });
        let request = || v1::AbortJobRequest { id: id.clone(), ..Default::default() };
        let seen = self.seen.clone();
        let read = |answer: Result<v1::AbortJobResponse, tonic::Status>| match answer {
            Ok(answer) => {
                let state = state_of(answer.job.expect("an answer has a job").state());
                seen.record().aborts.push(Abort { job: id.clone(), state: Some(state), at_ms: now_ms() });
                state.is_terminal().then_some(())
            }
            // It has ended otherwise, or the store has lost it.
            Err(status) => {
                matches!(status.code(), tonic::Code::FailedPrecondition | tonic::Code::NotFound).then_some(())
            }
        };
        until_answered!(self, JobServiceClient, abort_job(request()), read);
    }

    /// Makes an operator's round.
    async fn operate(self, round: Round) {
        tokio::time::sleep(round.begins).await;
        let id = format!("executor-{}", round.executor + 1);
        let request = || v1::DrainExecutorRequest {
            id: id.clone(),
            deadline: round.deadline_ms.map(berth_api::convert::duration),
            ..Default::default()
        };
        let granted = |answer: Result<v1::DrainExecutorResponse, tonic::Status>| answer.ok().map(|_| ());
        if until_answered!(self, ClusterServiceClient, drain_executor(request()), granted).is_some() {
            self.seen.record().drains += 1;
        }
        tokio::time::sleep(round.lasts).await;
        // What the store has lost of it is asked for again.
        while !self.seen.is_over() {
            let request = || v1::ResumeExecutorRequest { id: id.clone() };
            let granted = |answer: Result<v1::ResumeExecutorResponse, tonic::Status>| match answer {
                Ok(_) => Some(()),
                // It is in service.
                Err(status) => (status.code() == tonic::Code::FailedPrecondition).then_some(()),
            };
            until_answered!(self, ClusterServiceClient, resume_executor(request()), granted);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    /// Declares an executor dead once it is judged lost.
    async fn fence(self, executor: usize) {
        let id = format!("executor-{}", executor + 1);
        let is_lost = |answer: Result<v1::ListExecutorsResponse, tonic::Status>| {
            let all = answer.ok()?.executors;
            let known = all.into_iter().find(|known| known.id == id)?;
            (known.state() == v1::ExecutorState::Lost).then_some(())
        };
        // What the store has lost of it is said again.
        while !self.seen.is_over() {
            let request = v1::ListExecutorsRequest::default;
            until_answered!(self, ClusterServiceClient, list_executors(request()), is_lost);
            let request = || v1::FenceExecutorRequest { id: id.clone(), ..Default::default() };
            let granted = |answer: Result<v1::FenceExecutorResponse, tonic::Status>| answer.ok().map(|_| ());
            until_answered!(self, ClusterServiceClient, fence_executor(request()), granted);
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
    }

    /// Watches every job, by one replica after the other, and goes on where the one before broke off.
    async fn watch(self, number: usize) {
        let mut token = String::new();
        for attempt in number.. {
            if let Some(channel) = channel(attempt % self.schedulers).await {
                self.follow(number, channel, &mut token).await;
            }
            if self.seen.is_over() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&self, number: usize, channel: Channel, token: &mut String) {
        let request = v1::WatchJobsRequest { resume_token: token.clone(), ..Default::default() };
        let mut client = JobServiceClient::new(channel);
        let Ok(Ok(stream)) = tokio::time::timeout(ANSWER, client.watch_jobs(request)).await else { return };
        let mut stream = stream.into_inner();
        if token.is_empty() {
            // It begins with the present state, whatever was told before.
            self.seen.record().watches[number].push(Told::Resync);
        }
        while !self.seen.is_over() {
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
