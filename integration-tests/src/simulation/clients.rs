//! Those who use the simulated cluster: clients with their wishes, and an operator.

use std::time::Duration;

use async_trait::async_trait;
use berth_api::v1;
use berth_api::v1::cluster_service_client::ClusterServiceClient;
use berth_domain::job::JobState;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::network::SimulatedConnect;
use super::plan::{Plan, Round, Wish};
use super::world::{address, now_ms};
use crate::clients::{ANSWER, Caller, Order, Ways, until_answered};

/// Clients that watch.
pub const WATCHES: usize = 2;

/// So long after an abort was answered is it asked for again.
const LOOKS_AGAIN: Duration = Duration::from_secs(60);

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
    all.spawn(caller.clone().read(0));
    while all.join_next().await.is_some() {}
    Ok(())
}

/// The simulated network.
pub struct Simulated {
    /// How many replicas there are to be asked.
    pub schedulers: usize,
}

#[async_trait]
impl Ways for Simulated {
    fn count(&self) -> usize {
        self.schedulers
    }

    async fn channel(&self, index: usize) -> Option<Channel> {
        let address = address(index);
        let connect =
            <SimulatedConnect as berth_executor::connect::Connect>::connect(&SimulatedConnect, &address);
        tokio::time::timeout(ANSWER, connect).await.ok()?.ok()
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn may_return(&self) -> bool {
        // One fail-over may lead to a newer copy than the one before.
        true
    }
}

/// Says whether a job would run in a container that others use: some of those that may.
fn is_reused(wish: &Wish) -> bool {
    wish.on_lost == v1::OnLost::Retry && wish.gpus == 0 && wish.number.is_multiple_of(2)
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
        reuse: if is_reused(wish) { "warm".to_owned() } else { String::new() },
        resources: Some(resources),
        priority: Some(wish.priority),
        max_retries: wish.max_retries,
        // Zero waits for ever.
        queue_timeout: Some(duration(wish.queue_timeout.unwrap_or_default())),
        requeue_timeout: wish.queue_timeout.map(duration),
        run_timeout: wish.run_timeout.map(duration),
        stop_grace: Some(duration(wish.stop_grace)),
        constraints: [wish.constraint]
            .iter()
            .filter(|text| !text.is_empty())
            .map(ToString::to_string)
            .collect(),
        ..v1::JobSpec::default()
    }
}

impl Wish {
    fn order(&self) -> Order {
        let (words, code) = (self.command.clone(), self.code());
        Order { number: self.number, spec: spec(self), words, end: self.end, code }
    }
}

impl Caller {
    /// Submits the jobs, aborts those that are to be aborted, and repeats some submits.
    async fn submit_all(self, seed: u64, jobs: Vec<Wish>) {
        let mut aborts = JoinSet::new();
        for wish in jobs {
            tokio::time::sleep(wish.pause).await;
            let mut rng = StdRng::seed_from_u64(seed ^ (wish.number as u64 + 1).rotate_left(32));
            let Some(id) = self.submit(&wish.order()).await else { return };
            if let Some(pause) = wish.abort_after {
                aborts.spawn(self.clone().abort_for_good(id, pause));
            }
            if rng.random_bool(0.1) {
                self.submit(&wish.order()).await;
            }
            if rng.random_bool(0.1) {
                // Where the first one was lost, this one is the job: there is no such command.
                let command = "another one, under the same key".to_owned();
                let other = Wish { command, end: JobState::Failed, ..wish };
                self.submit(&other.order()).await;
            }
        }
        while aborts.join_next().await.is_some() {}
    }

    /// Aborts a job, and looks again: a fail-over may have lost that it was aborted, and it may last for long.
    async fn abort_for_good(self, id: String, pause: Duration) {
        self.clone().abort(id.clone(), pause).await;
        while !self.seen.is_over() {
            self.clone().abort(id.clone(), LOOKS_AGAIN).await;
        }
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
}
