//! The jobs of the demo, and how each must end.

use std::time::Duration;

use berth_api::v1::{EndReason, JobSpec, JobState, Resources};

use crate::values::wire_duration;

const MIB: i64 = 1024 * 1024;
/// How long the job that fits nowhere waits for a machine that will never come.
const HOPELESS: Duration = Duration::from_secs(5);

/// How a job must end.
#[derive(Debug)]
pub struct Expected {
    /// The state.
    pub state: JobState,
    /// The reason.
    pub reason: EndReason,
    /// The exit code; `None` where there must be none, or where either is right (an abort).
    pub exit_code: Option<i32>,
    /// What stdout must be, in part.
    pub stdout: &'static str,
    /// What stderr must be, in part.
    pub stderr: &'static str,
}

/// A job of the demo.
#[derive(Debug)]
pub struct Demo {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// What is run.
    pub spec: JobSpec,
    /// Aborts it once it has written something.
    pub abort_when_it_writes: bool,
    /// How it must end.
    pub expected: Expected,
}

/// Lists the jobs.
pub fn batch(image: &str) -> Vec<Demo> {
    let job = |name, what, command: &[&str], expected| Demo {
        name,
        what,
        spec: JobSpec {
            image: image.to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            resources: Some(Resources { cpu_millis: 100, memory_bytes: 32 * MIB, ..Resources::default() }),
            // A machine that is busy with other things must not fail the demo.
            queue_timeout: Some(wire_duration(Duration::from_secs(120))),
            ..JobSpec::default()
        },
        abort_when_it_writes: false,
        expected,
    };
    let ended = |state, reason, exit_code| Expected { state, reason, exit_code, stdout: "", stderr: "" };
    let exited = |code| {
        let state = if code == 0 { JobState::Succeeded } else { JobState::Failed };
        ended(state, EndReason::ExitCode, Some(code))
    };
    let mut jobs = vec![
        job(
            "success",
            "prints a line",
            &["echo", "hello from a container"],
            Expected { stdout: "hello from a container", ..exited(0) },
        ),
        job("exit-code", "exits with 3", &["exit", "3"], exited(3)),
        job(
            "out-of-memory",
            "takes 256 MB of its 32",
            &["alloc", "256", "0"],
            ended(JobState::Failed, EndReason::OomKilled, Some(137)),
        ),
        job(
            "too-large",
            "asks for 1000 CPUs",
            &["true"],
            ended(JobState::Failed, EndReason::QueueTimeout, None),
        ),
        job(
            "aborted",
            "sleeps, is aborted",
            &["sh", "-c", "echo asleep; sleep 600"],
            Expected { stdout: "asleep", ..ended(JobState::Aborted, EndReason::AbortedByUser, None) },
        ),
        job(
            "gpu",
            "uses an emulated GPU",
            &["sh", "-c", "echo GPU $BERTH_GPU_MODELS: $BERTH_GPU_DEVICE_IDS"],
            Expected { stdout: "GPU ", ..exited(0) },
        ),
        job(
            "two-streams",
            "writes to both streams",
            &["sh", "-c", "echo to stdout; echo to stderr >&2"],
            Expected { stdout: "to stdout", stderr: "to stderr", ..exited(0) },
        ),
    ];
    for demo in &mut jobs {
        let Some(resources) = demo.spec.resources.as_mut() else { continue };
        match demo.name {
            "too-large" => {
                resources.cpu_millis = 1_000_000;
                demo.spec.queue_timeout = Some(wire_duration(HOPELESS));
            }
            "gpu" => resources.gpu_count = 1,
            "aborted" => demo.abort_when_it_writes = true,
            _ => {}
        }
    }
    jobs
}
