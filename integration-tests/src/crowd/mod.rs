//! Many executors without containers in one process, each with a session of its own over gRPC, and what processes use.

mod executor;
mod times;
mod usage;

pub use executor::{Executor, Witness};
pub use times::{Taken, Times};
pub use usage::{Usage, rss_bytes};

use tonic::transport::{Channel, Endpoint};

/// A connection that is made once it is needed.
pub fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
}
