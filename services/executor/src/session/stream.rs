//! One session: heartbeats and reports up, acknowledgements, orders and log demands down. It never
//! waits to send: what finds no room is sent later, and a stream that takes nothing is noticed by
//! its missing answers.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_api::convert::resources_to_wire;
use berth_api::v1::session_request::Heartbeat;
use berth_api::v1::session_response::{Ack, LogDemand, ReportAck};
use berth_api::v1::{SessionRequest, SessionResponse};
use berth_domain::executor::RESTART_LEASE_MS;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::runner::{Ready, Registered, Session, interval};
use super::{uploads, wire};
use crate::lease::Lease;
use crate::random::about;
use crate::reconciler::{Command, Progress, Snapshot};

/// How long the answer to a heartbeat may take.
const REPLY_WAIT: Duration = Duration::from_secs(3);
/// How long a planned stop may take to be told.
const FAREWELL_WAIT: Duration = Duration::from_millis(500);
/// Messages between this task and the network.
const BUFFERED: usize = 64;
/// Reports in one message.
const REPORTS_A_MESSAGE: usize = 200;
/// Signs of progress in one message.
const PROGRESS_A_MESSAGE: usize = 64;
/// Uploads at the same time.
const MOST_UPLOADS: usize = 64;

/// Why a session ended.
pub(super) enum StreamEnd {
    /// The executor stops.
    Stopped,
    /// Something broke.
    Broken(String),
}

/// A session under way.
pub(super) struct Stream<'a> {
    session: &'a mut Session,
    registered: Registered,
    up: mpsc::Sender<SessionRequest>,
    up_receiver: Option<mpsc::Receiver<SessionRequest>>,
    sequence: i64,
    /// When each heartbeat without an answer was sent.
    unanswered: BTreeMap<i64, Instant>,
    next_heartbeat: Instant,
    draining: bool,
    uploads: JoinSet<()>,
}

impl<'a> Stream<'a> {
    pub fn new(session: &'a mut Session, registered: Registered) -> Self {
        let (up, up_receiver) = mpsc::channel(BUFFERED);
        Self {
            session,
            registered,
            up,
            up_receiver: Some(up_receiver),
            sequence: 0,
            unanswered: BTreeMap::new(),
            next_heartbeat: Instant::now(),
            draining: false,
            uploads: JoinSet::new(),
        }
    }

    /// Keeps the session until it breaks or the executor stops.
    pub async fn run(mut self, stop: &CancellationToken) -> StreamEnd {
        let Some(receiver) = self.up_receiver.take() else {
            return StreamEnd::Broken("the session was begun before".to_owned());
        };
        // The first heartbeat goes with the call itself.
        self.heartbeat();
        let mut client = self.registered.client.clone();
        let call = client.session(ReceiverStream::new(receiver));
        let mut down = match tokio::time::timeout(REPLY_WAIT, call).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return StreamEnd::Broken(describe(&status)),
            Err(_) => return StreamEnd::Broken("the scheduler opens no session".to_owned()),
        };
        let mut snapshot = self.session.parts.snapshot.clone();
        snapshot.mark_changed();
        let mut not_ready = self.session.parts.not_ready.clone();
        not_ready.mark_unchanged();
        loop {
            let overdue = self.unanswered.values().next().copied();
            let overdue = overdue.unwrap_or(self.next_heartbeat + REPLY_WAIT) + REPLY_WAIT;
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.farewell(down).await,
                // Before what comes down: however much that is, the lease is kept.
                () = tokio::time::sleep_until(self.next_heartbeat) => {
                    self.heartbeat();
                    self.report(&snapshot.borrow().clone());
                }
                Ok(()) = not_ready.changed() => self.heartbeat(),
                message = down.message() => match message {
                    Ok(Some(message)) => self.take(message).await,
                    Ok(None) => return StreamEnd::Broken("the scheduler closed the session".to_owned()),
                    Err(status) => return StreamEnd::Broken(describe(&status)),
                },
                () = tokio::time::sleep_until(overdue) => {
                    return StreamEnd::Broken("a heartbeat was not answered in time".to_owned());
                }
                changed = snapshot.changed() => {
                    if changed.is_err() {
                        return StreamEnd::Stopped;
                    }
                    let newest = snapshot.borrow_and_update().clone();
                    if newest.containers_known && !self.registered.containers_known {
                        let reason = "the container engine answers: the schedulers are told what it has";
                        return StreamEnd::Broken(reason.to_owned());
                    }
                    self.report(&newest);
                }
                Some(progress) = self.session.parts.progress.recv() => self.show(progress),
                Some(_) = self.uploads.join_next() => {}
            }
        }
    }

    fn message(&self) -> SessionRequest {
        SessionRequest { session_id: self.registered.session_id.clone(), ..SessionRequest::default() }
    }

    fn heartbeat(&mut self) {
        let now = Instant::now();
        self.sequence += 1;
        self.next_heartbeat =
            now + about(self.session.parts.random.as_ref(), self.registered.heartbeat_interval);
        let snapshot = self.session.parts.snapshot.borrow().clone();
        let models = Vec::new();
        let used = resources_to_wire(
            snapshot.used.cpu_millis,
            snapshot.used.memory_bytes,
            snapshot.used.gpu_ids.len(),
            models,
        );
        let heartbeat = Heartbeat {
            sequence: self.sequence,
            applied: Some(self.session.freshness.applied()),
            assigned_digest: snapshot.assigned_digest,
            used: Some(used),
            not_ready: self.session.parts.not_ready.borrow().clone().unwrap_or_default(),
        };
        // One that finds no room counts as sent: its answer will be missing.
        self.unanswered.insert(self.sequence, now);
        let _ = self.up.try_send(SessionRequest { heartbeat: Some(heartbeat), ..self.message() });
    }

    fn report(&mut self, snapshot: &Snapshot) {
        let most = self.up.capacity() * REPORTS_A_MESSAGE;
        let due = self.session.ledger.due(&snapshot.reports, Instant::now(), most);
        for batch in due.chunks(REPORTS_A_MESSAGE) {
            let reports = batch.iter().map(wire::report).collect();
            // There is room, and nobody else takes it: this task alone sends.
            let _ = self.up.try_send(SessionRequest { reports, ..self.message() });
        }
    }

    fn show(&mut self, first: Progress) {
        let mut progress = vec![wire::progress(&first)];
        while progress.len() < PROGRESS_A_MESSAGE {
            match self.session.parts.progress.try_recv() {
                Ok(more) => progress.push(wire::progress(&more)),
                Err(_) => break,
            }
        }
        let _ = self.up.try_send(SessionRequest { progress, ..self.message() });
    }

    async fn take(&mut self, message: SessionResponse) {
        if let Some(ack) = &message.ack {
            self.acknowledged(ack);
        }
        for ack in &message.report_acks {
            self.report_acknowledged(ack).await;
        }
        if let Some(mut orders) = wire::orders(&message) {
            // Who does not know what is here cannot say that it is unwanted.
            orders.full_set &= self.registered.containers_known;
            let fresh =
                self.session.freshness.accepts(message.position.as_ref(), message.epoch, message.full_set);
            if fresh {
                self.tell(Command::Orders(orders)).await;
            } else {
                tracing::info!(
                    epoch = message.epoch,
                    "an assignment message older than one before was ignored"
                );
            }
        }
        for demand in message.log_demands {
            self.upload(demand);
        }
    }

    fn acknowledged(&mut self, ack: &Ack) {
        let Some(sent) = self.unanswered.get(&ack.sequence).copied() else { return };
        self.unanswered.retain(|sequence, _| *sequence > ack.sequence);
        let lease = interval(ack.lease_duration.as_ref(), self.registered.lease_duration);
        self.session.parts.lease.send_replace(Lease { until: sent + lease, entitled: true });
        if self.draining != ack.draining {
            self.draining = ack.draining;
            tracing::info!(draining = ack.draining, "drain changed");
        }
        self.session.parts.ready.send_if_modified(|ready| {
            let first = ready.is_none();
            *ready = Some(Ready {
                executor_id: self.session.parts.identity.executor_id.clone(),
                session_id: self.registered.session_id.clone(),
                scheduler: self.registered.address.clone(),
            });
            first
        });
    }

    async fn report_acknowledged(&mut self, ack: &ReportAck) {
        let Some(answered) = self.session.ledger.answered(ack.number) else { return };
        let command =
            Command::Acknowledged { attempt: answered.attempt, ended: answered.ended, current: ack.current };
        self.tell(command).await;
    }

    /// Tells the reconciler, which always takes what it is told; it is gone only when the executor
    /// stops.
    async fn tell(&self, command: Command) {
        let _ = self.session.parts.commands.send(command).await;
    }

    fn upload(&mut self, demand: LogDemand) {
        if self.uploads.len() >= MOST_UPLOADS {
            tracing::warn!(demand_id = %demand.demand_id, "too many uploads of output at once: one was left out");
            return;
        }
        let client = self.registered.client.clone();
        let store = self.session.parts.logs.clone();
        self.uploads.spawn(uploads::upload(client, store, self.registered.session_id.clone(), demand));
    }

    /// Announces a planned stop, so that the lease is long enough for the way back.
    async fn farewell(self, mut down: Streaming<SessionResponse>) -> StreamEnd {
        let message = SessionRequest { planned_restart: true, ..self.message() };
        let sent = Instant::now();
        let told = async {
            self.up.send(message).await.ok()?;
            // Closing our side makes the other side close its own once it has read and stored everything.
            drop(self.up);
            loop {
                match down.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Some(()),
                    Err(_) => return None,
                }
            }
        };
        if let Ok(Some(())) = tokio::time::timeout(FAREWELL_WAIT, told).await {
            let until = sent + Duration::from_millis(RESTART_LEASE_MS);
            self.session.parts.lease.send_modify(|lease| lease.until = lease.until.max(until));
        }
        StreamEnd::Stopped
    }
}

fn describe(status: &tonic::Status) -> String {
    format!("the scheduler ended the session: {} ({:?})", status.message(), status.code())
}
