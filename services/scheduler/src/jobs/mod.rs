//! What the job service does, apart from gRPC: submit, abort, list, wait, watch, explain.

pub mod abort;
pub mod explain;
pub mod list;
pub mod pending;
pub mod show;
pub mod submit;
pub mod wait;
pub mod watch;
