//! Words a job's progress, one line a change, for a person who watches it.

use berth_api::v1::{Job, JobPhase, JobState, pending_reason::Code};

/// Remembers what was said last, so that each change is said once.
#[derive(Debug, Default)]
pub struct Progress {
    said: Option<Key>,
}

/// What makes a line worth saying; a queue position that moves does not.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    state: JobState,
    attempt: i32,
    pending: Option<Code>,
    pulling: bool,
    unreachable: bool,
}

impl Progress {
    /// Gives the line on what changed since the last; `None` when nothing did, and for a job that has ended.
    pub fn line(&mut self, job: &Job) -> Option<String> {
        let key = Key {
            state: job.state(),
            attempt: job.attempt,
            pending: job.pending_reason.as_ref().map(|reason| reason.code()),
            pulling: job.phase() == JobPhase::Pulling,
            unreachable: job.unreachable,
        };
        // A waiting job whose reason is not known yet says nothing new.
        let silent = key.state == JobState::Pending
            && matches!(key.pending, None | Some(Code::Unspecified))
            && self.said.as_ref().is_some_and(|said| said.state == JobState::Pending);
        if silent || self.said.as_ref() == Some(&key) {
            return None;
        }
        let line = words(job, &key);
        self.said = Some(key);
        line
    }
}

fn words(job: &Job, key: &Key) -> Option<String> {
    let place = if job.executor_id.is_empty() { String::new() } else { format!(" on {}", job.executor_id) };
    let attempt = if job.attempt > 1 { format!(" (attempt {})", job.attempt) } else { String::new() };
    if key.unreachable {
        return Some(format!("out of touch{place}: what it does is not known"));
    }
    match key.state {
        JobState::Pending => Some(match &job.pending_reason {
            Some(reason) if !reason.message.is_empty() => format!("queued: {}", reason.message),
            Some(_) | None if !job.message.is_empty() => format!("queued again: {}", job.message),
            Some(_) | None => "queued".to_owned(),
        }),
        JobState::Assigned if key.pulling => {
            let image = job.spec.as_ref().map_or("the image", |spec| spec.image.as_str());
            Some(format!("pulling {image}{place}{attempt}"))
        }
        JobState::Assigned => Some(format!("assigned{place}{attempt}")),
        JobState::Running => Some(format!("running{place}{attempt}")),
        JobState::Unspecified | JobState::Succeeded | JobState::Failed | JobState::Aborted => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_api::v1::PendingReason;

    fn job(state: JobState) -> Job {
        Job { state: state.into(), ..Default::default() }
    }

    #[test]
    fn each_change_is_said_once() {
        let mut progress = Progress::default();
        let busy = |position| Job {
            pending_reason: Some(PendingReason {
                code: Code::Busy.into(),
                message: format!("Fits 3 executors, none free now; {position} jobs ahead."),
                queue_position: position,
                ..Default::default()
            }),
            ..job(JobState::Pending)
        };
        assert_eq!(progress.line(&job(JobState::Pending)).as_deref(), Some("queued"));
        assert_eq!(progress.line(&job(JobState::Pending)), None);
        assert_eq!(
            progress.line(&busy(14)).as_deref(),
            Some("queued: Fits 3 executors, none free now; 14 jobs ahead.")
        );
        assert_eq!(progress.line(&busy(13)), None);
        let assigned = Job { executor_id: "e1".into(), attempt: 1, ..job(JobState::Assigned) };
        assert_eq!(progress.line(&assigned).as_deref(), Some("assigned on e1"));
        let pulling = Job { phase: JobPhase::Pulling.into(), ..assigned.clone() };
        assert_eq!(progress.line(&pulling).as_deref(), Some("pulling the image on e1"));
        let running = Job { executor_id: "e2".into(), attempt: 2, ..job(JobState::Running) };
        assert_eq!(progress.line(&running).as_deref(), Some("running on e2 (attempt 2)"));
        assert_eq!(progress.line(&Job { attempt: 2, ..job(JobState::Succeeded) }), None);
    }
}
