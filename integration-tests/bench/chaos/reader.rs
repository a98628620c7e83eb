//! Reads the store's log as it grows, from one life of the store to the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_integration_tests::history::Sets;
use berth_integration_tests::redis::Redis;
use berth_integration_tests::seen::Seen;
use berth_integration_tests::wait::until;
use berth_store::redis::{RedisConfig, RedisStore};
use berth_store::{Change, Position, Scope, Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// The pause where there was nothing new.
const PAUSE: Duration = Duration::from_millis(40);
/// How often the store's sets are looked at, at the most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many jobs are asked for at once.
const PAGE: usize = 500;

struct Cursor {
    store: RedisStore,
    at: Position,
}

/// Reads until it is dropped.
pub struct Reader {
    cluster: String,
    cursor: Arc<Mutex<Cursor>>,
    seen: Seen,
    runtime: Handle,
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    /// Begins at the log's beginning.
    pub fn begin(cluster: &str, redis: &Redis, seen: &Seen, runtime: &Handle) -> Self {
        let store = runtime.block_on(connect(cluster, redis));
        let at = Position { generation: 0, revision: 0 };
        let cursor = Arc::new(Mutex::new(Cursor { store, at }));
        let task = runtime.spawn(follow(cursor.clone(), seen.clone()));
        Self { cluster: cluster.to_owned(), cursor, seen: seen.clone(), runtime: runtime.clone(), task }
    }

    /// Waits until everything was read that a store has, to which nobody else comes any more.
    pub fn catch_up(&self, redis: &Redis) {
        let mut before = None;
        until("the log is read to its end", || {
            let head = revision(&self.cluster, redis);
            let at = self.runtime.block_on(self.cursor.lock()).at.revision;
            let is_quiet = before == Some(head) && at >= head;
            before = Some(head);
            if !is_quiet {
                // What is still on its way arrives.
                std::thread::sleep(Duration::from_millis(100));
            }
            is_quiet.then_some(())
        });
    }

    /// Goes on with another store; what this one lacks of the log was lost.
    pub fn go_over(&self, redis: &Redis) {
        let head = revision(&self.cluster, redis);
        self.runtime.block_on(async {
            let mut cursor = self.cursor.lock().await;
            cursor.store = connect(&self.cluster, redis).await;
            cursor.at.revision = cursor.at.revision.min(head);
            self.seen.record().lose_after(head, crate::now_ms());
        });
    }
}

async fn connect(cluster: &str, redis: &Redis) -> RedisStore {
    let config = RedisConfig { url: redis.url(), cluster: cluster.to_owned(), ..RedisConfig::default() };
    RedisStore::connect(config).await.expect("the store is there")
}

/// The newest revision of a store.
fn revision(cluster: &str, redis: &Redis) -> u64 {
    redis.cli(&["HGET", &format!("{{{cluster}}}:meta"), "revision"]).trim().parse().unwrap_or_default()
}

async fn follow(cursor: Arc<Mutex<Cursor>>, seen: Seen) {
    let mut looked = Instant::now();
    loop {
        let mut held = cursor.lock().await;
        // A store that is away for a while is asked again.
        let entries = held.store.history(held.at).await.unwrap_or_default();
        if let Some((newest, _)) = entries.last() {
            held.at = *newest;
        }
        let is_idle = entries.is_empty();
        note(&seen, entries);
        if is_idle && looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            if let Ok(Some(sets)) = sets(&held).await {
                seen.record().sets.push(sets);
            }
        }
        drop(held);
        if is_idle {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What the store keeps beside its records; `None` where it changed meanwhile.
async fn sets(cursor: &Cursor) -> Result<Option<Sets>, StoreError> {
    let Cursor { store, at } = cursor;
    let executors = store.executors().await?;
    let mut scopes = vec![Scope::Pending, Scope::Delayed, Scope::Finished];
    scopes.extend(executors.iter().map(|executor| Scope::Assigned(executor.id.clone())));
    let mut sets = Vec::new();
    for scope in scopes {
        let (mut ids, mut next) = (BTreeSet::new(), None);
        loop {
            let page = store.page(&scope, next.as_ref(), PAGE).await?;
            ids.extend(page.jobs.into_iter().map(|job| job.id));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        sets.push((scope, ids));
    }
    let reserved = executors.into_iter().map(|executor| (executor.id, executor.reserved)).collect();
    let is_same = store.head().await? == *at;
    Ok(is_same.then_some(Sets { revision: at.revision, sets, reserved }))
}

fn note(seen: &Seen, entries: Vec<(Position, Change)>) {
    let now_ms = crate::now_ms();
    let mut record = seen.record();
    for (position, change) in entries {
        let at_ms = match &change {
            // The store's clock is the machine's: it tells better than whoever reads of it later.
            Change::Executor(executor) if executor.session.is_some() => executor.register_time_ms,
            Change::Executor(_) | Change::Job(_) | Change::JobDeleted(_) | Change::Leader { .. } => now_ms,
        };
        // The log does not tell by whose word.
        record.note(position.generation, at_ms, vec![(position.revision, change)], |_| None);
    }
}
