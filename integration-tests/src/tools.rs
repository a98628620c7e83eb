//! Where the programs are that tests need. A missing one fails the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the source tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// A program that `./run tools` provides.
pub fn tool(name: &str) -> PathBuf {
    let path = root().join("target/tools/bin").join(name);
    assert!(path.exists(), "{} is missing; run ./run tools", path.display());
    path
}

/// The Redis server.
pub fn redis_server() -> PathBuf {
    std::env::var_os("BERTH_REDIS_SERVER").map_or_else(|| tool("redis-server"), PathBuf::from)
}

/// A path as whoever called the recipe meant it: recipes change to the root.
pub fn from_caller(path: &str) -> PathBuf {
    std::env::var_os("BERTH_CALLER_DIR").map(PathBuf::from).unwrap_or_default().join(path)
}

/// Names another `berth` program to be tested instead.
pub const PROGRAM: &str = "BERTH_TEST_PROGRAM";

/// The `berth` program, built from the tree under test; optimised where this harness is.
pub fn berth() -> &'static Path {
    static BERTH: OnceLock<PathBuf> = OnceLock::new();
    BERTH.get_or_init(|| {
        if let Some(program) = std::env::var_os(PROGRAM) {
            return PathBuf::from(program);
        }
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--package", "berth", "--bin", "berth", "--message-format", "json"])
            .args(if cfg!(debug_assertions) { None } else { Some("--release") })
            .current_dir(root());
        let output = as_from_a_shell(&mut build).output().expect("cargo runs");
        assert!(output.status.success(), "berth builds: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut built =
            messages.filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)));
        built.next_back().expect("cargo names the program it built")
    })
}

/// Takes out of a command's environment what cargo tells the test that it runs. A cargo started with it
/// would build `ring`, which watches these, and all that stands on it anew; and so would the next one
/// from a shell.
pub fn as_from_a_shell(command: &mut Command) -> &mut Command {
    let told = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_", "OUT_DIR"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| told.iter().any(|beginning| name.starts_with(beginning))) {
            command.env_remove(name);
        }
    }
    command
}

/// A folder of its own for a test, removed at its end.
pub fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("berth-test-").tempdir().expect("a temporary folder can be made")
}

/// A name that no other test, now or before, uses.
pub fn unique(prefix: &str) -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("time has begun");
    format!("{prefix}-{:x}-{count}", nanos.as_nanos() & 0xffff_ffff_ffff)
}
