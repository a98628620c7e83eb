//! A container engine with the quirks of a real one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use berth_executor::runtime::{
    ContainerName, ContainerPlan, CreateError, Delivery, EngineError, Inspected, Listed, OutputLine, Owner,
    PullError, PullProgress, Runtime, Signal, SimulatedRuntime, StartError,
};
use futures::stream::BoxStream;
use tokio::sync::watch;

use super::fault::Engine;

/// How long a call may take before it counts as unanswered.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    /// What is wrong with it now.
    quirks: Vec<Engine>,
    calls: u64,
}

/// What is wrong with one machine's engine, now.
#[derive(Clone, Default)]
pub struct Quirks(Arc<Mutex<State>>);

impl Quirks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what is wrong from now on.
    pub fn set(&self, quirks: Vec<Engine>) {
        self.state().quirks = quirks;
    }

    fn has(&self, quirk: Engine) -> bool {
        self.state().quirks.contains(&quirk)
    }

    /// Says whether a quirk that shows in two of three calls shows in this one.
    fn shows(&self, quirk: Engine) -> bool {
        let mut state = self.state();
        state.calls += 1;
        state.quirks.contains(&quirk) && !state.calls.is_multiple_of(3)
    }

    /// Waits as long as no call is answered, but not for ever.
    async fn answer(&self) -> Result<(), EngineError> {
        if self.has(Engine::Stopped) {
            return Err(EngineError::Unavailable("the simulated engine is stopped".to_owned()));
        }
        let mut waited = Duration::ZERO;
        while self.has(Engine::Hung) {
            if waited >= DEADLINE {
                return Err(EngineError::Unavailable("no answer within 10 s".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            waited += Duration::from_millis(100);
        }
        Ok(())
    }

    /// The engine that a call has reached is still there to answer it.
    fn stays(&self) -> Result<(), EngineError> {
        if self.has(Engine::Stopped) {
            return Err(EngineError::Unavailable("unexpected EOF".to_owned()));
        }
        Ok(())
    }

    /// Loses the answer of a call that was carried out.
    fn lose(&self) -> Result<(), EngineError> {
        self.stays()?;
        if self.shows(Engine::LostAnswers) {
            return Err(EngineError::Unavailable("the answer was lost".to_owned()));
        }
        Ok(())
    }
}

/// The engine of one machine, as its executor meets it.
pub struct QuirkyRuntime {
    /// The engine itself.
    pub inner: SimulatedRuntime,
    /// What is wrong with it.
    pub quirks: Quirks,
}

#[async_trait]
impl Runtime for QuirkyRuntime {
    async fn list(&self, owner: &Owner) -> Result<Vec<Listed>, EngineError> {
        self.quirks.answer().await?;
        let listed = self.inner.list(owner).await?;
        self.quirks.stays()?;
        Ok(listed)
    }

    async fn ping(&self) -> Result<(), EngineError> {
        self.quirks.answer().await?;
        self.inner.ping().await
    }

    async fn images(&self) -> Result<Vec<String>, EngineError> {
        self.quirks.answer().await?;
        self.inner.images().await
    }

    async fn pull(&self, image: &str, progress: watch::Sender<PullProgress>) -> Result<(), PullError> {
        self.quirks.answer().await.map_err(|error| PullError::Transient(error.to_string()))?;
        self.inner.pull(image, progress).await
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<(), CreateError> {
        self.quirks.answer().await?;
        if self.quirks.shows(Engine::Conflicts) {
            let message = format!("409: the name {} is already in use", plan.name);
            return Err(EngineError::Failed(message).into());
        }
        self.inner.create(plan).await?;
        Ok(self.quirks.lose()?)
    }

    async fn start(&self, container: &ContainerName) -> Result<(), StartError> {
        self.quirks.answer().await?;
        if self.quirks.has(Engine::NoBridge) {
            return Err(EngineError::Failed("500: could not find the bridge docker0".to_owned()).into());
        }
        self.inner.start(container).await?;
        Ok(self.quirks.lose()?)
    }

    async fn wait(&self, container: &ContainerName) -> Result<(), EngineError> {
        self.quirks.answer().await?;
        if self.quirks.has(Engine::BrokenWaits) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Err(EngineError::Unavailable("unexpected EOF".to_owned()));
        }
        if self.quirks.has(Engine::EarlyWaits) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        } else {
            self.inner.wait(container).await?;
        }
        // An engine that goes down with its containers tells nobody how these end.
        self.quirks.stays()
    }

    async fn inspect(&self, container: &ContainerName) -> Result<Option<Inspected>, EngineError> {
        self.quirks.answer().await?;
        let inspected = self.inner.inspect(container).await?;
        self.quirks.stays()?;
        Ok(inspected)
    }

    async fn signal(&self, container: &ContainerName, signal: Signal) -> Result<Delivery, EngineError> {
        self.quirks.answer().await?;
        let delivery = self.inner.signal(container, signal).await?;
        self.quirks.lose()?;
        Ok(delivery)
    }

    async fn remove(&self, container: &ContainerName) -> Result<(), EngineError> {
        self.quirks.answer().await?;
        if self.quirks.has(Engine::StuckRemovals) {
            return Err(EngineError::Failed("409: removal is already in progress".to_owned()));
        }
        self.inner.remove(container).await?;
        self.quirks.lose()
    }

    async fn logs(
        &self,
        container: &ContainerName,
        since_seconds: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Vec<OutputLine>, EngineError>>, EngineError> {
        self.quirks.answer().await?;
        self.inner.logs(container, since_seconds, follow).await
    }
}
