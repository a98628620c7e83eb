//! The container engine, and the way to the schedulers, between points.

use std::sync::Arc;

use async_trait::async_trait;
use berth_executor::connect::{Connect, ConnectError};
use berth_executor::runtime::{
    ContainerName, ContainerPlan, CreateError, Delivery, EngineError, Inspected, Listed, OutputLine, Owner,
    PullError, PullProgress, Runtime, Signal, StartError, Upkeep,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tonic::transport::Channel;

use super::{Points, between};

/// An engine whose calls pass points.
pub struct FaultyEngine {
    /// The engine itself.
    pub inner: Arc<dyn Runtime>,
    /// The points of the process.
    pub points: Arc<Points>,
}

#[async_trait]
impl Runtime for FaultyEngine {
    fn upkeep(&self, upkeep: Upkeep) -> Option<BoxFuture<'static, ()>> {
        self.inner.upkeep(upkeep)
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Listed>, EngineError> {
        between!(self.points, "engine.list", self.inner.list(owner))
    }

    async fn ping(&self) -> Result<(), EngineError> {
        between!(self.points, "engine.ping", self.inner.ping())
    }

    async fn images(&self) -> Result<Vec<String>, EngineError> {
        between!(self.points, "engine.images", self.inner.images())
    }

    async fn pull(&self, image: &str, progress: watch::Sender<PullProgress>) -> Result<(), PullError> {
        self.inner.pull(image, progress).await
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<(), CreateError> {
        between!(self.points, "engine.create", self.inner.create(plan))
    }

    async fn start(&self, container: &ContainerName) -> Result<(), StartError> {
        between!(self.points, "engine.start", self.inner.start(container))
    }

    async fn wait(&self, container: &ContainerName) -> Result<(), EngineError> {
        between!(self.points, "engine.wait", self.inner.wait(container))
    }

    async fn inspect(&self, container: &ContainerName) -> Result<Option<Inspected>, EngineError> {
        between!(self.points, "engine.inspect", self.inner.inspect(container))
    }

    async fn signal(&self, container: &ContainerName, signal: Signal) -> Result<Delivery, EngineError> {
        between!(self.points, "engine.signal", self.inner.signal(container, signal))
    }

    async fn remove(&self, container: &ContainerName) -> Result<(), EngineError> {
        between!(self.points, "engine.remove", self.inner.remove(container))
    }

    async fn remove_unstarted(&self, container: &ContainerName) -> Result<(), EngineError> {
        between!(self.points, "engine.remove", self.inner.remove_unstarted(container))
    }

    async fn settle(&self) -> Result<(), EngineError> {
        self.inner.settle().await
    }

    async fn logs(
        &self,
        container: &ContainerName,
        since_seconds: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Vec<OutputLine>, EngineError>>, EngineError> {
        between!(self.points, "engine.logs", self.inner.logs(container, since_seconds, follow))
    }
}

/// A way to the schedulers that passes points.
pub struct FaultyConnect {
    /// The way itself.
    pub inner: Arc<dyn Connect>,
    /// The points of the process.
    pub points: Arc<Points>,
}

#[async_trait]
impl Connect for FaultyConnect {
    async fn connect(&self, address: &str) -> Result<Channel, ConnectError> {
        between!(self.points, "connection.connect", self.inner.connect(address))
    }
}
