//! How the demo's jobs ended, beside how they were expected to end.

use berth_api::v1::{EndReason, Job, JobState};
use serde_json::{Value, json};

use super::batch::Demo;
use crate::output::{self, names};

/// A job of the demo that has ended, or could not be run.
#[derive(Debug)]
pub struct Shown {
    /// What was asked for.
    pub demo: Demo,
    /// How it ended; its state is UNSPECIFIED where it was not run, and its message says why.
    pub job: Job,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// What stands for the state of a job that was not submitted.
const NOT_RUN: &str = "NOT_RUN";

impl Shown {
    /// Makes one that was not submitted.
    pub fn not_run(demo: Demo, why: String) -> Self {
        let job = Job { message: why, ..Job::default() };
        Self { demo, job, stdout: String::new(), stderr: String::new() }
    }

    /// Says whether it ended as expected and wrote what was expected, each stream apart.
    pub fn is_as_expected(&self) -> bool {
        let expected = &self.demo.expected;
        // An aborted job may have a code: that of the signal.
        let code = expected.state == JobState::Aborted || self.job.exit_code == expected.exit_code;
        let wrote = |text: &str, part: &str| if part.is_empty() { true } else { text.contains(part) };
        let apart = expected.stderr.is_empty() || !self.stdout.contains(expected.stderr);
        self.job.state() == expected.state
            && self.job.end_reason() == expected.reason
            && code
            && wrote(&self.stdout, expected.stdout)
            && wrote(&self.stderr, expected.stderr)
            && apart
    }

    /// Says whether it may have run out of memory without the engine's knowledge: a Docker Engine misses the kernel's
    /// word now and then, and tells a kill.
    pub fn is_untold_out_of_memory(&self) -> bool {
        self.demo.expected.reason == EndReason::OomKilled
            && self.job.end_reason() == EndReason::ExitCode
            && self.job.exit_code == self.demo.expected.exit_code
    }

    fn wrote(&self) -> String {
        let stream =
            |name: &str, text: &str| (!text.is_empty()).then(|| format!("{name}: {}", text.trim_end()));
        let parts = [stream("stdout", &self.stdout), stream("stderr", &self.stderr)];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// Lays the jobs out, one line each.
pub fn table_of(all: &[Shown]) -> String {
    let row = |shown: &Shown| {
        let expected = &shown.demo.expected;
        vec![
            shown.demo.name.to_owned(),
            shown.demo.what.to_owned(),
            ending(expected.state, expected.reason, expected.exit_code),
            ending(shown.job.state(), shown.job.end_reason(), shown.job.exit_code),
            if shown.is_as_expected() { "yes" } else { "NO" }.to_owned(),
            shown.job.message.clone(),
            shown.wrote(),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    output::table(&["JOB", "WHAT IT DOES", "EXPECTED", "ENDED", "AS EXPECTED", "WHY", "OUTPUT"], &rows)
}

/// Gives the jobs as a JSON array.
pub fn to_json(all: &[Shown]) -> Value {
    let one = |shown: &Shown| {
        let expected = &shown.demo.expected;
        json!({
            "name": shown.demo.name,
            "id": shown.job.id,
            "expected": names::name_of_state(expected.state),
            "expectedEndReason": names::name_of_reason(expected.reason),
            "expectedExitCode": expected.exit_code,
            "state": state_name(shown.job.state()),
            "endReason": names::end_reason(&shown.job),
            "exitCode": shown.job.exit_code,
            "message": shown.job.message,
            "stdout": shown.stdout,
            "stderr": shown.stderr,
            "asExpected": shown.is_as_expected(),
        })
    };
    all.iter().map(one).collect()
}

fn ending(state: JobState, reason: EndReason, exit_code: Option<i32>) -> String {
    let (state_name, reason_name) = (state_name(state), names::name_of_reason(reason));
    match exit_code {
        Some(code) if reason == EndReason::ExitCode => format!("{state_name} {code}"),
        Some(_) | None => format!("{state_name} {reason_name}").trim_end().to_owned(),
    }
}

fn state_name(state: JobState) -> &'static str {
    if state == JobState::Unspecified { NOT_RUN } else { names::name_of_state(state) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::demo::batch::batch;

    fn shown(name: &str, change: impl FnOnce(&mut Shown)) -> Shown {
        let demo = batch("image").into_iter().find(|demo| demo.name == name).expect("a job of the demo");
        let expected = &demo.expected;
        let job = Job {
            state: expected.state.into(),
            end_reason: expected.reason.into(),
            exit_code: expected.exit_code,
            ..Job::default()
        };
        let (stdout, stderr) = (expected.stdout.to_owned(), expected.stderr.to_owned());
        let mut shown = Shown { demo, job, stdout, stderr };
        change(&mut shown);
        shown
    }

    #[test]
    fn an_end_is_held_against_state_reason_code_and_output() {
        assert!(shown("two-streams", |_| {}).is_as_expected());
        assert!(shown("aborted", |shown| shown.job.exit_code = Some(143)).is_as_expected());
        assert!(!shown("success", |shown| shown.job.state = JobState::Failed.into()).is_as_expected());
        assert!(!shown("exit-code", |shown| shown.job.exit_code = Some(4)).is_as_expected());
        assert!(!shown("exit-code", |shown| shown.job.exit_code = None).is_as_expected());
        assert!(!shown("too-large", |shown| shown.job.exit_code = Some(0)).is_as_expected());
        let other = EndReason::ExitCode.into();
        assert!(!shown("out-of-memory", |shown| shown.job.end_reason = other).is_as_expected());
        assert!(!shown("gpu", |shown| shown.stdout.clear()).is_as_expected());
        let merged = |shown: &mut Shown| shown.stdout = "to stdout\nto stderr".to_owned();
        assert!(!shown("two-streams", merged).is_as_expected());
    }

    #[test]
    fn a_kill_may_be_one_for_memory() {
        let killed = |shown: &mut Shown| shown.job.end_reason = EndReason::ExitCode.into();
        assert!(shown("out-of-memory", killed).is_untold_out_of_memory());
        assert!(!shown("out-of-memory", |_| {}).is_untold_out_of_memory());
        assert!(!shown("exit-code", |_| {}).is_untold_out_of_memory());
    }

    #[test]
    fn a_job_that_was_not_run_is_not_as_expected() {
        let demo = batch("image").into_iter().next().expect("a job of the demo");
        let left_out = [Shown::not_run(demo, "No executor has a GPU.".to_owned())];
        assert!(!left_out[0].is_as_expected());
        let table = table_of(&left_out);
        assert!(table.contains("NOT_RUN  NO           No executor has a GPU."), "{table}");
        let report = to_json(&left_out);
        assert_eq!((&report[0]["state"], &report[0]["asExpected"]), (&"NOT_RUN".into(), &false.into()));
    }

    #[test]
    fn the_report_names_expectation_and_end() {
        let report = to_json(&[shown("out-of-memory", |_| {})]);
        assert_eq!(report[0]["expected"], "FAILED");
        assert_eq!(report[0]["endReason"], "OOM_KILLED");
        assert_eq!(report[0]["exitCode"], 137);
    }
}
