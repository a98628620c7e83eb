//! What the job service does, apart from gRPC: submit, abort, list, wait, watch.

pub mod abort;
pub mod list;
pub mod show;
pub mod submit;
pub mod wait;
pub mod watch;
