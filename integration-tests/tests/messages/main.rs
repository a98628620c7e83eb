//! What a user is told in the first five minutes: each sentence by the real program on the real
//! services, compared word for word with a file.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

mod engine;
mod golden;
mod names;
mod queue;
mod store;

use std::path::Path;
use std::process::{Command, Output};

use berth_integration_tests::cluster::{Cluster, Size};
use berth_integration_tests::tools;

/// An executor of a cluster without a container engine behind it.
fn simulated(cluster: &mut Cluster, id: &str, cpus: &str) {
    cluster.add_executor(id, Size { cpus, memory: "4g", gpus: "" }, &["--runtime", "simulated"]);
}

/// A command line for an executor, which is not started yet.
fn executor(program: &Path, cluster: &Cluster, id: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["executor", "--schedulers", &cluster.scheduler.grpc, "--cluster", &cluster.name])
        .args(["--data-dir", &folder.display().to_string()])
        .env("EXECUTOR_ID", id);
    command
}

/// A command line for a scheduler on free ports, which is not started yet.
fn scheduler(folder: &Path) -> Command {
    let mut command = Command::new(tools::berth());
    command
        .args(["scheduler", "--cluster", &tools::unique("test"), "--id", "scheduler-1"])
        .args(["--data-dir", &folder.display().to_string()]);
    command
}

/// What a program wrote to stderr.
fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The line of a text that has a part in it.
fn line_with(text: &str, part: &str) -> String {
    let line = text.lines().find(|line| line.contains(part));
    line.unwrap_or_else(|| panic!("{part:?} is said in:\n{text}")).to_owned()
}
