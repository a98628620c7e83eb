//! Whose word counts: leaders by epoch, executors by session and attempt.

use std::collections::BTreeMap;

use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::SessionId;
use berth_domain::job::{EndReason, Job, JobState};
use berth_store::Change;

use super::{By, Invariant, Logged, View, Violation};

/// What the store has at some moment.
#[derive(Default)]
struct Now<'a> {
    generation: u64,
    /// The newest epoch.
    epoch: u64,
    /// Somebody leads with it.
    is_led: bool,
    executors: BTreeMap<&'a str, &'a Executor>,
    jobs: BTreeMap<&'a str, &'a Job>,
    /// The session of each executor, and since when it has it.
    registered_ms: BTreeMap<&'a str, (Option<&'a SessionId>, u64)>,
}

pub(super) fn judge(view: &View<'_>, found: &mut Vec<Violation>) {
    let mut now = Now::default();
    for logged in &view.history.log {
        if logged.generation != now.generation {
            // Whoever led before does not any more.
            (now.generation, now.is_led) = (logged.generation, false);
        }
        let mut violated = |invariant, story: String| {
            let story = format!("revision {}: {story}", logged.revision);
            found.push(Violation::new(invariant, story).of_change(&logged.change).at(logged));
        };
        if let Some(epoch) = logged.by.as_ref().and_then(|by| by.epoch)
            && !(now.is_led && epoch == now.epoch)
        {
            let leads = if now.is_led { format!("{} leads", now.epoch) } else { "nobody leads".to_owned() };
            violated(Invariant::LeaderFence, format!("the leader of epoch {epoch} made it while {leads}"));
        }
        match &logged.change {
            Change::Leader { epoch, scheduler_id } => {
                now.is_led = !scheduler_id.is_empty();
                if now.is_led && *epoch <= now.epoch {
                    let story = format!("{scheduler_id} leads with epoch {epoch} after {}", now.epoch);
                    violated(Invariant::LeaderFence, story);
                }
                if now.is_led {
                    now.epoch = *epoch;
                }
            }
            Change::JobDeleted(_) => {}
            Change::Executor(executor) => {
                for (invariant, story) in now.wrong_verdict(view, logged, executor) {
                    violated(invariant, story);
                }
                now.take(logged, executor);
            }
            Change::Job(job) => {
                let before = now.jobs.insert(job.id.as_str(), job);
                for (invariant, story) in now.wrong_change(view, logged, before, job) {
                    violated(invariant, story);
                }
            }
        }
    }
}

impl<'a> Now<'a> {
    fn take(&mut self, logged: &Logged, executor: &'a Executor) {
        let id = executor.id.as_str();
        let (session, _) = self.registered_ms.get(id).copied().unwrap_or_default();
        if executor.session.is_some() && executor.session.as_ref() != session {
            self.registered_ms.insert(id, (executor.session.as_ref(), logged.at_ms));
        }
        self.executors.insert(id, executor);
    }

    /// Says what is wrong with a verdict on an executor, if its new record is one.
    fn wrong_verdict(&self, view: &View<'_>, logged: &Logged, to: &Executor) -> Vec<(Invariant, String)> {
        let id = to.id.as_str();
        let was_there = self.executors.get(id).is_some_and(|known| known.state == ExecutorState::Active);
        if to.state != ExecutorState::Lost || to.fenced || !was_there {
            return Vec::new();
        }
        let mut wrong = Vec::new();
        let (session, since_ms) = self.registered_ms.get(id).copied().unwrap_or_default();
        let due_ms = since_ms + view.history.lost_after_ms;
        if session.is_some() && logged.at_ms > 0 && logged.at_ms < due_ms {
            let after_ms = logged.at_ms - since_ms;
            let story = format!("{id} was judged lost {after_ms} ms after it had registered");
            wrong.push((Invariant::ExecutorFence, story));
        }
        if logged.by.as_ref().is_some_and(|by| by.epoch.is_none()) {
            wrong.push((Invariant::LeaderFence, format!("{id} was judged lost by nobody who leads")));
        }
        wrong
    }

    /// Says what is wrong with a job's change, given what the store had before.
    fn wrong_change(
        &self,
        view: &View<'_>,
        logged: &Logged,
        before: Option<&Job>,
        job: &Job,
    ) -> Vec<(Invariant, String)> {
        let mut wrong = Vec::new();
        let id = &job.id;
        let was_pending = before.is_some_and(|before| before.state == JobState::Pending);
        // An assignment that the store has lost is told to it by the executor that has it.
        let is_adopted = view.has_lost_assignment(&job.last_attempt());
        if job.state == JobState::Assigned && was_pending && !is_adopted {
            if job.attempt_epoch != self.epoch {
                let story = format!(
                    "job {id} was assigned with epoch {} while {} leads",
                    job.attempt_epoch, self.epoch
                );
                wrong.push((Invariant::LeaderFence, story));
            }
            if logged.by.as_ref().is_some_and(|by| by.epoch.is_none()) {
                wrong.push((Invariant::LeaderFence, format!("job {id} was assigned by nobody who leads")));
            }
        }
        let of = |job: &Job| self.executors.get(job.executor.as_ref()?.as_str()).copied();
        let is_report = before.is_some_and(|before| is_report(before, job));
        let told = logged.by.as_ref().and_then(|by| by.session.as_ref());
        let Some(executor) = of(job).or_else(|| before.and_then(of)).filter(|_| is_report || told.is_some())
        else {
            return wrong;
        };
        let why = if executor.state == ExecutorState::Lost {
            Some(format!("a report of {}, which is lost", executor.id))
        } else {
            logged.by.as_ref().and_then(|by| wrong_report(by, before, executor))
        };
        wrong.extend(
            why.map(|why| {
                (Invariant::ExecutorFence, format!("job {id} became {} by {why}", job.state.name()))
            }),
        );
        wrong
    }
}

/// Says why the report that made a change does not count.
fn wrong_report(by: &By, before: Option<&Job>, executor: &Executor) -> Option<String> {
    let Some(session) = &by.session else {
        return Some("the word of no executor".to_owned());
    };
    if executor.session.as_ref() != Some(session) {
        return Some(format!("a report of session {session} of {}, which is another", executor.id));
    }
    let current = before.map(|before| (before.attempt, before.attempt_epoch));
    let stale = by.attempt.filter(|attempt| Some(*attempt) != current);
    stale.map(|attempt| {
        format!("a report of attempt {attempt:?} (number, epoch), and the current one is {current:?}")
    })
}

/// Only a report of the executor makes such a step.
fn is_report(before: &Job, after: &Job) -> bool {
    let started = after.state == JobState::Running && before.state != JobState::Running;
    let exited = after.state.is_terminal() && after.end_reason == Some(EndReason::ExitCode);
    before.current_attempt().is_some() && (started || exited)
}
