//! A Docker Engine as a runtime: jobs with containers of their own, and jobs in warm ones.

use std::sync::Arc;

use async_trait::async_trait;
use berth_domain::spec::Reuse;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use super::client::Containers;
use super::engine::{DockerSettings, Link};
use super::slots;
use super::warm::{self, Warm};
use crate::runtime::{
    ContainerName, ContainerPlan, CreateError, Delivery, EngineError, Inspected, Listed, OutputLine, Owner,
    PullError, PullProgress, Runtime, Signal, StartError, Upkeep,
};

/// A Docker Engine, with network namespaces and containers kept ready for jobs.
pub struct DockerRuntime {
    containers: Containers,
    warm: Arc<Warm>,
}

impl DockerRuntime {
    /// Makes a client that connects at its first call.
    pub fn new(settings: DockerSettings) -> Self {
        let link = Arc::new(Link::new(settings));
        Self { warm: Arc::new(Warm::new(link.clone())), containers: Containers::new(link) }
    }

    /// Runs a job in a container of its own that could not be run in a warm one.
    async fn start_apart(&self, plan: &ContainerPlan) -> Result<(), StartError> {
        match self.containers.create(plan).await {
            Ok(()) => self.containers.start(&plan.name).await,
            Err(CreateError::Engine(error)) => Err(error.into()),
            Err(error @ (CreateError::NoImage | CreateError::Refused(_))) => {
                Err(EngineError::Failed(error.to_string()).into())
            }
        }
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    fn upkeep(&self, upkeep: Upkeep) -> Option<BoxFuture<'static, ()>> {
        let Upkeep { owner, network_slots, stop } = upkeep;
        let slots = slots::keep(
            self.containers.slots(),
            self.containers.maker(owner.clone()),
            network_slots,
            stop.clone(),
        );
        let warm = warm::keep(self.warm.clone(), owner, stop);
        Some(
            async {
                tokio::join!(slots, warm);
            }
            .boxed(),
        )
    }

    async fn settle(&self) -> Result<(), EngineError> {
        self.warm.settle().await
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Listed>, EngineError> {
        let mut listed = self.containers.list(owner).await?;
        let warm = self.warm.listed();
        listed.retain(|own| warm.iter().all(|warm| warm.attempt != own.attempt));
        listed.extend(warm);
        Ok(listed)
    }

    async fn ping(&self) -> Result<(), EngineError> {
        self.containers.ping().await
    }

    async fn images(&self) -> Result<Vec<String>, EngineError> {
        self.containers.images().await
    }

    async fn pull(&self, image: &str, progress: watch::Sender<PullProgress>) -> Result<(), PullError> {
        self.containers.pull(image, progress).await
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<(), CreateError> {
        if plan.reuse == Reuse::Warm
            && let Some(made) = self.warm.create(plan).await
        {
            return made;
        }
        self.containers.create(plan).await
    }

    async fn start(&self, container: &ContainerName) -> Result<(), StartError> {
        let Some(run) = self.warm.run(container) else { return self.containers.start(container).await };
        match self.warm.start(&run).await {
            Ok(()) => Ok(()),
            Err(plan) => self.start_apart(&plan).await,
        }
    }

    async fn wait(&self, container: &ContainerName) -> Result<(), EngineError> {
        match self.warm.run(container) {
            Some(run) => {
                run.end().await;
                Ok(())
            }
            None => self.containers.wait(container).await,
        }
    }

    async fn inspect(&self, container: &ContainerName) -> Result<Option<Inspected>, EngineError> {
        match self.warm.run(container) {
            Some(run) => Ok(run.inspected()),
            None => self.containers.inspect(container).await,
        }
    }

    async fn signal(&self, container: &ContainerName, signal: Signal) -> Result<Delivery, EngineError> {
        match self.warm.run(container) {
            Some(run) => self.warm.signal(&run).await,
            None => self.containers.signal(container, signal).await,
        }
    }

    async fn remove(&self, container: &ContainerName) -> Result<(), EngineError> {
        match self.warm.run(container) {
            Some(run) => self.warm.remove(container, &run).await,
            None => self.containers.remove(container).await,
        }
    }

    async fn remove_unstarted(&self, container: &ContainerName) -> Result<(), EngineError> {
        match self.warm.run(container) {
            Some(run) => self.warm.remove(container, &run).await,
            None => self.containers.remove_unstarted(container).await,
        }
    }

    async fn logs(
        &self,
        container: &ContainerName,
        since_seconds: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Vec<OutputLine>, EngineError>>, EngineError> {
        let Some(run) = self.warm.run(container) else {
            return self.containers.logs(container, since_seconds, follow).await;
        };
        run.output.rewind();
        let lines = stream::unfold(run, move |run| async move {
            let lines = run.output.next(follow).await?;
            Some((Ok(lines), run))
        });
        Ok(lines.boxed())
    }
}
