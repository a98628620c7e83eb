//! The gate between wire and domain. What has passed it is trusted; what has not is not.

mod executor;
mod job;
mod scalar;
mod spec;

pub use executor::*;
pub use job::*;
pub use scalar::*;
pub use spec::*;
