//! A load of small jobs over gRPC, and what is seen of it: which submits were acknowledged, and every
//! assignment with the moment at which it was seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_api::v1;
use berth_api::v1::job_service_client::JobServiceClient;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Submits under way at the same time.
const WORKERS: u64 = 8;
/// How long one address is given for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a submit is repeated before it counts as refused.
const PATIENCE: Duration = Duration::from_secs(30);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect_timeout(Duration::from_millis(500)).connect_lazy()
}

/// A load under way.
pub struct Load {
    stop: CancellationToken,
    workers: JoinSet<()>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Load {
    /// Submits a job at each interval, at any of the addresses, and repeats each until it is answered.
    pub fn begin(addresses: &[String], every: Duration, spec: &v1::JobSpec) -> Self {
        let (stop, mut workers) = (CancellationToken::new(), JoinSet::new());
        let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
        let refused: Arc<Mutex<Vec<String>>> = Arc::default();
        let count = Arc::new(AtomicU64::new(0));
        for worker in 0..WORKERS {
            // Each begins with another address, so that some always begin with one that answers.
            let mut channels: Vec<Channel> = addresses.iter().map(|address| channel(address)).collect();
            let begin = usize::try_from(worker).unwrap_or(0) % channels.len().max(1);
            channels.rotate_left(begin);
            let (stop, spec, count) = (stop.clone(), spec.clone(), count.clone());
            let (acknowledged, refused) = (acknowledged.clone(), refused.clone());
            let pause = every * u32::try_from(WORKERS).unwrap_or(1);
            workers.spawn(async move {
                // One after the other, not all at once.
                let first = tokio::time::Instant::now() + every * u32::try_from(worker).unwrap_or(0);
                let mut ticks = tokio::time::interval_at(first, pause);
                while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    match submit(&channels, &spec, &format!("load-{worker}-{number}")).await {
                        Ok(id) => locked(&acknowledged).push(id),
                        Err(reason) => locked(&refused).push(reason),
                    }
                }
            });
        }
        Self { stop, workers, acknowledged, refused }
    }

    /// How many submits were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        locked(&self.acknowledged).len()
    }

    /// Ends the load; gives the ids that were acknowledged, and why others were not.
    pub async fn end(mut self) -> (Vec<String>, Vec<String>) {
        self.stop.cancel();
        while self.workers.join_next().await.is_some() {}
        (std::mem::take(&mut locked(&self.acknowledged)), std::mem::take(&mut locked(&self.refused)))
    }
}

async fn submit(channels: &[Channel], spec: &v1::JobSpec, key: &str) -> Result<String, String> {
    let began = Instant::now();
    let mut last = String::new();
    for channel in channels.iter().cycle() {
        let request = v1::SubmitJobRequest {
            spec: Some(spec.clone()),
            request_id: key.to_owned(),
            ..v1::SubmitJobRequest::default()
        };
        let mut client = JobServiceClient::new(channel.clone());
        match tokio::time::timeout(ANSWER, client.submit_job(request)).await {
            Ok(Ok(response)) => return Ok(response.into_inner().job.map(|job| job.id).unwrap_or_default()),
            Ok(Err(status)) => last = status.to_string(),
            Err(_) => "no answer".clone_into(&mut last),
        }
        if began.elapsed() > PATIENCE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(last)
}

#[derive(Default)]
struct Seen {
    /// When the first assignment of each epoch was seen.
    first: BTreeMap<i64, Instant>,
    /// The epoch of each assignment, by its revision.
    assigned: BTreeMap<i64, i64>,
    /// The newest assignment that each replica has told of, by its revision.
    told: BTreeMap<String, i64>,
}

/// Watches every change of jobs, at each of the addresses, for as long as it lives.
pub struct Assignments {
    seen: Arc<Mutex<Seen>>,
    _watchers: JoinSet<()>,
}

impl Assignments {
    /// Begins to watch.
    pub fn watch(addresses: &[String]) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut watchers = JoinSet::new();
        for address in addresses {
            let (channel, seen, address) = (channel(address), seen.clone(), address.clone());
            watchers.spawn(async move {
                loop {
                    // A replica that is gone for a while is watched again once it is back.
                    let _ = follow(channel.clone(), &address, &seen).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
        Self { seen, _watchers: watchers }
    }

    /// When the first assignment of a later epoch was seen, and that epoch.
    pub fn first_after(&self, epoch: i64) -> Option<(i64, Instant)> {
        locked(&self.seen).first.range(epoch + 1..).next().map(|(epoch, at)| (*epoch, *at))
    }

    /// Says whether a replica has told of an assignment that is newer than all that were seen before a
    /// revision: it has caught up after a start.
    pub fn has_told(&self, address: &str, after: i64) -> bool {
        locked(&self.seen).told.get(address).is_some_and(|revision| *revision > after)
    }

    /// The newest revision of an assignment.
    pub fn newest(&self) -> i64 {
        locked(&self.seen).assigned.keys().next_back().copied().unwrap_or_default()
    }

    /// Assignments of an earlier epoch at a later revision than one of a later epoch: commits of a
    /// leader that was one no longer.
    pub fn stale(&self) -> Vec<(i64, i64)> {
        let mut newest = 0;
        let seen = locked(&self.seen);
        let stale = seen.assigned.iter().filter(|(_, epoch)| {
            let is_stale = **epoch < newest;
            newest = newest.max(**epoch);
            is_stale
        });
        stale.map(|(revision, epoch)| (*revision, *epoch)).collect()
    }
}

async fn follow(channel: Channel, address: &str, seen: &Mutex<Seen>) -> Result<(), tonic::Status> {
    let request = v1::WatchJobsRequest { filter: "state = ASSIGNED".to_owned(), ..Default::default() };
    let mut stream = JobServiceClient::new(channel).watch_jobs(request).await?.into_inner();
    while let Some(answer) = stream.message().await? {
        let now = Instant::now();
        if let Some(v1::watch_jobs_response::Event::Job(job)) = answer.event
            && job.attempt > 0
        {
            let mut seen = locked(seen);
            seen.first.entry(job.attempt_epoch).or_insert(now);
            if job.state() == v1::JobState::Assigned {
                seen.assigned.insert(job.revision, job.attempt_epoch);
                seen.told.insert(address.to_owned(), job.revision);
            }
        }
    }
    Ok(())
}
