//! Asks the container engine from time to time whether it answers. While it does not, the executor can
//! run no jobs, and says so; nothing is judged from it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::runtime::Runtime;

/// The time between two questions.
const EVERY: Duration = Duration::from_secs(5);
/// The same while the engine does not answer.
const SOON: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// So many questions without an answer are more than a hiccup.
const MISSES: u32 = 2;

/// Asks once: why it can run no jobs, or `None`.
pub(crate) async fn ask(runtime: &dyn Runtime) -> Option<String> {
    match tokio::time::timeout(ANSWER_WAIT, runtime.ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("The container engine does not answer.".to_owned()),
    }
}

/// Keeps `not_ready` true to the engine.
pub(crate) async fn watch(runtime: Arc<dyn Runtime>, not_ready: watch::Sender<Option<String>>) {
    let mut misses = 0;
    loop {
        let problem = ask(runtime.as_ref()).await;
        misses = if problem.is_some() { misses + 1 } else { 0 };
        if misses == 0 || misses >= MISSES {
            let known = not_ready.borrow().is_some();
            not_ready.send_if_modified(|known| {
                let is_news = *known != problem;
                known.clone_from(&problem);
                is_news
            });
            // Why is for the runtime to say, which does so at each change.
            match (known, problem.is_some()) {
                (false, true) => tracing::warn!("no jobs can be run for now"),
                (true, false) => tracing::info!("jobs can be run again"),
                (false, false) | (true, true) => {}
            }
        }
        tokio::time::sleep(if misses == 0 { EVERY } else { SOON }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TokioClock;
    use crate::runtime::{SimulatedEngine, SimulatedRuntime};

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_does_not_answer_is_told_and_its_return_too() {
        let engine = SimulatedEngine::default();
        let runtime = SimulatedRuntime::new(engine.clone(), Arc::new(TokioClock::at(0)), Duration::ZERO);
        let (sender, mut not_ready) = watch::channel(None);
        let watching = tokio::spawn(watch(Arc::new(runtime), sender));
        engine.set_broken(true);
        not_ready.wait_for(Option::is_some).await.expect("it is watched");
        engine.set_broken(false);
        not_ready.wait_for(Option::is_none).await.expect("it is watched");
        watching.abort();
    }
}
