//! The cluster that grows: Redis, replicas, sessions of executors that run one job each, and jobs that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use berth_api::v1;
use berth_api::v1::batch_submit_jobs_response::result::Outcome;
use berth_api::v1::job_service_client::JobServiceClient;
use berth_integration_tests::cluster::Scheduler;
use berth_integration_tests::crowd::{Executor, channel, rss_bytes};
use berth_integration_tests::redis::Redis;
use berth_integration_tests::tools;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use crate::meter::Meter;

/// Sessions of a connection.
const SESSIONS: usize = 10;
/// Jobs of a batch.
const BATCH: usize = 1_000;
/// Batches at the same time.
const SUBMITTERS: usize = 4;
/// What an executor has, and what the largest job asks for.
const CPU_MILLIS: i64 = 1_000;
const MEMORY: i64 = 1 << 30;

/// The cluster.
pub struct Stage {
    pub redis: Redis,
    pub replicas: Vec<Scheduler>,
    pub meter: Arc<Meter>,
    name: String,
    folder: tempfile::TempDir,
    /// Where executors and clients go, newest replica last.
    addresses: watch::Sender<Vec<String>>,
    /// Ends a job of an executor.
    ends: Vec<mpsc::Sender<()>>,
    pub pending: usize,
}

impl Stage {
    /// Begins with Redis and one replica.
    pub fn begin() -> Self {
        let mut stage = Self {
            redis: Redis::start_tuned("everysec"),
            replicas: Vec::new(),
            meter: Arc::default(),
            name: tools::unique("scale"),
            folder: tools::folder(),
            addresses: watch::channel(Vec::new()).0,
            ends: Vec::new(),
            pending: 0,
        };
        stage.add_replica();
        stage
    }

    /// Starts another replica; says how long that took until it served.
    pub fn add_replica(&mut self) -> Duration {
        let began = Instant::now();
        let id = format!("scheduler-{}", self.replicas.len() + 1);
        let arguments = ["--queue-timeout", "0", "--safety-interval", "10s"];
        let replica = Scheduler::start(&self.name, &id, &self.redis, self.folder.path(), &arguments);
        self.addresses.send_modify(|addresses| addresses.push(replica.grpc.clone()));
        self.replicas.push(replica);
        began.elapsed()
    }

    /// Opens sessions until there are so many; says how long that took.
    pub async fn open(&mut self, sessions: usize) -> Duration {
        let began = Instant::now();
        let mut connection = None;
        for at in self.ends.len()..sessions {
            if at % SESSIONS == 0 || connection.is_none() {
                connection = Some(Arc::new(self.connection()));
            }
            let (end, ends) = mpsc::channel(4);
            self.ends.push(end);
            let capacity =
                v1::Resources { cpu_millis: CPU_MILLIS, memory_bytes: MEMORY, ..Default::default() };
            let id = format!("executor-{at:05}");
            let mut executor = Executor::new(id, capacity, self.meter.clone(), Some(ends));
            let connection = connection.clone().expect("it is there");
            tokio::spawn(async move {
                loop {
                    // Whoever was cut off comes back, not all in the same moment.
                    let _ = executor.run(connection.channel()).await;
                    tokio::time::sleep(Duration::from_millis(200 + (at as u64 * 37) % 800)).await;
                }
            });
        }
        let mut opened = self.meter.opened.subscribe();
        opened.wait_for(|opened| *opened >= sessions).await.expect("the meter is there");
        began.elapsed()
    }

    fn connection(&self) -> Connection {
        let addresses = self.addresses.subscribe();
        Connection { addresses, made: std::sync::Mutex::new(None) }
    }

    /// Waits until so many jobs were to be started, all told.
    pub async fn started(&self, count: usize) {
        let mut started = self.meter.started.subscribe();
        let reached = started.wait_for(|started| *started >= count);
        tokio::time::timeout(Duration::from_secs(120), reached)
            .await
            .expect("jobs start")
            .expect("the meter");
    }

    /// Ends the job of an executor.
    pub async fn end(&self, executor: usize) {
        self.ends[executor].send(()).await.expect("the executor is there");
    }

    /// Submits until so many jobs wait; gives submits a second.
    pub async fn submit(&mut self, count: usize) -> f64 {
        let (began, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let mut submitters = JoinSet::new();
        for _ in 0..SUBMITTERS {
            let (next, channel) = (next.clone(), self.client());
            submitters.spawn(async move {
                loop {
                    let from = next.fetch_add(BATCH, Ordering::Relaxed);
                    if from >= count {
                        return;
                    }
                    let batch = BATCH.min(count - from);
                    assert_eq!(submit(channel.clone(), from, batch).await, Ok(batch));
                }
            });
        }
        while let Some(done) = submitters.join_next().await {
            done.expect("jobs are submitted");
        }
        self.pending += count;
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let count = count as f64;
        count / began.elapsed().as_secs_f64()
    }

    /// Begins to submit from many clients as fast as it goes, on a thread of their own: executors do not wait for them here.
    /// Gives how many jobs were stored, and how many calls refused.
    pub fn flood(&self, clients: usize, lasting: Duration) -> JoinHandle<(usize, usize)> {
        let address = self.addresses.borrow().last().expect("a replica").clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(pour(&address, clients, lasting))
        })
    }

    fn client(&self) -> Channel {
        channel(self.addresses.borrow().last().expect("a replica"))
    }

    /// Kills the oldest replica, and forgets it.
    pub fn kill_oldest(&mut self) {
        let mut oldest = self.replicas.remove(0);
        oldest.process.kill();
        self.addresses.send_modify(|addresses| drop(addresses.remove(0)));
    }

    /// The memory of the oldest replica.
    pub fn leader_bytes(&self) -> u64 {
        rss_bytes(self.replicas[0].process.pid())
    }

    /// The memory of Redis's data.
    pub fn redis_bytes(&self) -> u64 {
        let memory = self.redis.cli(&["INFO", "memory"]);
        let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:"));
        used.and_then(|used| used.trim().parse().ok()).expect("redis says")
    }
}

/// A connection that several sessions share, made anew where its replica is gone.
struct Connection {
    addresses: watch::Receiver<Vec<String>>,
    made: std::sync::Mutex<Option<(String, Channel)>>,
}

impl Connection {
    fn channel(&self) -> Channel {
        let addresses = self.addresses.borrow().clone();
        let mut made = self.made.lock().expect("nobody panics");
        if let Some((_, channel)) = made.as_ref().filter(|(address, _)| addresses.contains(address)) {
            return channel.clone();
        }
        let address = addresses.first().expect("a replica").clone();
        let channel = channel(&address);
        *made = Some((address, channel.clone()));
        channel
    }
}

async fn pour(address: &str, clients: usize, lasting: Duration) -> (usize, usize) {
    let until = Instant::now() + lasting;
    let mut flood = JoinSet::new();
    for _ in 0..clients {
        let channel = channel(address);
        flood.spawn(async move {
            let (mut stored, mut refused) = (0, 0);
            while Instant::now() < until {
                match submit(channel.clone(), stored, BATCH).await {
                    Ok(count) => stored += count,
                    Err(Code::ResourceExhausted) => {
                        refused += 1;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Err(code) => panic!("a submit fails with {code:?}"),
                }
            }
            (stored, refused)
        });
    }
    let counts = flood.join_all().await;
    counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
}

/// Submits a batch of jobs of twenty shapes; none of two fits an executor.
async fn submit(channel: Channel, from: usize, batch: usize) -> Result<usize, Code> {
    let job = |at: usize| {
        let shape = i64::try_from((from + at) % 20).expect("a small number");
        v1::SubmitJobRequest {
            spec: Some(v1::JobSpec {
                image: "registry.example.com/team/simulation:2026.11".to_owned(),
                command: vec!["simulate".to_owned(), "--part".to_owned(), (from + at).to_string()],
                resources: Some(v1::Resources {
                    cpu_millis: CPU_MILLIS - 10 * shape,
                    memory_bytes: MEMORY - (shape << 20),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    };
    let requests = (0..batch).map(job).collect();
    let request = v1::BatchSubmitJobsRequest { requests, ..Default::default() };
    let answer = JobServiceClient::new(channel).batch_submit_jobs(request).await;
    let results = answer.map_err(|status| status.code())?.into_inner().results;
    for result in &results {
        assert!(matches!(result.outcome, Some(Outcome::Job(_))), "a job is refused: {result:?}");
    }
    Ok(results.len())
}
