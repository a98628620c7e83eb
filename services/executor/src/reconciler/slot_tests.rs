//! What becomes of attempts whose network slots are dead.

use std::sync::Mutex;

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::*;
use crate::runtime::{
    ContainerName, ContainerPlan, CreateError, Delivery, Inspected, Listed, OutputLine, PullError,
    PullProgress, Signal, StartError,
};

/// What an engine says before it does what it is asked: the last ones first.
#[derive(Default)]
pub(super) struct Refusals {
    creates: Mutex<Vec<CreateError>>,
    starts: Mutex<Vec<StartError>>,
    settles: Mutex<Vec<EngineError>>,
    /// Removals of containers that have not run.
    removals: Mutex<Vec<EngineError>>,
    /// What was asked.
    asked: watch::Sender<Vec<&'static str>>,
}

impl Refusals {
    fn next<E>(&self, call: &'static str, refusals: &Mutex<Vec<E>>) -> Result<(), E> {
        self.asked.send_modify(|asked| asked.push(call));
        refusals.lock().expect("not poisoned").pop().map_or(Ok(()), Err)
    }

    fn start(&self, refusals: impl IntoIterator<Item = StartError>) {
        self.starts.lock().expect("not poisoned").extend(refusals);
    }

    pub(super) fn settle(&self, refusals: impl IntoIterator<Item = EngineError>) {
        self.settles.lock().expect("not poisoned").extend(refusals);
    }

    pub(super) fn asked(&self) -> Vec<&'static str> {
        self.asked.borrow().clone()
    }

    /// Waits until something was asked for so many times.
    async fn has_asked(&self, call: &str, times: usize) {
        let enough = |asked: &Vec<&str>| asked.iter().filter(|one| **one == call).count() >= times;
        self.asked.subscribe().wait_for(enough).await.expect("the engine is there");
    }
}

/// An engine that refuses first.
pub(super) struct Refusing {
    pub inner: SimulatedRuntime,
    pub refusals: Arc<Refusals>,
}

#[async_trait]
impl Runtime for Refusing {
    async fn list(&self, owner: &Owner) -> Result<Vec<Listed>, EngineError> {
        self.inner.list(owner).await
    }

    async fn ping(&self) -> Result<(), EngineError> {
        self.inner.ping().await
    }

    async fn images(&self) -> Result<Vec<String>, EngineError> {
        self.inner.images().await
    }

    async fn pull(&self, image: &str, progress: watch::Sender<PullProgress>) -> Result<(), PullError> {
        self.inner.pull(image, progress).await
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<(), CreateError> {
        self.refusals.next("create", &self.refusals.creates)?;
        self.inner.create(plan).await
    }

    async fn start(&self, container: &ContainerName) -> Result<(), StartError> {
        self.refusals.next("start", &self.refusals.starts)?;
        self.inner.start(container).await
    }

    async fn wait(&self, container: &ContainerName) -> Result<(), EngineError> {
        self.inner.wait(container).await
    }

    async fn inspect(&self, container: &ContainerName) -> Result<Option<Inspected>, EngineError> {
        self.inner.inspect(container).await
    }

    async fn signal(&self, container: &ContainerName, signal: Signal) -> Result<Delivery, EngineError> {
        self.inner.signal(container, signal).await
    }

    async fn remove(&self, container: &ContainerName) -> Result<(), EngineError> {
        self.inner.remove(container).await
    }

    async fn remove_unstarted(&self, container: &ContainerName) -> Result<(), EngineError> {
        self.refusals.next("remove", &self.refusals.removals)?;
        self.inner.remove(container).await
    }

    async fn settle(&self) -> Result<(), EngineError> {
        self.refusals.next("settle", &self.refusals.settles)
    }

    async fn logs(
        &self,
        container: &ContainerName,
        since_seconds: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Vec<OutputLine>, EngineError>>, EngineError> {
        self.inner.logs(container, since_seconds, follow).await
    }
}

fn once(command: &str) -> Order {
    order(JobSpec { on_lost: OnLost::Fail, ..spec(command) })
}

fn dead() -> StartError {
    StartError::SlotDead("cannot join network of a non running container".into())
}

pub(super) fn unanswered() -> EngineError {
    EngineError::Unavailable("no answer within 90 s".into())
}

impl Machine {
    async fn noted_as_started(&self) -> usize {
        Outbox::new(self.disk.clone()).load().await.expect("the outbox is readable").started.len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_in_a_dead_slot_is_made_anew_and_runs_as_the_same_attempt() {
    let machine = machine();
    machine.refusals.start([dead()]);
    let mut process = machine.start().await;
    process.start("a", once("exit 3")).await;
    assert_eq!(process.end("a").await.cause, exited(3));
    assert_eq!(machine.refusals.asked(), ["create", "start", "remove", "create", "start"]);
    assert_eq!(machine.engine.starts().values().copied().collect::<Vec<_>>(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_fails_while_a_container_is_made_anew_is_tried_again_and_nothing_has_vanished() {
    let machine = machine();
    machine.refusals.start([dead()]);
    let refused = || EngineError::Failed("something".into());
    machine.refusals.removals.lock().expect("not poisoned").extend([refused(), unanswered()]);
    let mut process = machine.start().await;
    let failures: [CreateError; 4] =
        [refused().into(), CreateError::NoImage, unanswered().into(), refused().into()];
    process.start("a", once("exit 3")).await;
    machine.refusals.has_asked("remove", 1).await;
    machine.refusals.creates.lock().expect("not poisoned").extend(failures);
    assert_eq!(process.end("a").await.cause, exited(3));
    assert!(
        machine.refusals.creates.lock().expect("not poisoned").is_empty(),
        "all that was to fail has failed"
    );
    assert_eq!(machine.engine.starts().values().copied().collect::<Vec<_>>(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_finds_a_container_in_a_dead_slot_makes_it_anew() {
    let machine = machine();
    // Its start was asked for and noted on disk; nobody knows what came of it.
    machine.refusals.start((0..100).map(|_| unanswered().into()));
    let process = machine.start().await;
    process.start("a", once("exit 3")).await;
    machine.refusals.has_asked("start", 1).await;
    process.crash().await;
    assert_eq!((machine.noted_as_started().await, machine.engine.container_count()), (1, 1));
    machine.refusals.starts.lock().expect("not poisoned").clear();
    machine.refusals.start([dead()]);
    // And it dies, too, when the container is gone: that it has not run is on disk by then.
    machine.refusals.creates.lock().expect("not poisoned").extend((0..100).map(|_| unanswered().into()));
    let process = machine.start().await;
    process.whole_set(vec![(key("a"), once("exit 3"))]).await;
    machine.refusals.has_asked("create", 2).await;
    assert_eq!(machine.engine.container_count(), 0);
    process.crash().await;
    assert_eq!(machine.noted_as_started().await, 0);
    machine.refusals.creates.lock().expect("not poisoned").clear();
    let mut process = machine.start().await;
    process.whole_set(vec![(key("a"), once("exit 3"))]).await;
    assert_eq!(process.end("a").await.cause, exited(3));
    assert_eq!(machine.engine.starts().values().copied().collect::<Vec<_>>(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_container_is_made_anew_once_and_then_the_engine_is_at_fault() {
    let machine = machine();
    machine.refusals.start((0..100).map(|_| dead()));
    let mut process = machine.start().await;
    process.start("a", run("exit 3")).await;
    let end = process.end("a").await;
    assert_eq!((end.cause, end.start_time_ms), (EndCause::ExecutorFault, None));
    assert_eq!(machine.refusals.asked().iter().filter(|call| **call == "create").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_runs_after_all_is_not_removed_for_a_dead_slot() {
    let machine = machine();
    machine.refusals.start([dead()]);
    let running = EngineError::Failed("You cannot remove a running container".into());
    machine.refusals.removals.lock().expect("not poisoned").push(running);
    let mut process = machine.start().await;
    process.start("a", once("sleep 5")).await;
    machine.refusals.has_asked("remove", 1).await;
    let late = SimulatedRuntime::new(machine.engine.clone(), machine.clock.clone(), Duration::ZERO);
    let name = ContainerName::new(&Owner { cluster: "c".into(), executor: "e".into() }, &key("a"));
    late.start(&name).await.expect("it starts");
    process.runs("a").await;
    assert_eq!(machine.noted_as_started().await, 1, "whoever comes next must not start it again");
    assert_eq!(process.end("a").await.cause, exited(0));
    assert_eq!(machine.refusals.asked(), ["create", "start", "remove"]);
}
