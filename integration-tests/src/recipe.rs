//! The recipes of `./run`, run as people run them.

use std::process::{Command, Output};

use serde_json::Value;

use crate::tools;

/// `./run RECIPE` in the target folder that this test was built in, of the profile tests run with.
pub fn run(recipe: &str) -> Command {
    let program = std::env::current_exe().expect("a test knows its own program");
    let target = program.ancestors().nth(3).expect("it lies in target/PROFILE/deps");
    let mut command = Command::new(tools::root().join("run"));
    tools::as_from_a_shell(&mut command).arg(recipe).env("CARGO_TARGET_DIR", target);
    if std::env::var_os("BERTH_IMAGE_PROFILE").is_none() {
        command.env("BERTH_IMAGE_PROFILE", "dev");
    }
    command
}

/// The same for a recipe that builds `berth` first: that takes its time before anybody counts it, since
/// tests are built with other features.
pub fn run_built(recipe: &str) -> Command {
    let command = run(recipe);
    let mut build = Command::new("cargo");
    tools::as_from_a_shell(&mut build)
        .args(["build", "--quiet", "--bin", "berth"])
        .current_dir(tools::root());
    let target = command.get_envs().find(|(name, _)| *name == "CARGO_TARGET_DIR");
    build.envs(target.and_then(|(name, value)| Some((name, value?))));
    assert!(build.status().expect("cargo runs").success(), "berth is built");
    command
}

/// Reads the JSON that ends what a recipe prints.
pub fn closing_line(output: &Output) -> Value {
    let stdout = text(&output.stdout);
    let last = stdout.lines().next_back().unwrap_or_else(|| panic!("a line: {}", text(&output.stderr)));
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
}

/// Output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
