//! What a job's end means to a shell: the one table from how a job ended to the exit code of `berth run`.
//! Codes of Docker are kept: 125 to 127, 130 and 137.

use berth_api::v1::{EndReason, Job, JobState};

use crate::output::names;

/// The job ran longer than its run timeout.
pub const RUN_TIMEOUT: u8 = 124;
/// Berth could not run the job.
pub const COULD_NOT_RUN: u8 = 125;
/// A user aborted the job.
pub const ABORTED: u8 = 130;
/// The job used more memory than it had asked for.
pub const OUT_OF_MEMORY: u8 = 137;

/// Says whether the job has ended.
pub fn has_ended(job: &Job) -> bool {
    match job.state() {
        JobState::Succeeded | JobState::Failed | JobState::Aborted => true,
        JobState::Unspecified | JobState::Pending | JobState::Assigned | JobState::Running => false,
    }
}

/// Gives the exit code of `berth run` for a job that has ended.
pub fn exit_code(job: &Job) -> u8 {
    match job.state() {
        JobState::Succeeded => 0,
        JobState::Aborted => ABORTED,
        JobState::Failed => match job.end_reason() {
            EndReason::ExitCode => own_code(job),
            EndReason::OomKilled => OUT_OF_MEMORY,
            EndReason::RunTimeout => RUN_TIMEOUT,
            EndReason::AbortedByUser => ABORTED,
            EndReason::Unspecified
            | EndReason::ImageNotFound
            | EndReason::ImagePullFailed
            | EndReason::QueueTimeout
            | EndReason::ExecutorLost
            | EndReason::ExecutorFault
            | EndReason::RefusedByPolicy => COULD_NOT_RUN,
        },
        JobState::Unspecified | JobState::Pending | JobState::Assigned | JobState::Running => COULD_NOT_RUN,
    }
}

/// Gives the job's own code as a shell sees it. A failed job never gives 0.
fn own_code(job: &Job) -> u8 {
    match job.exit_code {
        Some(code) => match u8::try_from(code & 0xff) {
            Ok(0) | Err(_) => 1,
            Ok(code) => code,
        },
        None => COULD_NOT_RUN,
    }
}

/// Words how a job ended, for a person; `None` when it succeeded.
pub fn sentence(job: &Job) -> Option<String> {
    let reason = names::end_reason(job);
    let message = if job.message.is_empty() { String::new() } else { format!(": {}", job.message) };
    match (job.state(), job.end_reason()) {
        (JobState::Succeeded, _) => None,
        (_, EndReason::OomKilled) => Some(format!("killed: out of memory ({reason}){message}")),
        (JobState::Aborted, _) => Some(format!("aborted{message}")),
        (_, EndReason::ExitCode) if job.message.is_empty() => {
            Some(format!("failed ({reason}): exit code {}", job.exit_code.unwrap_or_default()))
        }
        _ => Some(format!("failed ({reason}){message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(state: JobState, reason: EndReason, code: Option<i32>) -> Job {
        Job {
            state: state.into(),
            end_reason: reason.into(),
            exit_code: code,
            message: "why".into(),
            ..Default::default()
        }
    }

    #[test]
    fn run_exits_as_the_table_says() {
        use {EndReason as R, JobState as S};
        let table = [
            (S::Succeeded, R::ExitCode, Some(0), 0),
            (S::Failed, R::ExitCode, Some(3), 3),
            (S::Failed, R::ExitCode, Some(126), 126),
            (S::Failed, R::ExitCode, Some(127), 127),
            (S::Failed, R::ExitCode, Some(256), 1),
            (S::Failed, R::ExitCode, None, 125),
            (S::Failed, R::RunTimeout, Some(137), 124),
            (S::Failed, R::OomKilled, Some(137), 137),
            (S::Failed, R::QueueTimeout, None, 125),
            (S::Failed, R::ImageNotFound, None, 125),
            (S::Failed, R::ImagePullFailed, None, 125),
            (S::Failed, R::ExecutorLost, None, 125),
            (S::Failed, R::ExecutorFault, None, 125),
            (S::Failed, R::RefusedByPolicy, None, 125),
            (S::Aborted, R::AbortedByUser, Some(143), 130),
        ];
        for (state, reason, code, expected) in table {
            assert_eq!(exit_code(&ended(state, reason, code)), expected, "{state:?} {reason:?} {code:?}");
        }
    }

    #[test]
    fn an_end_is_worded_with_reason_and_message() {
        let word = |state, reason, code| sentence(&ended(state, reason, code));
        assert_eq!(word(JobState::Succeeded, EndReason::ExitCode, Some(0)), None);
        assert_eq!(
            word(JobState::Failed, EndReason::OomKilled, Some(137)).as_deref(),
            Some("killed: out of memory (OOM_KILLED): why")
        );
        assert_eq!(
            word(JobState::Failed, EndReason::QueueTimeout, None).as_deref(),
            Some("failed (QUEUE_TIMEOUT): why")
        );
        let silent = Job { message: String::new(), ..ended(JobState::Failed, EndReason::ExitCode, Some(3)) };
        assert_eq!(sentence(&silent).as_deref(), Some("failed (EXIT_CODE): exit code 3"));
    }
}
