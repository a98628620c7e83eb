//! One session: heartbeats and reports come up; acknowledgements, assignments and log demands go
//! down. However much there is to send, heartbeats are answered in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use berth_api::convert::{attempt_from_wire, attempt_to_wire, duration, signed};
use berth_api::status::Problem;
use berth_api::v1;
use berth_domain::executor::Executor;
use berth_domain::ids::{AttemptRef, ExecutorId, JobId, SessionId};
use berth_domain::job::{Job, JobIndex};
use berth_domain::lifecycle::shorten_message;
use berth_store::{Change, Cursor, MAX_MUTATIONS, MAX_PAGE, Position, Scope, StoreError};
use futures::{FutureExt, Stream as Incoming, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::assignments::{Assignments, At, Forgotten};
use super::condition::{self, Noted};
use super::leases::LeaseClient;
use super::registry::{Inbox, News, Registered};
use super::reports::{Recent, ReportError, Speaker, commit_reports};
use super::starts::{self, stop};
use super::updates::UpdateClient;
use crate::context::{Context, stopping};
use crate::feed::reached_within;

/// How long the image may take to show what the store has.
const CATCH_UP: Duration = Duration::from_secs(2);
/// The most messages whose reports are stored together.
const MOST_GATHERED: usize = 100;
/// How long the first message of a session may take.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// Messages that may wait for a slow executor.
const OUTBOUND: usize = 64;
/// The most attempts whose specs are fetched at once.
const MAX_SPECS: usize = 64;
/// Assignment messages that may wait for an executor; one that takes none of so many is given up.
const MOST_OUTGOING: usize = 4_096;

/// What goes down.
pub type Stream = mpsc::Receiver<Result<v1::SessionResponse, Status>>;

/// Why a session ends.
enum End {
    /// The executor closed it, or the connection broke.
    Closed,
    /// Its registration is void; the executor has to register again.
    Over,
    /// The store failed; another replica may do better.
    Store(StoreError),
    /// This replica stops; another one goes on.
    Stopping,
}

/// What goes to the store together with that of other sessions.
#[derive(Debug, Clone)]
pub struct Batched {
    /// Renews leases.
    pub leases: LeaseClient,
    /// Commits reports.
    pub updates: UpdateClient,
}

struct Session {
    context: Arc<Context>,
    executor: ExecutorId,
    session: SessionId,
    batched: Batched,
    out: mpsc::Sender<Result<v1::SessionResponse, Status>>,
    /// The store's generation that the executor's inventory was compared with.
    generation: u64,
    assignments: Assignments,
    /// Assignment messages that wait for room on the way down, oldest first.
    outgoing: VecDeque<v1::SessionResponse>,
    /// What it has committed of its jobs.
    recent: Recent,
    /// What the last whole set was read at; older changes are part of it.
    whole_at: Position,
    /// Why the executor can run no jobs, as the store has it.
    not_ready: String,
}

/// Serves a session; the first message names it.
///
/// # Errors
/// Refuses a first message without a session id that this store knows as current.
pub async fn serve(
    context: Arc<Context>,
    batched: Batched,
    mut incoming: impl Incoming<Item = Result<v1::SessionRequest, Status>> + Send + Unpin + 'static,
) -> Result<Stream, Problem> {
    let first = match tokio::time::timeout(FIRST_MESSAGE, incoming.next()).await {
        Ok(Some(Ok(first))) => first,
        Ok(Some(Err(_)) | None) | Err(_) => {
            return Err(Problem::field("session_id", "must be in a first message"));
        }
    };
    let session = SessionId::trusted(first.session_id.as_str());
    let known = identify(&context, &session).await?;
    let executor = known.id.clone();
    let registered = match context.sessions.take_registered(&executor, &session) {
        Some(registered) => registered,
        // Registered elsewhere, a moment ago.
        None => {
            let meta = context.store.meta().await.map_err(|e| context.problem(&e))?;
            // What it reports is dated by the clock of that generation.
            context.catch_up_with(meta.position.generation).await;
            Registered { generation: meta.position.generation, ..Registered::default() }
        }
    };
    let (out, stream) = mpsc::channel(OUTBOUND);
    let assignments = Assignments::new(registered.in_hand);
    let task = Session {
        context,
        executor,
        session,
        batched,
        out,
        generation: registered.generation,
        assignments,
        outgoing: VecDeque::new(),
        recent: Recent::new(),
        whole_at: Position::default(),
        not_ready: known.not_ready.clone().unwrap_or_default(),
    };
    // Open before anybody hears of it: a copy of the executor's folder is told by its being open.
    let inbox = task.context.sessions.open(&task.executor, &task.session);
    tokio::spawn(task.run(first, incoming, inbox));
    Ok(stream)
}

/// The executor of a session. It need not be the newest: whatever a session does, the store compares it.
async fn identify(context: &Context, session: &SessionId) -> Result<Arc<Executor>, Problem> {
    let known = || context.with_image(|image| image.executor_of(session).cloned());
    if let Some(known) = known() {
        return Ok(known);
    }
    // Registered a moment ago, perhaps elsewhere, or long over: an image as new as the store is now shows which.
    let head = context.store.head().await.map_err(|e| context.problem(&e))?;
    if !reached_within(context, head, CATCH_UP).await {
        return Err(Problem::Unavailable {
            reason: "REPLICA_BEHIND",
            message: "This scheduler is behind the store and does not know the session yet; retry."
                .to_owned(),
            retry_after: Duration::from_secs(1),
        });
    }
    known().ok_or_else(session_over)
}

fn session_over() -> Problem {
    Problem::Precondition {
        reason: "SESSION_OVER",
        message: "This session is no longer the executor's current one. Register again.".to_owned(),
    }
}

impl Session {
    async fn run(
        mut self,
        first: v1::SessionRequest,
        incoming: impl Incoming<Item = Result<v1::SessionRequest, Status>> + Send + Unpin + 'static,
        inbox: Inbox,
    ) {
        tracing::info!(executor_id = %self.executor, session = %self.session, "session opened");
        let end = self.serve(first, incoming, inbox).await;
        self.context.sessions.close(&self.executor, &self.session);
        let said = match end {
            End::Closed => {
                tracing::info!(executor_id = %self.executor, session = %self.session, "session closed");
                return;
            }
            End::Over => session_over(),
            End::Store(error) => self.context.problem(&error),
            End::Stopping => stopping(),
        };
        tracing::warn!(executor_id = %self.executor, session = %self.session, reason = %said, "session ended");
        // An executor that no longer listens needs no reason.
        let _ = self.out.send(Err(said.into())).await;
    }

    async fn serve(
        &mut self,
        first: v1::SessionRequest,
        mut incoming: impl Incoming<Item = Result<v1::SessionRequest, Status>> + Unpin,
        mut inbox: Inbox,
    ) -> End {
        // The inbox was there before the set is read: no change falls between the two.
        if let Err(end) = self.send_full_set().await {
            return end;
        }
        if let Err(end) = self.receive(first).await {
            return end;
        }
        let mut safety = Instant::now() + self.context.config.safety_interval;
        let out = self.out.clone();
        loop {
            if let Err(end) = self.flush().await {
                return end;
            }
            let done = tokio::select! {
                biased;
                () = self.context.stop.cancelled() => Err(End::Stopping),
                message = incoming.next() => match message {
                    Some(Ok(message)) => {
                        let (message, is_open) = gather(message, &mut incoming);
                        self.receive(message).await.and(if is_open { Ok(()) } else { Err(End::Closed) })
                    }
                    Some(Err(_)) | None => Err(End::Closed),
                },
                news = inbox.news.recv() => match news {
                    Some(News::Changes(changes, mine)) => self.follow(mine.iter().map(|place| &changes[*place])).await,
                    Some(News::Resync) => self.send_full_set().await,
                    None => match self.context.sessions.listen_again(&self.executor, &self.session) {
                        Some(news) => {
                            inbox.news = news;
                            self.send_full_set().await
                        }
                        None => Err(End::Over),
                    },
                },
                room = out.reserve(), if !self.outgoing.is_empty() => room.map(drop).map_err(|_| End::Closed),
                demand = inbox.demands.recv() => match demand {
                    Some(demand) => self.send(v1::SessionResponse { log_demands: vec![demand], ..self.stamped() }).await,
                    // A newer session of this executor has taken the place.
                    None => Err(End::Over),
                },
                () = sleep_until(safety) => {
                    safety = Instant::now() + self.context.config.safety_interval;
                    self.send_full_set().await
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// A message without content, stamped with what it was decided from.
    fn stamped(&self) -> v1::SessionResponse {
        let (position, epoch) = self.context.with_image(|image| (image.position, image.epoch));
        v1::SessionResponse {
            position: Some(position_to_wire(position)),
            epoch: signed(epoch),
            ..v1::SessionResponse::default()
        }
    }

    async fn send(&self, message: v1::SessionResponse) -> Result<(), End> {
        self.out.send(Ok(message)).await.map_err(|_| End::Closed)
    }

    /// Sends of what waits as much as there is room for now.
    async fn flush(&mut self) -> Result<(), End> {
        loop {
            if self.outgoing.is_empty() {
                let jobs = self.assignments.next_starts(MAX_SPECS);
                if jobs.is_empty() {
                    return Ok(());
                }
                for message in starts::messages(&self.context, &jobs).await.map_err(End::Store)? {
                    self.push(v1::SessionResponse {
                        starts: message.starts,
                        stops: message.stops,
                        ..self.stamped()
                    })?;
                }
            }
            while let Some(message) = self.outgoing.pop_front() {
                match self.out.try_reserve() {
                    Ok(room) => room.send(Ok(message)),
                    Err(mpsc::error::TrySendError::Full(())) => {
                        self.outgoing.push_front(message);
                        return Ok(());
                    }
                    Err(mpsc::error::TrySendError::Closed(())) => return Err(End::Closed),
                }
            }
        }
    }

    /// Puts an assignment message at the end of what waits.
    fn push(&mut self, message: v1::SessionResponse) -> Result<(), End> {
        if self.outgoing.len() >= MOST_OUTGOING {
            tracing::warn!(executor_id = %self.executor, "executor takes no assignments; its session is given up");
            return Err(End::Closed);
        }
        self.assignments.sent(at(message.position.as_ref()));
        self.outgoing.push_back(message);
        Ok(())
    }

    async fn receive(&mut self, message: v1::SessionRequest) -> Result<(), End> {
        for progress in &message.progress {
            let phase = v1::JobPhase::try_from(progress.phase);
            if let (Ok(attempt), Ok(phase)) = (attempt_from_wire(progress.r#ref.as_ref()), phase) {
                self.context.sessions.note_phase(&self.executor, attempt, phase);
            }
        }
        if message.planned_restart {
            tracing::info!(executor_id = %self.executor, "executor announces a restart");
            let noted = condition::set_restarting(&self.context, &self.executor, &self.session).await;
            // The executor counts on it once the stream ends well.
            if noted.map_err(End::Store)? != Noted::Stored {
                return Err(End::Over);
            }
        }
        if !message.reports.is_empty() {
            self.report(&message.reports).await?;
        }
        match message.heartbeat {
            Some(heartbeat) => self.heartbeat(heartbeat).await,
            None => Ok(()),
        }
    }

    async fn heartbeat(&mut self, heartbeat: v1::session_request::Heartbeat) -> Result<(), End> {
        let applied = at(heartbeat.applied.as_ref());
        if self.outgoing.is_empty() && self.assignments.differs(applied, heartbeat.assigned_digest) {
            tracing::warn!(executor_id = %self.executor, "executor has another set of assignments; sending it whole");
            self.send_full_set().await?;
        }
        let not_ready = shorten_message(&heartbeat.not_ready);
        if self.not_ready != not_ready {
            let (executor, session) = (&self.executor, &self.session);
            let noted = condition::set_not_ready(&self.context, executor, session, &not_ready).await;
            match noted.map_err(End::Store)? {
                Noted::Stored => self.not_ready = not_ready,
                // The next heartbeat says it again.
                Noted::Busy => {}
                Noted::Over => return Err(End::Over),
            }
        }
        if let Some(used) = heartbeat.used {
            self.context.sessions.note_used(&self.executor, used);
        }
        let lease = self.context.config.lease;
        match self.batched.leases.renew(&self.executor, &self.session, lease).await {
            Some(true) => {
                let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
                let ack = v1::session_response::Ack {
                    sequence: heartbeat.sequence,
                    lease_duration: Some(duration(lease_ms)),
                    draining: self.is_draining(),
                };
                self.send(v1::SessionResponse { ack: Some(ack), ..self.stamped() }).await
            }
            Some(false) => Err(End::Over),
            // Unanswered: the executor tries another replica after its reply deadline.
            None => Ok(()),
        }
    }

    async fn report(&mut self, reports: &[v1::session_request::Report]) -> Result<(), End> {
        let speaker =
            Speaker { executor: &self.executor, session: &self.session, generation: self.generation };
        match commit_reports(&self.context, &self.batched.updates, speaker, &mut self.recent, reports).await {
            Ok(report_acks) => {
                self.note_ends(reports, &report_acks);
                self.send(v1::SessionResponse { report_acks, ..self.stamped() }).await
            }
            Err(ReportError::SessionOver) => Err(End::Over),
            // Unacknowledged reports are repeated; where the generation changed, with the new one.
            Err(ReportError::Store(error)) => Err(End::Store(error)),
        }
    }

    /// Takes note of the ends that the executor knows of because it reported them.
    fn note_ends(
        &mut self,
        reports: &[v1::session_request::Report],
        acks: &[v1::session_response::ReportAck],
    ) {
        let settled = |number: i64| acks.iter().any(|ack| ack.number == number && ack.current);
        for report in reports.iter().filter(|report| report.result.is_some() && settled(report.number)) {
            if let Ok(attempt) = attempt_from_wire(report.r#ref.as_ref()) {
                self.assignments.ended_here(attempt);
            }
        }
    }

    fn is_draining(&self) -> bool {
        let is_drained = |known: &Arc<Executor>| known.drain.is_some();
        self.context.with_image(|image| image.executor(&self.executor).is_some_and(is_drained))
    }

    /// Tells the executor what changed for it.
    async fn follow(&mut self, changes: impl Iterator<Item = &(u64, Change)>) -> Result<(), End> {
        let mut latest: BTreeMap<&JobId, Option<&Arc<Job>>> = BTreeMap::new();
        let newer = changes.filter(|(revision, _)| *revision > self.whole_at.revision);
        for (_, change) in newer {
            match change {
                Change::Job(job) => {
                    latest.insert(&job.id, Some(job));
                }
                Change::JobDeleted(id) => {
                    latest.insert(id, None);
                }
                Change::Executor(executor) if executor.id == self.executor => {
                    if executor.session.as_ref() != Some(&self.session) {
                        return Err(End::Over);
                    }
                }
                Change::Executor(_) | Change::Leader { .. } => {}
            }
        }
        let mut stops = Vec::new();
        let mut dropped = false;
        for (id, job) in latest {
            match job.and_then(|job| self.mine(job).map(|attempt| (job, attempt))) {
                Some((job, attempt)) => {
                    if self.assignments.news(job, attempt) {
                        stops.extend(stop(job));
                    }
                }
                None => dropped |= self.no_longer_mine(id),
            }
        }
        if dropped {
            return self.send_full_set().await;
        }
        if stops.is_empty() { Ok(()) } else { self.push(v1::SessionResponse { stops, ..self.stamped() }) }
    }

    fn mine(&self, job: &Job) -> Option<AttemptRef> {
        match job.index() {
            JobIndex::Assigned(executor) if executor == self.executor => job.current_attempt(),
            JobIndex::Assigned(_) | JobIndex::Pending | JobIndex::Delayed(_) | JobIndex::Finished(_) => None,
        }
    }

    /// Forgets a job that is not the executor's any more. `true` when the executor does not know that yet.
    fn no_longer_mine(&mut self, id: &JobId) -> bool {
        self.recent.remove(id);
        let (attempt, is_news) = match self.assignments.forget(id) {
            Forgotten::Unknown => return false,
            Forgotten::Known(attempt) => (attempt, false),
            Forgotten::News(attempt) => (attempt, true),
        };
        self.context.sessions.forget_phase(&self.executor, &attempt);
        is_news
    }

    /// Reads everything assigned to the executor and sends the whole set by name; what it has no spec of
    /// yet follows.
    async fn send_full_set(&mut self) -> Result<(), End> {
        // What is read after this is at least as new as the stamp says, whatever this replica's
        // image shows; an executor that has heard more from another replica would not take less.
        let meta = self.context.store.meta().await.map_err(End::Store)?;
        if meta.position.generation != self.generation {
            // The store may have lost what the executor runs: it is asked before it is told.
            tracing::info!(executor_id = %self.executor, generation = meta.position.generation,
                "the store began a new generation; the executor is asked for its inventory");
            return Err(End::Over);
        }
        self.whole_at = meta.position;
        let jobs = self.assigned().await.map_err(End::Store)?;
        self.assignments.whole(&jobs);
        let held: BTreeSet<&JobId> = jobs.iter().map(|job| &job.id).collect();
        self.recent.retain(|id, _| held.contains(id));
        let name = |job: &Arc<Job>| v1::session_response::Start {
            r#ref: Some(attempt_to_wire(&job.last_attempt())),
            ..v1::session_response::Start::default()
        };
        self.push(v1::SessionResponse {
            position: Some(position_to_wire(meta.position)),
            epoch: signed(meta.lock.epoch),
            full_set: true,
            starts: jobs.iter().map(name).collect(),
            stops: jobs.iter().filter_map(|job| stop(job)).collect(),
            ..v1::SessionResponse::default()
        })
    }

    async fn assigned(&self) -> Result<Vec<Arc<Job>>, StoreError> {
        let scope = Scope::Assigned(self.executor.clone());
        let (mut jobs, mut seen) = (Vec::new(), BTreeSet::new());
        let mut after: Option<Cursor> = None;
        loop {
            let page = self.context.store.page(&scope, after.as_ref(), MAX_PAGE).await?;
            jobs.extend(page.jobs.into_iter().filter(|job| seen.insert(job.id.clone())).map(Arc::new));
            after = page.next;
            if after.is_none() {
                return Ok(jobs);
            }
        }
    }
}

/// Adds to a message the reports of those that have come behind it, so that they are stored together: they gather while
/// others are stored. Says whether the stream goes on.
fn gather(
    mut message: v1::SessionRequest,
    incoming: &mut (impl Incoming<Item = Result<v1::SessionRequest, Status>> + Unpin),
) -> (v1::SessionRequest, bool) {
    for _ in 0..MOST_GATHERED {
        if !is_reports_alone(&message) || message.reports.len() >= MAX_MUTATIONS {
            break;
        }
        match incoming.next().now_or_never() {
            Some(Some(Ok(next))) => {
                message.reports.extend(next.reports);
                message.progress.extend(next.progress);
                message.heartbeat = next.heartbeat;
                message.planned_restart = next.planned_restart;
            }
            Some(Some(Err(_)) | None) => return (message, false),
            None => break,
        }
    }
    (message, true)
}

fn is_reports_alone(message: &v1::SessionRequest) -> bool {
    !message.reports.is_empty() && message.heartbeat.is_none() && !message.planned_restart
}

fn position_to_wire(position: Position) -> v1::Position {
    v1::Position { generation: signed(position.generation), revision: signed(position.revision) }
}

fn at(position: Option<&v1::Position>) -> At {
    position.map_or((0, 0), |at| (at.generation, at.revision))
}
