//! What becomes of jobs that ran in containers which no later process finds.

use super::slots::unanswered;
use super::*;
use crate::runtime::ContainerName;

fn warm() -> Order {
    order(JobSpec { reuse: Reuse::Warm, ..spec("sleep 600") })
}

impl Machine {
    /// A process ran a job in a warm container, and was killed: the engine shows no container of the attempt.
    async fn left_warm(&self) {
        let mut process = self.start().await;
        process.start("a", warm()).await;
        process.runs("a").await;
        process.crash().await;
        let engine = SimulatedRuntime::new(self.engine.clone(), self.clock.clone(), Duration::ZERO);
        let owner = Owner { cluster: "c".into(), executor: "e".into() };
        engine.remove(&ContainerName::new(&owner, &key("a"))).await.expect("it is removed");
    }

    fn settles(&self) -> usize {
        self.refusals.asked().iter().filter(|call| **call == "settle").count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_an_earlier_process_ran_warm_is_put_back_once_nothing_of_it_runs() {
    let machine = machine();
    machine.left_warm().await;
    let before = machine.settles();
    machine.refusals.settle([unanswered()]);
    let mut process = machine.start().await;
    process.start("a", warm()).await;
    assert_eq!(process.end("a").await.cause, EndCause::ExecutorFault);
    assert_eq!(machine.settles() - before, 2, "the first one was not answered");
    assert_eq!(machine.engine.starts().values().copied().collect::<Vec<_>>(), [1]);
}

#[tokio::test(start_paused = true)]
async fn an_abort_is_told_only_once_nothing_runs_of_what_an_earlier_process_ran_warm() {
    let machine = machine();
    machine.left_warm().await;
    let before = machine.settles();
    let mut process = machine.start().await;
    process.abort("a", None).await;
    process.start("a", warm()).await;
    assert_eq!(process.end("a").await.cause, EndCause::Aborted { code: None });
    assert_eq!(machine.settles() - before, 1);
}
