//! Wakes those who wait for changes.
//!
//! A blocking read occupies its connection, and one that is abandoned occupies it until it ends.
//! So exactly one task blocks, on a connection of its own, and tells any number of waiters how
//! far the log is; each then reads for itself. A waiter that is dropped leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::client::{RedisClient, millis, text};
use super::reply::Reply;
use crate::{Position, StoreError};

/// How long one blocking read blocks at most.
pub(super) const BLOCK: Duration = Duration::from_secs(1);
/// The pause after a failed read.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// The task that follows the log's head while somebody waits.
#[derive(Debug)]
pub(super) struct Waker {
    heads: watch::Sender<Position>,
    wanted: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Waker {
    /// Starts the task on a connection of its own.
    pub(super) fn start(client: RedisClient, prefix: String) -> Self {
        let heads = watch::Sender::new(Position::default());
        let wanted = Arc::new(Notify::new());
        let follower = Follower { client, prefix, heads: heads.clone(), wanted: Arc::clone(&wanted) };
        Self { heads, wanted, task: tokio::spawn(follower.run()) }
    }

    /// Starts to wait: what is told is never behind a change made after this call, for long.
    pub(super) fn subscribe(&self) -> watch::Receiver<Position> {
        let receiver = self.heads.subscribe();
        self.wanted.notify_one();
        receiver
    }
}

struct Follower {
    client: RedisClient,
    prefix: String,
    heads: watch::Sender<Position>,
    wanted: Arc<Notify>,
}

impl Follower {
    async fn run(self) {
        let mut was_failing = false;
        loop {
            while self.heads.receiver_count() == 0 {
                self.wanted.notified().await;
            }
            let followed = self.follow().await;
            if let Err(error) = &followed {
                if !was_failing {
                    tracing::warn!(%error, "the change log cannot be followed");
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
            was_failing = followed.is_err();
        }
    }

    /// Tells the head, then waits for one change after it and tells that.
    async fn follow(&self) -> Result<(), StoreError> {
        let head = self.head().await?;
        self.tell(head);
        let command = CustomCommand::new_static("XREAD", ClusterHash::Offset(5), true);
        let args = vec![
            text("COUNT"),
            text("1"),
            text("BLOCK"),
            millis(BLOCK),
            text("STREAMS"),
            text(format!("{}log", self.prefix)),
            text(format!("{}-{}", head.generation, head.revision)),
        ];
        if let Some(position) = position_of_entry(self.client.read(command, args).await?)? {
            self.tell(position);
        }
        Ok(())
    }

    async fn head(&self) -> Result<Position, StoreError> {
        let command = CustomCommand::new_static("HMGET", ClusterHash::FirstKey, false);
        let args = vec![text(format!("{}meta", self.prefix)), text("generation"), text("revision")];
        let mut reply = Reply::new(self.client.read(command, args).await?)?;
        Ok(Position { generation: reply.number()?, revision: reply.number()? })
    }

    fn tell(&self, position: Position) {
        self.heads.send_if_modified(|told| {
            let is_new = *told != position;
            *told = position;
            is_new
        });
    }
}

/// The position of the one entry read: its id is the position.
fn position_of_entry(reply: Value) -> Result<Option<Position>, StoreError> {
    if reply.is_null() {
        return Ok(None);
    }
    // A list of streams, each (key, entries), each entry (id, fields).
    let mut stream = Reply::new(reply)?.list()?;
    stream.value()?;
    let id = stream.list()?.list()?.text()?;
    let parts = id.split_once('-').and_then(|(g, r)| Some((g.parse().ok()?, r.parse().ok()?)));
    match parts {
        Some((generation, revision)) => Ok(Some(Position { generation, revision })),
        None => Err(StoreError::Corrupt { reason: format!("log entry {id}") }),
    }
}
