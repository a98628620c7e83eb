//! The stored form of records: conversions between the domain's types and `record.proto`.
//!
//! A stored record holds neither its revision nor what the store itself keeps beside it
//! (reservations, leases): those are filled in when it is read.

mod change;
mod embedded;
mod executor;
mod job;
mod scheduler;
mod spec;

/// The generated types of `record.proto`.
pub(crate) mod pb {
    #![allow(missing_docs, clippy::all, reason = "generated code")]
    include!(concat!(env!("OUT_DIR"), "/berth.store.v1.rs"));
}

pub(crate) use change::{
    change_of_deletion, change_of_executor, change_of_job, decode_log_entry, encode_change,
};
pub(crate) use embedded::{
    decode_head, decode_stored_executor, decode_stored_job, decode_stored_key, encode_head,
    encode_stored_executor, encode_stored_job, encode_stored_key,
};
pub(crate) use executor::{decode_executor, encode_executor};
pub(crate) use job::{decode_job, encode_job};
pub(crate) use scheduler::{decode_scheduler, encode_scheduler};
pub(crate) use spec::{decode_spec, encode_spec};

#[cfg(test)]
mod tests;

use crate::StoreError;

/// Says that a record has a value this version does not know.
fn unknown(what: &'static str, value: i32) -> StoreError {
    StoreError::Corrupt { reason: format!("{what} {value} is not known to this version") }
}

/// Says that a record lacks a part it must have.
fn absent(what: &'static str) -> StoreError {
    StoreError::Corrupt { reason: format!("{what} is absent") }
}

/// Says that bytes are no message.
fn undecodable(what: &'static str, error: &prost::DecodeError) -> StoreError {
    StoreError::Corrupt { reason: format!("{what}: {error}") }
}

/// Narrows a priority.
fn priority(value: u32) -> Result<u8, StoreError> {
    u8::try_from(value)
        .map_err(|_| StoreError::Corrupt { reason: format!("priority {value} is out of range") })
}
