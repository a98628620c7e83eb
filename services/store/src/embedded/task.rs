//! What the writer is asked to do, with the way back to whoever asked.

use tokio::sync::oneshot;

use super::tables::DiskTables;
use crate::rules::Head;
use crate::{Change, StoreError};

/// What a task works on: a transaction of several tasks, each seeing those before it.
pub(super) struct Work<'a, 't> {
    pub(super) head: &'a mut Head,
    pub(super) tables: &'a mut DiskTables<'t>,
    /// Changes to be logged once the transaction is on the disk, one entry a task.
    pub(super) entries: &'a mut Vec<Vec<(u64, Change)>>,
    pub(super) now_ms: u64,
    /// Says whether there is no room for new jobs.
    pub(super) full: bool,
}

/// One thing to do. It may be run again after a transaction that came to nothing.
pub(super) trait Task: Send {
    /// Says whether what it writes must be on the disk before it is answered.
    fn is_durable(&self) -> bool;

    /// Does it.
    ///
    /// # Errors
    /// Fails when the tables do: nothing of the transaction may stand then. A refusal by the rules
    /// is a result.
    fn run(&mut self, work: &mut Work<'_, '_>) -> Result<(), StoreError>;

    /// Answers, once the transaction is on the disk or has failed.
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// What the writer is sent.
pub(super) enum Request {
    /// To do this.
    Do(Box<dyn Task>),
    /// To close the database, and to say so.
    Close(oneshot::Sender<()>),
}

/// A task made of a function.
pub(super) struct Act<T, F> {
    pub(super) durable: bool,
    pub(super) act: F,
    pub(super) result: Option<T>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Task for Act<T, F>
where
    T: Send,
    F: Fn(&mut Work<'_, '_>) -> Result<T, StoreError> + Send,
{
    fn is_durable(&self) -> bool {
        self.durable
    }

    fn run(&mut self, work: &mut Work<'_, '_>) -> Result<(), StoreError> {
        self.result = Some((self.act)(work)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        let result = match (outcome, self.result) {
            (Ok(()), Some(result)) => Ok(result),
            (Ok(()), None) => Err(StoreError::Unavailable { reason: "the store did nothing".to_owned() }),
            (Err(error), _) => Err(error),
        };
        // Whoever asked may have gone.
        let _ = self.reply.send(result);
    }
}
