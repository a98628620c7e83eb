//! Launches what runs beside the owner: steps, waits for exits, captures of output.

use berth_domain::ids::AttemptRef;
use berth_domain::reconcile::{ContainerState, Step};
use tokio::sync::watch;

use super::owner::Reconciler;
use super::steps::{Act, Task};
use super::types::Notice;
use super::watcher;

impl Reconciler {
    pub(super) fn begin(&mut self, key: &AttemptRef, act: Act) {
        if act == Act::Step(Step::RecordExit) {
            self.capture(key);
        }
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.begin(act);
        let task = Task {
            attempt: key.clone(),
            act,
            order: attempt.order.clone(),
            refusals: attempt.refusals,
            stop: attempt.memory.stop,
            asked: attempt.asked,
            fenced: attempt.fenced,
            witnessed: attempt.witnessed,
            same_boot: !attempt.old_boot,
            slot_dead: attempt.slot_dead && attempt.container == Some(ContainerState::Created),
            remade: attempt.remade,
            seen: attempt.seen.clone(),
            started_ms: attempt.started_ms,
            may_have_started: attempt.memory.start_requested,
            captured: attempt.captured.clone(),
            cancel: attempt.cancel.clone(),
        };
        tracing::debug!(job_id = %key.job, attempt = key.number, epoch = key.epoch, act = ?act, "step begun");
        let (steps, notify) = (self.steps.clone(), self.notify.clone());
        self.tasks.spawn(async move {
            let outcome = steps.perform(&task).await;
            let _ = notify.send(Notice::Done(task.attempt, outcome)).await;
        });
    }

    /// Waits for the exit of a container that runs, and captures its output.
    pub(super) fn watch(&mut self, key: &AttemptRef) {
        self.capture(key);
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.memory.watched = true;
        if attempt.watch.is_some() {
            return;
        }
        let ended = self.stop.child_token();
        attempt.watch = Some(ended.clone());
        let (steps, notify, key) = (self.steps.clone(), self.notify.clone(), key.clone());
        self.tasks.spawn(async move {
            let name = steps.surroundings.name(&key);
            let exit = watcher::exit(&steps.parts.runtime, &steps.parts.random, &name);
            let (seen, witnessed) = tokio::select! {
                biased;
                () = ended.cancelled() => return,
                exit = exit => exit,
            };
            let _ = notify.send(Notice::Exit { attempt: key, seen, witnessed }).await;
        });
    }

    pub(super) fn capture(&mut self, key: &AttemptRef) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if attempt.captured.is_some() || attempt.memory.logs_captured {
            return;
        }
        let (done, captured) = watch::channel(false);
        attempt.captured = Some(captured);
        let (steps, notify) = (self.steps.clone(), self.notify.clone());
        let (key, stop) = (key.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let name = steps.surroundings.name(&key);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = steps.parts.capture.run(&key, &name) => {}
            }
            done.send_replace(true);
            let _ = notify.send(Notice::Captured(key)).await;
        });
    }
}
