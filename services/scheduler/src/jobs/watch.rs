//! Watches jobs: their present state first, then every change in order; after a gap, `resync`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_api::status::Problem;
use berth_api::v1;
use berth_api::v1::watch_jobs_response::{Event, Resync};
use berth_domain::filter::Filter;
use berth_domain::ids::JobId;
use berth_domain::job::Job;
use berth_store::{Change, Changes, Cursor, MAX_PAGE, Position, Scope};
use tokio::sync::{broadcast, mpsc};
use tonic::Status;

use super::list::{matching, parse_filter};
use super::show::show_with;
use crate::context::{Context, stopping};
use crate::feed::FeedEvent;

/// The most jobs whose specs are held at once.
const MAX_SHOWN: usize = 32;
/// Messages that may wait for a slow watcher.
const OUTBOUND: usize = 64;

type Sender = mpsc::Sender<Result<v1::WatchJobsResponse, Status>>;

/// Why a watch ends.
enum End {
    /// Nobody listens any more.
    Gone,
    /// It failed.
    Failed(Problem),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem)
    }
}

struct Watch {
    context: Arc<Context>,
    filter: Filter,
    out: Sender,
    /// Changes up to here have been sent.
    position: Position,
    /// Records of the present state that are newer than `position`, by their revision. As long as there are
    /// any, no token says how far the watcher is.
    ahead: BTreeMap<JobId, u64>,
}

/// Starts a watch.
///
/// # Errors
/// Refuses a malformed filter or token.
pub fn watch(
    context: Arc<Context>,
    request: &v1::WatchJobsRequest,
) -> Result<mpsc::Receiver<Result<v1::WatchJobsResponse, Status>>, Problem> {
    if request.summary_only {
        return Err(Problem::Unimplemented("summary_only"));
    }
    let filter = parse_filter(&request.filter)?;
    let resume = read_token(&request.resume_token)?;
    let (out, stream) = mpsc::channel(OUTBOUND);
    let watch = Watch {
        context,
        filter,
        out: out.clone(),
        position: resume.unwrap_or_default(),
        ahead: BTreeMap::new(),
    };
    tokio::spawn(async move {
        // A watcher that goes away ends the watch even while nothing changes.
        let stop = watch.context.stop.clone();
        let end = tokio::select! {
            () = out.closed() => return,
            () = stop.cancelled() => Err(End::Failed(stopping())),
            end = watch.run(resume.is_some()) => end,
        };
        if let Err(End::Failed(problem)) = end {
            let _ = out.send(Err(problem.into())).await;
        }
    });
    Ok(stream)
}

fn read_token(token: &str) -> Result<Option<Position>, Problem> {
    if token.is_empty() {
        return Ok(None);
    }
    let parsed = token.split_once('-').and_then(|(generation, revision)| {
        Some(Position { generation: generation.parse().ok()?, revision: revision.parse().ok()? })
    });
    parsed.map(Some).ok_or_else(|| {
        Problem::field(
            "resume_token",
            "is not a token of a watch; leave it empty to start with the present state",
        )
    })
}

fn write_token(position: Position) -> String {
    format!("{}-{}", position.generation, position.revision)
}

impl Watch {
    async fn run(mut self, resume: bool) -> Result<(), End> {
        // Subscribed before anything is read: no change falls between the two.
        let mut feed = self.context.feed.subscribe();
        if resume {
            self.catch_up().await?;
        } else {
            self.position = self.head().await?;
            self.send_present().await?;
        }
        loop {
            match feed.recv().await {
                Ok(FeedEvent::Changes { generation, changes }) if generation == self.position.generation => {
                    let newer = changes.iter().filter(|(revision, _)| *revision > self.position.revision);
                    let newer: Vec<(u64, Change)> = newer.cloned().collect();
                    self.send_changes(newer).await?;
                }
                // Those of an older generation may be lost; before those of a newer one there is a gap.
                Ok(FeedEvent::Changes { generation, .. }) if generation < self.position.generation => {}
                Ok(FeedEvent::Changes { .. } | FeedEvent::Resync)
                | Err(broadcast::error::RecvError::Lagged(_)) => self.catch_up().await?,
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn head(&self) -> Result<Position, End> {
        Ok(self.context.store.head().await.map_err(|e| self.context.problem(&e))?)
    }

    /// Reads what was missed from the log itself; where it is gone, says so.
    async fn catch_up(&mut self) -> Result<(), End> {
        loop {
            let changes = self.context.store.changes(self.position, Duration::ZERO).await;
            match changes.map_err(|e| self.context.problem(&e))? {
                Changes::Entries { entries, .. } if entries.is_empty() => return Ok(()),
                Changes::Entries { entries, position } => {
                    self.position.generation = position.generation;
                    self.send_changes(entries).await?;
                }
                Changes::Resync => {
                    self.position = self.head().await?;
                    // In another generation, their revisions name something else.
                    self.ahead.clear();
                    return self.send(Event::Resync(Resync {}), self.token()).await;
                }
            }
        }
    }

    /// Sends the present state. Who is broken off in it has to begin anew: only its last answer has a token.
    async fn send_present(&mut self) -> Result<(), End> {
        if let Some(id) = self.filter.only_id().and_then(|id| berth_domain::ids::JobId::parse(id).ok()) {
            let jobs = self.context.store.jobs(&[id]).await.map_err(|e| self.context.problem(&e))?;
            let jobs: Vec<Job> = jobs.into_iter().flatten().collect();
            self.note_ahead(&jobs);
            return self.send_jobs(jobs).await;
        }
        let (mut after, mut last): (Option<Cursor>, Option<v1::Job>) = (None, None);
        loop {
            let page = self.context.store.page(&Scope::All, after.as_ref(), MAX_PAGE).await;
            let page = page.map_err(|e| self.context.problem(&e))?;
            self.note_ahead(&page.jobs);
            for jobs in page.jobs.chunks(MAX_SHOWN) {
                for shown in self.shown(jobs.to_vec()).await? {
                    if let Some(before) = last.replace(shown) {
                        self.send(Event::Job(before), String::new()).await?;
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        match last {
            Some(last) => self.send(Event::Job(last), self.token()).await,
            None => Ok(()),
        }
    }

    fn note_ahead(&mut self, jobs: &[Job]) {
        let newer = jobs.iter().filter(|job| job.revision > self.position.revision);
        self.ahead.extend(newer.map(|job| (job.id.clone(), job.revision)));
    }

    /// Sends changes of the position's generation.
    async fn send_changes(&mut self, changes: Vec<(u64, Change)>) -> Result<(), End> {
        for (revision, change) in changes {
            self.position.revision = revision;
            match change {
                // What the present state showed already is not shown again, least of all older.
                Change::Job(job) if self.ahead.get(&job.id).is_some_and(|seen| *seen >= job.revision) => {}
                Change::Job(job) => self.send_jobs(vec![Arc::unwrap_or_clone(job)]).await?,
                Change::JobDeleted(_) | Change::Executor(_) | Change::Leader { .. } => {}
            }
            self.ahead.retain(|_, seen| *seen > revision);
        }
        Ok(())
    }

    async fn send_jobs(&self, jobs: Vec<Job>) -> Result<(), End> {
        for shown in self.shown(jobs).await? {
            self.send(Event::Job(shown), self.token()).await?;
        }
        Ok(())
    }

    /// Shows those of some jobs that are watched.
    async fn shown(&self, jobs: Vec<Job>) -> Result<Vec<v1::Job>, End> {
        let found = matching(&self.context, &self.filter, jobs).await?;
        let specs = found.iter().filter_map(|(job, spec)| Some((job.id.clone(), spec.clone()?))).collect();
        let jobs: Vec<Job> = found.into_iter().map(|(job, _)| job).collect();
        Ok(show_with(&self.context, &jobs, &specs).await?)
    }

    /// Says how far the watcher is; nothing where it was told more than a position says.
    fn token(&self) -> String {
        let is_ahead = self.ahead.values().any(|seen| *seen > self.position.revision);
        if is_ahead { String::new() } else { write_token(self.position) }
    }

    async fn send(&self, event: Event, resume_token: String) -> Result<(), End> {
        let message = v1::WatchJobsResponse { resume_token, event: Some(event) };
        self.out.send(Ok(message)).await.map_err(|_| End::Gone)
    }
}
