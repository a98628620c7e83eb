//! The gRPC services. A handler converts, makes one call, and converts back.

mod cluster;
mod executor;
mod job;
mod relay;

use std::pin::Pin;

use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

pub use cluster::Cluster;
pub use executor::Executors;
pub use job::Jobs;
pub use relay::Relay;

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn answers<T: Send + 'static>(receiver: mpsc::Receiver<Result<T, Status>>) -> Answers<T> {
    Box::pin(ReceiverStream::new(receiver))
}
