//! Changes of the log.
//!
//! A script joins the changes of a call by concatenation. What stands before a record in such a
//! change (tags and lengths) is made here and called its head: `head + record` is one complete
//! `changes` field of a `LogEntry`.

use std::sync::Arc;

use berth_domain::ids::JobId;
use prost::Message;
use prost::encoding::encode_varint;

use super::executor::executor_from_record;
use super::job::job_from_record;
use super::{absent, encode_executor, encode_job, pb, undecodable};
use crate::{Change, StoreError};

/// Tag of `LogEntry.changes`: field 1, length-delimited.
const CHANGES: u8 = 0x0a;
/// Tag of `Change.job`.
const JOB: u8 = 0x0a;
/// Tag of `Change.job_deleted`.
const JOB_DELETED: u8 = 0x12;
/// Tag of `Change.executor`.
const EXECUTOR: u8 = 0x1a;

/// Makes the head of a job's change for a record of so many bytes.
pub(crate) fn change_of_job(record_len: usize) -> Vec<u8> {
    head(JOB, record_len)
}

/// Makes the head of an executor's change for a record of so many bytes.
pub(crate) fn change_of_executor(record_len: usize) -> Vec<u8> {
    head(EXECUTOR, record_len)
}

/// Makes the whole change of a deletion.
pub(crate) fn change_of_deletion(job_id: &JobId) -> Vec<u8> {
    let mut change = head(JOB_DELETED, job_id.as_str().len());
    change.extend_from_slice(job_id.as_str().as_bytes());
    change
}

/// Encodes a change as one `changes` field of a `LogEntry`.
pub(crate) fn encode_change(change: &Change) -> Vec<u8> {
    match change {
        Change::Job(job) => joined(change_of_job, &encode_job(job)),
        Change::JobDeleted(job_id) => change_of_deletion(job_id),
        Change::Executor(executor) => joined(change_of_executor, &encode_executor(executor)),
        Change::Leader { epoch, scheduler_id } => {
            let leader = pb::Leader { epoch: *epoch, scheduler_id: scheduler_id.clone() };
            let change = pb::Change { kind: Some(pb::change::Kind::Leader(leader)) };
            pb::LogEntry { changes: vec![change] }.encode_to_vec()
        }
    }
}

/// Decodes the changes of one call, the first of which has the given revision.
pub(crate) fn decode_log_entry(bytes: &[u8], first_revision: u64) -> Result<Vec<(u64, Change)>, StoreError> {
    let entry = pb::LogEntry::decode(bytes).map_err(|error| undecodable("log entry", &error))?;
    let numbered = (first_revision..).zip(entry.changes);
    numbered.map(|(revision, change)| Ok((revision, from_record(change, revision)?))).collect()
}

fn from_record(change: pb::Change, revision: u64) -> Result<Change, StoreError> {
    match change.kind.ok_or_else(|| absent("kind of change"))? {
        pb::change::Kind::Job(job) => Ok(Change::Job(Arc::new(job_from_record(job, revision)?))),
        pb::change::Kind::JobDeleted(id) => Ok(Change::JobDeleted(JobId::trusted(id))),
        pb::change::Kind::Executor(executor) => {
            Ok(Change::Executor(Box::new(executor_from_record(executor, revision)?)))
        }
        pb::change::Kind::Leader(leader) => {
            Ok(Change::Leader { epoch: leader.epoch, scheduler_id: leader.scheduler_id })
        }
    }
}

fn joined(head: impl Fn(usize) -> Vec<u8>, record: &[u8]) -> Vec<u8> {
    let mut change = head(record.len());
    change.extend_from_slice(record);
    change
}

fn head(tag: u8, record_len: usize) -> Vec<u8> {
    let mut inner = vec![tag];
    encode_varint(record_len as u64, &mut inner);
    let mut head = vec![CHANGES];
    encode_varint((inner.len() + record_len) as u64, &mut head);
    head.extend_from_slice(&inner);
    head
}
