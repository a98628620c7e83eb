//! Network namespaces kept ready for jobs. A fresh one is the dearest part of a container's start, so idle
//! containers ("slots") hold some, each for one job at a time, and for jobs of one namespace and network
//! only. Whatever goes wrong with one, the job runs in a network namespace of its own.
//!
//! What a job could leave in a slot: its processes are gone with its main process, and with them every socket,
//! listener and abstract name. Jobs get no capabilities (there is no way to ask for any), so that addresses,
//! routes and filters stay as they were made. Its /etc/hosts, /etc/resolv.conf and /etc/hostname are mounted
//! read-only. What stays is what the kernel remembers of peers (such as a path's MTU), the counters of the
//! interface, and a connection that a peer does not let end. Its address stays, too: what others still send to
//! the former job reaches the next one, as it does with Docker's own addresses, which are given anew at once.

mod image;
mod keeper;
mod make;
mod pool;
mod shared;

pub(super) use image::archive as pause;
pub(super) use keeper::keep;
pub(super) use make::Maker;
pub(super) use pool::Slot;
pub(super) use shared::Slots;
