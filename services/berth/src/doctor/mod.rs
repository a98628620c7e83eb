//! `berth doctor`: each part looks at one thing that a cluster rests on and judges it. None changes
//! anything.

mod clock;
mod docker;
mod examine;
mod machine;
mod ports;
mod redis;
mod report;

pub use examine::{Args, execute};
