//! The sessions this replica holds, and the log demands that wait for an upload.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_api::status::Problem;
use berth_api::v1;
use berth_domain::ids::{AttemptRef, ExecutorId, SessionId};
use berth_store::Change;
use tokio::sync::mpsc;

/// The most demands that may wait in a session.
const DEMAND_QUEUE: usize = 64;
/// Changes that may wait for a slow session.
const NEWS_QUEUE: usize = 1_024;
/// Chunks of output that may wait for a slow reader.
const LOG_QUEUE: usize = 16;

/// Where an upload delivers chunks of output.
pub type LogSink = mpsc::Sender<v1::UploadLogsRequest>;

/// What a session hears of the store's changes.
#[derive(Debug)]
pub enum News {
    /// Some of these changes, by their places, concern its executor. Revisions and changes are in order.
    Changes(Arc<Vec<(u64, Change)>>, Vec<usize>),
    /// Changes were missed: the whole set is to be read.
    Resync,
}

/// Changes by the executors that they concern: their places among all.
pub type Routes = BTreeMap<ExecutorId, Vec<usize>>;

/// What comes to an open session from inside its replica.
#[derive(Debug)]
pub struct Inbox {
    /// Demands of logs; it ends once another session has taken the place.
    pub demands: mpsc::Receiver<v1::session_response::LogDemand>,
    /// Changes; it ends once it has overflown, too.
    pub news: mpsc::Receiver<News>,
}

#[derive(Debug)]
struct Handle {
    session: SessionId,
    demands: mpsc::Sender<v1::session_response::LogDemand>,
    /// None once it has overflown.
    news: Option<mpsc::Sender<News>>,
    phases: BTreeMap<AttemptRef, v1::JobPhase>,
    used: Option<v1::Resources>,
}

impl Handle {
    fn tell(&mut self, news: News) {
        // Where nobody takes them, nothing more is put there, and the session reads its whole set.
        if self.news.as_ref().is_some_and(|sender| sender.try_send(news).is_err()) {
            self.news = None;
        }
    }
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<ExecutorId, Handle>,
    /// Executors that have registered here, and not opened their session yet.
    registered: BTreeMap<ExecutorId, (SessionId, Registered)>,
    uploads: BTreeMap<String, LogSink>,
}

/// What a registration says about the session that follows it.
#[derive(Debug, Default)]
pub struct Registered {
    /// The store's generation that the executor's inventory was compared with.
    pub generation: u64,
    /// Attempts whose specs the executor has.
    pub in_hand: BTreeSet<AttemptRef>,
}

/// The sessions this replica holds.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<State>);

impl Sessions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session in; one of the same executor that was here before no longer gets anything.
    pub fn open(&self, executor: &ExecutorId, session: &SessionId) -> Inbox {
        let (demands, demanded) = mpsc::channel(DEMAND_QUEUE);
        let (sender, news) = mpsc::channel(NEWS_QUEUE);
        let (session, news_to) = (session.clone(), Some(sender));
        let handle = Handle { session, demands, news: news_to, phases: BTreeMap::new(), used: None };
        self.state().sessions.insert(executor.clone(), handle);
        Inbox { demands: demanded, news }
    }

    /// Lets a session that was too slow hear of changes again, from now on; none where it is open no more.
    pub fn listen_again(&self, executor: &ExecutorId, session: &SessionId) -> Option<mpsc::Receiver<News>> {
        let mut state = self.state();
        let handle = state.sessions.get_mut(executor).filter(|handle| handle.session == *session)?;
        let (sender, news) = mpsc::channel(NEWS_QUEUE);
        handle.news = Some(sender);
        Some(news)
    }

    /// Tells each session of what concerns its executor.
    pub fn tell(&self, changes: &Arc<Vec<(u64, Change)>>, routes: Routes) {
        let mut state = self.state();
        for (executor, places) in routes {
            if let Some(handle) = state.sessions.get_mut(&executor) {
                handle.tell(News::Changes(changes.clone(), places));
            }
        }
    }

    /// Tells all sessions that changes were missed.
    pub fn tell_all_to_resync(&self) {
        self.state().sessions.values_mut().for_each(|handle| handle.tell(News::Resync));
    }

    /// Lets a session go, unless another one has taken its place.
    pub fn close(&self, executor: &ExecutorId, session: &SessionId) {
        let mut state = self.state();
        if state.sessions.get(executor).is_some_and(|handle| handle.session == *session) {
            state.sessions.remove(executor);
        }
    }

    /// Says whether this replica holds a session of the executor.
    pub fn holds(&self, executor: &ExecutorId) -> bool {
        self.state().sessions.contains_key(executor)
    }

    /// Says whether this replica holds that very session of the executor, with its stream open.
    pub fn is_open(&self, executor: &ExecutorId, session: &SessionId) -> bool {
        self.state().sessions.get(executor).is_some_and(|handle| handle.session == *session)
    }

    /// Takes note of a registration, for the session that the executor is about to open.
    pub fn note_registered(&self, executor: &ExecutorId, session: &SessionId, registered: Registered) {
        self.state().registered.insert(executor.clone(), (session.clone(), registered));
    }

    /// Takes what was noted for a session; nothing where it was registered elsewhere.
    pub fn take_registered(&self, executor: &ExecutorId, session: &SessionId) -> Option<Registered> {
        let noted = self.state().registered.remove(executor);
        noted.filter(|(of, _)| of == session).map(|(_, registered)| registered)
    }

    /// Takes note of where an attempt is.
    pub fn note_phase(&self, executor: &ExecutorId, attempt: AttemptRef, phase: v1::JobPhase) {
        if let Some(handle) = self.state().sessions.get_mut(executor) {
            handle.phases.insert(attempt, phase);
        }
    }

    /// Forgets where an attempt was.
    pub fn forget_phase(&self, executor: &ExecutorId, attempt: &AttemptRef) {
        if let Some(handle) = self.state().sessions.get_mut(executor) {
            handle.phases.remove(attempt);
        }
    }

    /// Tells where an attempt is, if this replica holds its executor's session and was told.
    pub fn phase(&self, executor: &ExecutorId, attempt: &AttemptRef) -> Option<v1::JobPhase> {
        self.state().sessions.get(executor)?.phases.get(attempt).copied()
    }

    /// Takes note of what an executor's containers use.
    pub fn note_used(&self, executor: &ExecutorId, used: v1::Resources) {
        if let Some(handle) = self.state().sessions.get_mut(executor) {
            handle.used = Some(used);
        }
    }

    /// Tells what an executor's containers use.
    pub fn used(&self, executor: &ExecutorId) -> Option<v1::Resources> {
        self.state().sessions.get(executor)?.used.clone()
    }

    /// Asks an executor for output; the upload arrives at the receiver.
    ///
    /// # Errors
    /// Fails when the session is not here, or has too many demands waiting.
    pub fn demand(
        &self,
        executor: &ExecutorId,
        demand: v1::session_response::LogDemand,
    ) -> Result<mpsc::Receiver<v1::UploadLogsRequest>, Problem> {
        let mut state = self.state();
        let handle = state.sessions.get(executor).ok_or_else(|| no_session(executor))?;
        let (sink, receiver) = mpsc::channel(LOG_QUEUE);
        let id = demand.demand_id.clone();
        handle.demands.try_send(demand).map_err(|_| no_session(executor))?;
        state.uploads.insert(id, sink);
        Ok(receiver)
    }

    /// Takes the place an upload delivers to; each demand is answered once.
    pub fn take_upload(&self, demand_id: &str) -> Option<LogSink> {
        self.state().uploads.remove(demand_id)
    }

    /// Gives up a demand that was not answered.
    pub fn cancel_demand(&self, demand_id: &str) {
        self.state().uploads.remove(demand_id);
    }
}

/// Says that an executor cannot be asked for output now.
pub fn no_session(executor: &ExecutorId) -> Problem {
    Problem::Unavailable {
        reason: "EXECUTOR_UNREACHABLE",
        message: format!(
            "Executor {executor} is out of touch, so its logs cannot be read now. Retry when it is back."
        ),
        retry_after: std::time::Duration::from_secs(2),
    }
}
