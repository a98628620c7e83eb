//! Follows the store's change log: applies each change to the image, then tells whoever listens.
//! Where the log has a gap, it reads everything again and says so.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use berth_store::{Change, Changes, Cursor, MAX_PAGE, Position, Scope, StoreError};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::image::Image;
use crate::sessions::Routes;

/// The wait after a failed read.
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// What listeners are told.
#[derive(Debug, Clone)]
pub enum FeedEvent {
    /// These changes have been applied to the image, in order.
    Changes {
        /// The generation that their revisions belong to. Whoever hears of them late must not take it from
        /// the image, which may be in a newer one.
        generation: u64,
        /// Revision and change.
        changes: Arc<Vec<(u64, Change)>>,
    },
    /// Changes were missed: the image is whole again, but what led to it is unknown.
    Resync,
}

/// Follows the log until `stop`.
pub async fn follow(context: Arc<Context>, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = follow_for_ever(&context) => {}
    }
}

async fn follow_for_ever(context: &Context) {
    loop {
        let before = follow_to_gap(context).await;
        while let Err(error) = load(context).await {
            tracing::warn!(%error, "cluster image could not be loaded");
            tokio::time::sleep(RETRY_WAIT).await;
        }
        if *context.applied.borrow() == before {
            // Nothing newer is there yet: asking at once would ask for ever.
            tokio::time::sleep(RETRY_WAIT).await;
        }
    }
}

/// Follows the log from the image's position until changes were missed; gives where that was.
async fn follow_to_gap(context: &Context) -> Position {
    loop {
        // A load may have moved the image on.
        let position = *context.applied.borrow();
        match context.store.changes(position, context.config.safety_interval).await {
            Ok(Changes::Entries { entries, position: next }) => {
                context.note_answer();
                if !entries.is_empty() {
                    apply(context, entries, next);
                }
            }
            Ok(Changes::Resync) => {
                tracing::info!(
                    revision = position.revision,
                    "change log has a gap; reading everything again"
                );
                return position;
            }
            Err(error) => {
                tracing::warn!(%error, "change log could not be read");
                tokio::time::sleep(RETRY_WAIT).await;
            }
        }
    }
}

fn apply(context: &Context, entries: Vec<(u64, Change)>, position: Position) {
    let mut routes = Routes::new();
    {
        let mut image = context.image.write().unwrap_or_else(PoisonError::into_inner);
        if image.position >= position {
            // A load went further while these were read.
            return;
        }
        for (place, (revision, change)) in entries.iter().enumerate() {
            for executor in image.concerned(change) {
                routes.entry(executor).or_default().push(place);
            }
            image.apply(*revision, change);
        }
        image.position = position;
        context.applied.send_replace(position);
    }
    let changes = Arc::new(entries);
    context.sessions.tell(&changes, routes);
    // Without listeners there is nobody to tell, which is no error.
    let _ = context.feed.send(FeedEvent::Changes { generation: position.generation, changes });
}

/// Reads everything from the store into a new image and tells listeners to do the same.
///
/// # Errors
/// As the store says; the old image then stays.
pub async fn load(context: &Context) -> Result<(), StoreError> {
    let mut image = snapshot(context).await?;
    context.note_answer();
    {
        let mut current = context.image.write().unwrap_or_else(PoisonError::into_inner);
        // The log may have been followed further while this snapshot was read.
        if image.position < current.position {
            return Ok(());
        }
        image.inherit(&current);
        *current = image;
        context.applied.send_replace(current.position);
    }
    context.sessions.tell_all_to_resync();
    let _ = context.feed.send(FeedEvent::Resync);
    Ok(())
}

async fn snapshot(context: &Context) -> Result<Image, StoreError> {
    let store = context.store.as_ref();
    // What changes after this head while pages are read is applied again from the log.
    let meta = store.meta().await?;
    context.clock.observe(meta.time_ms);
    let mut image = Image::new(context.config.placement);
    image.generation_since_ms = meta.generation_since_ms;
    image.position = meta.position;
    if !meta.lock.owner.is_empty() {
        image.leader = Some((meta.lock.epoch, meta.lock.scheduler_id));
    }
    image.epoch = meta.lock.epoch;
    let executors = store.executors().await?;
    let mut scopes = vec![Scope::Pending, Scope::Delayed];
    scopes.extend(executors.iter().map(|executor| Scope::Assigned(executor.id.clone())));
    for executor in &executors {
        image.put_executor(executor);
    }
    for scope in scopes {
        let mut after: Option<Cursor> = None;
        loop {
            let page = store.page(&scope, after.as_ref(), MAX_PAGE).await?;
            page.jobs.into_iter().for_each(|job| image.put_job(job));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(image)
}

/// Waits until the image has reached a position. `false` once it has stood still for `limit`: one that is far behind and
/// goes on needs no help, least of all a reading of everything.
pub async fn reached(context: &Context, position: Position, limit: Duration) -> bool {
    let mut applied = context.applied.subscribe();
    while *applied.borrow_and_update() < position {
        if !tokio::time::timeout(limit, applied.changed()).await.is_ok_and(|changed| changed.is_ok()) {
            return false;
        }
    }
    true
}

/// The same for those who are waited for themselves: `limit` is all that it may take.
pub async fn reached_within(context: &Context, position: Position, limit: Duration) -> bool {
    tokio::time::timeout(limit, reached(context, position, limit)).await.unwrap_or(false)
}
