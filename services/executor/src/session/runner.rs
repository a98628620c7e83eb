//! Finds a scheduler, registers with it, and does so again when the session breaks. It never gives
//! up by itself: containers run on meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_api::convert::duration_ms;
use berth_api::status::reason_of;
use berth_api::v1::RegisterResponse;
use berth_api::v1::executor_service_client::ExecutorServiceClient;
use berth_domain::backoff::RECONNECT;
use berth_domain::executor::RESTART_LEASE_MS;
use berth_domain::ids::ExecutorId;
use berth_domain::resources::Capacity;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use super::freshness::Freshness;
use super::ledger::Ledger;
use super::stream::{Stream, StreamEnd};
use super::{register, wire};
use crate::connect::Connect;
use crate::identity::Identity;
use crate::lease::{Lease, LeaseFile};
use crate::logs::LogStore;
use crate::random::{Random, shuffle, up_to};
use crate::reconciler::{Command, Progress, Snapshot};
use crate::runtime::Runtime;

/// How long a registration may take.
const REGISTER_WAIT: Duration = Duration::from_secs(5);
/// How long the first registration waits for the engine's containers.
const FIRST_LIST_WAIT: Duration = Duration::from_secs(3);
/// After a session broke, the next registration waits a random time of at most this.
const FAIL_OVER_WAIT: Duration = Duration::from_secs(2);
/// The largest message taken: a whole set of assignments has many specs in it.
const MAX_DECODED_BYTES: usize = 64 << 20;
/// Interval of heartbeats where the scheduler names none.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Length of a lease where the scheduler names none.
const LEASE: Duration = Duration::from_secs(15);

/// Says that the executor is registered and its session answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The executor's name.
    pub executor_id: ExecutorId,
    /// The session's id.
    pub session_id: String,
    /// The scheduler, host:port.
    pub scheduler: String,
}

/// What a session needs.
pub struct SessionParts {
    /// Who this executor is.
    pub identity: Identity,
    /// Identity of this process.
    pub instance_id: String,
    /// The cluster.
    pub cluster: String,
    /// Addresses of schedulers.
    pub schedulers: Vec<String>,
    /// What the executor offers.
    pub capacity: Capacity,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The machine's current boot.
    pub boot_id: String,
    /// Opens channels.
    pub connector: Arc<dyn Connect>,
    /// The container engine, for the list of images.
    pub runtime: Arc<dyn Runtime>,
    /// The kept output.
    pub logs: LogStore,
    /// Spreads what many executors would do at the same time.
    pub random: Arc<dyn Random>,
    /// What the reconciler is told.
    pub commands: mpsc::Sender<Command>,
    /// What the reconciler shows.
    pub snapshot: watch::Receiver<Snapshot>,
    /// Why no jobs can be run; `None` while they can.
    pub not_ready: watch::Receiver<Option<String>>,
    /// Signs of progress to be shown.
    pub progress: mpsc::Receiver<Progress>,
    /// Until when the schedulers count on this executor.
    pub lease: watch::Sender<Lease>,
    /// The same for the process that comes after this one.
    pub lease_file: LeaseFile,
    /// Told when the executor is registered and its session answers; `None` while it is not.
    pub ready: watch::Sender<Option<Ready>>,
}

/// Keeps a session.
pub struct Session {
    pub(super) parts: SessionParts,
    pub(super) ledger: Ledger,
    pub(super) freshness: Freshness,
    /// Schedulers in the order in which they are tried.
    order: Vec<String>,
    next: usize,
    last_problem: String,
    /// A scheduler has registered this process.
    was_registered: bool,
}

/// A registration that was accepted.
pub(super) struct Registered {
    pub client: ExecutorServiceClient<Channel>,
    pub address: String,
    pub session_id: String,
    pub heartbeat_interval: Duration,
    pub lease_duration: Duration,
    /// The scheduler was told of every container there is.
    pub containers_known: bool,
}

impl Session {
    /// Makes a session that has not begun.
    pub fn new(parts: SessionParts) -> Self {
        let mut order = parts.schedulers.clone();
        shuffle(parts.random.as_ref(), &mut order);
        Self {
            parts,
            ledger: Ledger::default(),
            freshness: Freshness::default(),
            order,
            next: 0,
            last_problem: String::new(),
            was_registered: false,
        }
    }

    /// Runs until the executor stops, and leaves what is left of the lease to the next process.
    pub async fn run(mut self, stop: CancellationToken) {
        self.keep(&stop).await;
        if self.was_registered {
            let until = self.parts.lease.borrow().until;
            self.parts.lease_file.store(until).await;
            let left_s = until.saturating_duration_since(Instant::now()).as_secs();
            if left_s * 1_000 < RESTART_LEASE_MS / 2 {
                tracing::warn!(
                    left_s,
                    "no scheduler took note of this stop: only the lease is left for the return"
                );
            } else {
                tracing::info!(left_s, "the schedulers wait for this executor's return");
            }
        }
    }

    async fn keep(&mut self, stop: &CancellationToken) {
        // A registration names what is there. An engine that is known not to answer is not waited for.
        if self.parts.not_ready.borrow().is_none() {
            let mut snapshot = self.parts.snapshot.clone();
            let known =
                tokio::time::timeout(FIRST_LIST_WAIT, snapshot.wait_for(|shown| shown.containers_known));
            let _ = stop.run_until_cancelled(known).await;
        }
        let mut failures = 0;
        while !stop.is_cancelled() {
            let wait = match self.once(stop).await {
                Ok(reason) if stop.is_cancelled() => {
                    tracing::info!(reason, "session ended: jobs run on");
                    return;
                }
                Ok(reason) => {
                    failures = 0;
                    tracing::warn!(reason, "session ended: the next scheduler is tried, jobs run on");
                    up_to(self.parts.random.as_ref(), FAIL_OVER_WAIT)
                }
                Err(_) if stop.is_cancelled() => return,
                Err(problem) => {
                    self.log(&problem);
                    let wait_ms = RECONNECT.wait_ms(failures, self.parts.random.next_u32());
                    failures = failures.saturating_add(1);
                    Duration::from_millis(wait_ms)
                }
            };
            self.parts.ready.send_replace(None);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Registers with the next scheduler and keeps the session. `Ok` says why the session ended,
    /// `Err` why there was none.
    async fn once(&mut self, stop: &CancellationToken) -> Result<String, String> {
        let address = self.order.get(self.next % self.order.len().max(1)).cloned();
        let address = address.ok_or_else(|| "no scheduler is configured".to_owned())?;
        self.next = self.next.wrapping_add(1);
        let registered = tokio::select! {
            biased;
            () = stop.cancelled() => return Err("the executor stops".to_owned()),
            registered = self.register(&address) => registered?,
        };
        tracing::info!(
            executor_id = %self.parts.identity.executor_id,
            session_id = %registered.session_id,
            scheduler = %registered.address,
            "registered"
        );
        self.last_problem.clear();
        self.ledger.begin_session();
        Ok(match Stream::new(self, registered).run(stop).await {
            StreamEnd::Stopped => "the executor stops".to_owned(),
            StreamEnd::Broken(reason) => reason,
        })
    }

    async fn register(&mut self, address: &str) -> Result<Registered, String> {
        let channel = self.parts.connector.connect(address).await.map_err(|error| error.to_string())?;
        let mut client = ExecutorServiceClient::new(channel)
            .max_decoding_message_size(MAX_DECODED_BYTES)
            .max_encoding_message_size(MAX_DECODED_BYTES);
        let inventory =
            register::inventory(&self.parts.commands).await.ok_or_else(|| "the executor stops".to_owned())?;
        let request = register::request(&self.parts, &inventory).await;
        let sent = Instant::now();
        let answer = tokio::time::timeout(REGISTER_WAIT, client.register(request)).await;
        let response = match answer {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                self.refused(&status);
                return Err(format!(
                    "scheduler {address} refuses: {} ({:?})",
                    status.message(),
                    status.code()
                ));
            }
            Err(_) => return Err(format!("scheduler {address} does not answer")),
        };
        Ok(self.registered(client, address, sent, response, inventory.containers_known).await)
    }

    async fn registered(
        &mut self,
        client: ExecutorServiceClient<Channel>,
        address: &str,
        sent: Instant,
        response: RegisterResponse,
        containers_known: bool,
    ) -> Registered {
        // The reconciler is gone only when the executor stops.
        let _ = self.parts.commands.send(Command::Registered).await;
        for attempt in response.stop.iter().filter_map(|reference| wire::attempt(Some(reference))) {
            let _ = self.parts.commands.send(Command::Dismiss(attempt)).await;
        }
        let lease_duration = interval(response.lease_duration.as_ref(), LEASE);
        let until = sent + lease_duration;
        self.parts.lease.send_replace(Lease { until, entitled: true });
        if !self.was_registered {
            self.was_registered = true;
            self.parts.lease_file.store(until).await;
        }
        Registered {
            client,
            address: address.to_owned(),
            session_id: response.session_id,
            heartbeat_interval: interval(response.heartbeat_interval.as_ref(), HEARTBEAT),
            lease_duration,
            containers_known,
        }
    }

    /// A process whose name another one has leaves the containers of it alone: what its folder says may be
    /// a copy, and what it was told before may be over.
    fn refused(&self, status: &Status) {
        if reason_of(status).as_deref() == Some("EXECUTOR_ID_IN_USE") {
            self.parts.lease.send_modify(|lease| lease.entitled = false);
        }
    }

    /// A problem that lasts is told once, not at every attempt.
    fn log(&mut self, problem: &str) {
        if self.last_problem == problem {
            tracing::debug!(reason = problem, "still not registered");
        } else {
            tracing::warn!(reason = %problem, "not registered: tried again until it works");
            problem.clone_into(&mut self.last_problem);
        }
    }
}

/// Reads an interval; the default stands for one that is missing, zero or malformed.
pub(super) fn interval(value: Option<&prost_types::Duration>, default: Duration) -> Duration {
    let ms = value.and_then(|value| duration_ms("interval", value).ok()).filter(|ms| *ms > 0);
    ms.map_or(default, Duration::from_millis)
}
