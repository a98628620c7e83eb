//! What the executor needs of a container engine, as an argument. Only `docker` names one.

mod docker;
mod simulated;
mod types;

pub use docker::{BridgeFacts, DockerRuntime, DockerSettings, EngineFacts, probe_docker};
pub use simulated::{NO_CODE, Ran, SimulatedEngine, SimulatedRuntime};
pub use types::*;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::watch;

/// A container engine. Containers are named by their executor and found by its labels, so that no
/// other's are ever touched.
/// Every call has a deadline of its own, except `wait`, `pull` and the stream of `logs`.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Gives the work that the engine needs beside that of attempts, where there is any. It is done only once the
    /// executor's name is its own, since it removes what an earlier process left; it ends soon after it is told to.
    fn upkeep(&self, _upkeep: Upkeep) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Lists every container of an executor, in any state.
    ///
    /// # Errors
    /// Fails when the engine does not answer; trying again is safe.
    async fn list(&self, owner: &Owner) -> Result<Vec<Listed>, EngineError>;

    /// Asks whether the engine answers at all.
    ///
    /// # Errors
    /// Fails when it does not.
    async fn ping(&self) -> Result<(), EngineError>;

    /// Lists the references of the images that need no pull.
    ///
    /// # Errors
    /// Fails when the engine does not answer; trying again is safe.
    async fn images(&self) -> Result<Vec<String>, EngineError>;

    /// Pulls an image, and says how far it is through `progress`. The caller gives up by dropping
    /// the call.
    ///
    /// # Errors
    /// Tells a pull that can never succeed from one that may be tried again.
    async fn pull(&self, image: &str, progress: watch::Sender<PullProgress>) -> Result<(), PullError>;

    /// Makes the attempt's container. Making it again finds the one that is there.
    ///
    /// # Errors
    /// Tells a missing image and a refused request from a failing engine.
    async fn create(&self, plan: &ContainerPlan) -> Result<(), CreateError>;

    /// Starts the container. Starting a started one is no error.
    ///
    /// # Errors
    /// Tells a command that cannot be run from a failing engine.
    async fn start(&self, container: &ContainerName) -> Result<(), StartError>;

    /// Waits until a started container runs no more. It is a hint: what it became is for
    /// `inspect` to say.
    ///
    /// # Errors
    /// Fails when the engine breaks the wait, which says nothing about the container.
    async fn wait(&self, container: &ContainerName) -> Result<(), EngineError>;

    /// Looks at the container; `None` where there is none.
    ///
    /// # Errors
    /// Fails when the engine does not answer; trying again is safe.
    async fn inspect(&self, container: &ContainerName) -> Result<Option<Inspected>, EngineError>;

    /// Sends a signal to the container's main process.
    ///
    /// # Errors
    /// Fails when the engine does not answer; trying again is safe.
    async fn signal(&self, container: &ContainerName, signal: Signal) -> Result<Delivery, EngineError>;

    /// Removes the container, running or not; none is no error.
    ///
    /// # Errors
    /// Fails when the engine does not answer; trying again is safe.
    async fn remove(&self, container: &ContainerName) -> Result<(), EngineError>;

    /// Removes a container that has never run; none is no error. One that runs all the same is left running,
    /// where the engine can tell.
    ///
    /// # Errors
    /// Fails when the engine does not answer, or the container runs; trying again is safe.
    async fn remove_unstarted(&self, container: &ContainerName) -> Result<(), EngineError> {
        self.remove(container).await
    }

    /// Makes sure that nothing runs any more of what an earlier process of this executor ran in containers that
    /// were no job's own.
    ///
    /// # Errors
    /// Fails when the engine does not answer; trying again is safe.
    async fn settle(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Reads the container's output from a time on, following it while it runs: at most [`MOST_LINES`] lines at
    /// once. Whoever asks for more has written what came before. Lines may repeat from up to that time, or from
    /// where the one who read before had written; the reader drops what it has.
    ///
    /// # Errors
    /// Fails when the engine does not answer. A stream that breaks ends with an error.
    async fn logs(
        &self,
        container: &ContainerName,
        since_seconds: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Vec<OutputLine>, EngineError>>, EngineError>;
}
