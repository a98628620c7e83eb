//! Many executors without containers in one process, each with a session of its own over gRPC, and what processes use.

mod executor;
mod times;
mod usage;

pub use executor::{Executor, Witness};
pub use times::{Taken, Times};
pub use usage::{Usage, rss_bytes};

use std::sync::Arc;

use berth_api::v1;
use tonic::transport::{Channel, Endpoint};

use crate::cluster::Scheduler;

/// Sessions of a connection.
const SESSIONS: usize = 10;

/// Opens sessions of executors at replicas in turn, which end at once what they are given and never end themselves.
pub fn open(replicas: &[Scheduler], count: usize, capacity: &v1::Resources, witness: &Arc<dyn Witness>) {
    let channels: Vec<Channel> =
        (0..count.div_ceil(SESSIONS)).map(|at| channel(&replicas[at % replicas.len()].grpc)).collect();
    for at in 0..count {
        let id = format!("executor-{at:05}");
        let mut executor = Executor::new(id, capacity.clone(), witness.clone(), None);
        let channel = channels[at / SESSIONS].clone();
        tokio::spawn(async move {
            let ended = executor.run(channel).await;
            panic!("executor-{at:05} has ended: {ended:?}");
        });
    }
}

/// A connection that is made once it is needed.
pub fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
}
