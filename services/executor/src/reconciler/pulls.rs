//! Pulls images: one pull at a time an image, shared by all who wait for it; given up when it shows
//! no sign of life for too long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::runtime::{PullError, PullProgress, Runtime};

type Finished = Option<Result<(), PullError>>;

#[derive(Clone)]
struct Pull {
    progress: watch::Receiver<PullProgress>,
    finished: watch::Receiver<Finished>,
}

/// The pulls that are under way.
#[derive(Clone)]
pub struct Pulls {
    runtime: Arc<dyn Runtime>,
    /// The lock is held for look-ups only.
    current: Arc<Mutex<BTreeMap<String, Pull>>>,
}

impl Pulls {
    /// Pulls through a runtime.
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, current: Arc::default() }
    }

    fn current(&self) -> MutexGuard<'_, BTreeMap<String, Pull>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pulls an image, or waits for the pull of it that is under way, whose clock is then that of
    /// whoever began it. `on_progress` is told how far it is. Dropping the call leaves the pull to
    /// the others who wait for it.
    ///
    /// # Errors
    /// Tells a pull that can never succeed from one that may be tried again.
    pub async fn pull(
        &self,
        image: &str,
        no_progress: Duration,
        on_progress: impl Fn(PullProgress),
    ) -> Result<(), PullError> {
        let mut pull = self.join(image, no_progress);
        loop {
            let finished = pull.finished.borrow_and_update().clone();
            if let Some(result) = finished {
                return result;
            }
            tokio::select! {
                biased;
                changed = pull.finished.changed() => if changed.is_err() && pull.finished.borrow().is_none() {
                    return Err(PullError::Transient("the pull was given up".to_owned()));
                },
                Ok(()) = pull.progress.changed() => on_progress(*pull.progress.borrow_and_update()),
            }
        }
    }

    fn join(&self, image: &str, no_progress: Duration) -> Pull {
        let mut current = self.current();
        if let Some(pull) = current.get(image) {
            return pull.clone();
        }
        let (progress_sender, progress) = watch::channel(PullProgress::default());
        let (finished_sender, finished) = watch::channel(None);
        let pull = Pull { progress, finished };
        current.insert(image.to_owned(), pull.clone());
        let (this, image) = (self.clone(), image.to_owned());
        tokio::spawn(async move {
            let result = this.run(&image, no_progress, progress_sender).await;
            this.current().remove(&image);
            finished_sender.send_replace(Some(result));
        });
        pull
    }

    async fn run(
        &self,
        image: &str,
        no_progress: Duration,
        progress: watch::Sender<PullProgress>,
    ) -> Result<(), PullError> {
        let mut seen = progress.subscribe();
        let pull = self.runtime.pull(image, progress);
        tokio::pin!(pull);
        loop {
            tokio::select! {
                biased;
                result = &mut pull => return result,
                Ok(()) = seen.changed() => {}
                () = tokio::time::sleep(no_progress) => {
                    let text = format!("the pull of {image} made no progress for {} s", no_progress.as_secs());
                    return Err(PullError::Transient(text));
                }
            }
        }
    }
}
