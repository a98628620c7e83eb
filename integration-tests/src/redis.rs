//! A real Redis server of a test's own.

use std::net::TcpListener;
use std::process::Command;

use crate::process::Process;
use crate::tools;
use crate::wait::until;

/// A Redis server with an append-only file that is synced at every write.
pub struct Redis {
    process: Option<Process>,
    folder: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
}

impl Redis {
    /// Starts a server on a free port.
    pub fn start() -> Self {
        Self::start_on(free_port())
    }

    /// Starts a server on a free port, with options that override the usual ones.
    pub fn start_with(options: &[&str]) -> Self {
        Self::begin(free_port(), options)
    }

    /// Starts a server on a free port, set up as docs/redis-keys.md advises, with an fsync policy.
    pub fn start_tuned(fsync: &str) -> Self {
        let hashes = ["--hash-max-listpack-value", "1024"];
        let rewriting = ["--auto-aof-rewrite-min-size", "512mb"];
        Self::start_with(&[&["--appendfsync", fsync][..], &hashes, &rewriting].concat())
    }

    /// Starts a server on a port.
    pub fn start_on(port: u16) -> Self {
        Self::begin(port, &[])
    }

    fn begin(port: u16, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut redis = Self { process: None, folder: tools::folder(), port, options };
        redis.up();
        redis
    }

    /// Starts the server (again) on what is on disk, and waits until it answers.
    pub fn up(&mut self) {
        self.begin_up();
        until("redis answers", || (self.cli(&["PING"]).trim() == "PONG").then_some(()));
    }

    /// Starts the server (again) on what is on disk, which it may have to load first.
    pub fn begin_up(&mut self) {
        let mut command = Command::new(tools::redis_server());
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"])
            .args(["--dir", &self.folder.path().display().to_string()])
            .args(&self.options);
        let process = Process::start("redis-server", &mut command);
        self.process = Some(process);
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Sends the server a signal by name.
    pub fn signal(&self, signal: &str) {
        self.process.as_ref().expect("the server runs").signal(signal);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").pid()
    }

    /// Where it is, host:port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL clients use.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs redis-cli against the server; gives what it prints.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new(tools::tool("redis-cli"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    free.local_addr().expect("it has an address").port()
}
