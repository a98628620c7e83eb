//! What a call does, whatever holds the tables: shared by the stores whose tables are in this process.
//! Redis has the same rules in Lua; one suite holds all of them to the same promises.

mod announced;
mod apply;
mod commit;
mod head;
mod log;
mod tables;
mod time;

pub(crate) use announced::Announced;
pub(crate) use commit::{Outcome, commit, renew_leases};
pub(crate) use head::{Head, after};
pub(crate) use log::Log;
pub(crate) use tables::{Index, Reservation, StoredJob, StoredKey, Tables};
pub(crate) use time::Time;
