//! Calls the program under test.

use std::net::SocketAddr;
use std::process::{Output, Stdio};

use tokio::process::Command;

/// Prepares a call of the program under test.
pub fn berth(addresses: &[SocketAddr], line: &[&str]) -> Command {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command
        .args(line)
        .env("BERTH_ADDR", addresses.join(","))
        .env_remove("BERTH_RETRY_FOR")
        .env_remove("BERTH_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a call left behind.
#[derive(Debug)]
pub struct Left {
    /// The exit code; -1 after a signal.
    pub code: i32,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl From<Output> for Left {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("is UTF-8");
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// Calls the program under test and waits for its end.
pub async fn call(addresses: &[SocketAddr], line: &[&str]) -> Left {
    berth(addresses, line).output().await.expect("the program starts").into()
}
