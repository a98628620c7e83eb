//! Containers that jobs with `reuse: warm` run in, one after the other. A container's start is dear, and a process
//! in one that runs is not. To everybody else, such a job has a container as any other has: it is made, runs,
//! ends and is removed. Only what is alike in everything that shapes a container shares one.
//!
//! What keeps jobs apart: one at a time, after a plain end that left no process. What one leaves in files, in
//! shared memory and in the network namespace, the next one sees.

mod engine;
mod keeper;
mod left;
mod output;
mod pool;
mod run;
mod shared;

pub(super) use keeper::keep;
pub(super) use shared::Warm;
