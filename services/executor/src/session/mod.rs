//! Keeps one session with one scheduler: registers, sends heartbeats and reports, takes orders.
//! Containers never notice when it breaks. It knows nothing of which scheduler leads.

mod freshness;
mod ledger;
mod register;
mod runner;
mod stream;
mod uploads;
mod wire;

pub use runner::{Ready, Session, SessionParts};
