//! A redis-server of a test's own: its port, its folder, its life.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running server; it is killed and its folder removed at the end.
pub struct RedisServer {
    pub port: u16,
    process: Child,
    folder: TempDir,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl RedisServer {
    /// Starts a server with an append-only file that is flushed at every write.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("berth-store-redis-").tempdir().expect("a folder");
        loop {
            let port = free_port();
            let mut server = Self { port, process: spawn(port, folder.path()), folder: placeholder() };
            if server.is_ours().await {
                server.folder = folder;
                return server;
            }
        }
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.process.kill().expect("a kill");
        self.process.wait().expect("its end");
    }

    /// Kills it without warning and starts it again on its port and folder.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.port, self.folder.path());
        assert!(self.is_ours().await, "redis did not come back on port {}", self.port);
    }

    /// Stops or continues the process.
    pub fn signal(&self, name: &str) {
        let signal: Signal = format!("SIG{name}").parse().expect("a signal's name");
        let pid = Pid::from_raw(self.process.id().try_into().expect("a process id"));
        kill(pid, signal).expect("the server can be signalled");
    }

    /// Waits until it answers; false where somebody else took the port first.
    async fn is_ours(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let own = format!("process_id:{}\r", self.process.id());
        while Instant::now() < deadline {
            if self.process.try_wait().expect("its state").is_some() {
                return false;
            }
            // While it loads its file it answers with an error.
            match raw(self.port, &["INFO", "server"]).await {
                Ok(info) if info.contains("process_id:") => {
                    let is_loaded =
                        raw(self.port, &["PING"]).await.is_ok_and(|pong| pong.starts_with("+PONG"));
                    if !info.contains(&own) {
                        return false;
                    }
                    if is_loaded {
                        return true;
                    }
                }
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        panic!("redis did not answer on port {} within {PATIENCE:?}", self.port);
    }
}

/// Sends one command and gives the reply's first line, or the text of a bulk reply.
pub async fn raw(port: u16, words: &[&str]) -> std::io::Result<String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut stream = BufReader::new(stream);
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    match line.strip_prefix('$').and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => {
            let mut text = vec![0; length];
            stream.read_exact(&mut text).await?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        None => Ok(line),
    }
}

fn spawn(port: u16, folder: &Path) -> Child {
    let settings = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--bind", "127.0.0.1"];
    Command::new(server_path())
        .args(["--port", &port.to_string(), "--dir"])
        .arg(folder)
        .args(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server starts")
}

/// Redis cannot choose a port itself; another process may take this one before Redis does.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("its number").port()
}

fn placeholder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn server_path() -> PathBuf {
    if let Some(path) = std::env::var_os("BERTH_REDIS_SERVER") {
        return PathBuf::from(path);
    }
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|dir| dir.join("redis-server")).find(|p| p.is_file())
    });
    if let Some(path) = on_path {
        return path;
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/redis-server");
    assert!(tools.is_file(), "no redis-server on this machine: run `./run tools` once, which brings one");
    tools
}
