//! Every order of events of the commit and session protocol, at a small size: two replicas that may
//! both believe to lead, two executors, two jobs, and a bounded number of each trouble. Where the product
//! decides, its own code is asked ([`decide`]); what the store, sessions and executors do around that is
//! told again here, in the least that shows every interleaving.

mod alike;
pub mod case;
pub mod cluster;
pub mod decide;
mod executor;
mod happen;
mod model;
mod properties;
mod records;
mod session;
pub mod state;
mod store;
mod symmetry;

pub use alike::compare;
pub use case::{Bounds, Case, Weakness, alike, few, many, single};
pub use cluster::{Action, Cluster};
pub use model::{Checked, check, shortest};
