//! An engine that answers as it is told and remembers what it was asked.

use std::sync::{Arc, Mutex};

use berth_executor::runtime::{DockerRuntime, DockerSettings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// A request as it came over the socket.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// The body, where it is JSON.
    pub body: Value,
}

/// An engine that answers by (method, end of path) and remembers what it was asked.
pub struct RecordingEngine {
    recorded: Arc<Mutex<Vec<Recorded>>>,
    answers: Arc<Mutex<Answers>>,
    /// What asks it.
    pub runtime: DockerRuntime,
    _folder: tempfile::TempDir,
}

/// The first answer that fits a method and the end of a path is given.
pub type Answers = Vec<(&'static str, &'static str, u16, Value)>;

impl RecordingEngine {
    /// Starts one with its answers.
    pub fn start(mut answers: Answers) -> Self {
        answers.push(("GET", "/version", 200, json!({ "ApiVersion": "1.41", "MinAPIVersion": "1.12" })));
        answers.push((
            "GET",
            "/info",
            200,
            json!({ "ServerVersion": "20.10.24", "InitCommit": { "ID": "" }, "Architecture": "x86_64" }),
        ));
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).expect("it binds");
        let recorded: Arc<Mutex<Vec<Recorded>>> = Arc::default();
        let answers = Arc::new(Mutex::new(answers));
        let (answering, log) = (answers.clone(), recorded.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answering.clone(), log.clone()));
            }
        });
        let host = Some(format!("unix://{}", socket.display()));
        let runtime = DockerRuntime::new(DockerSettings { host });
        Self { recorded, answers, runtime, _folder: folder }
    }

    /// From now on, an answer comes before those that it has.
    pub fn answer(&self, method: &'static str, path_end: &'static str, status: u16, body: Value) {
        self.answers.lock().expect("not poisoned").insert(0, (method, path_end, status, body));
    }

    /// The first request of a kind.
    pub fn request(&self, method: &str, path_end: &str) -> Recorded {
        self.requests(method, path_end).first().expect("it was asked").clone()
    }

    /// All requests of a kind.
    pub fn requests(&self, method: &str, path_end: &str) -> Vec<Recorded> {
        let recorded = self.recorded.lock().expect("not poisoned");
        let path = |r: &&Recorded| r.path.split('?').next().is_some_and(|path| path.ends_with(path_end));
        recorded.iter().filter(|r| r.method == method && path(r)).cloned().collect()
    }
}

async fn serve(mut stream: UnixStream, answers: Arc<Mutex<Answers>>, log: Arc<Mutex<Vec<Recorded>>>) {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|text| text.parse::<usize>().ok())
        .unwrap_or(0);
    while bytes.len() < head_end + length {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.expect("it is read");
        bytes.extend_from_slice(&chunk[..count]);
    }
    let line = String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned();
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let body = serde_json::from_slice(&bytes[head_end..]).unwrap_or(Value::Null);
    let plain_path = path.split('?').next().unwrap_or_default().to_owned();
    log.lock().expect("not poisoned").push(Recorded { method: method.clone(), path, body });
    let (status, body) = {
        let answers = answers.lock().expect("not poisoned");
        let found = answers.iter().find(|(m, end, ..)| *m == method && plain_path.ends_with(end));
        found.map_or((404, json!({ "message": "no such thing" })), |(.., status, body)| {
            (*status, body.clone())
        })
    };
    let text = if status == 204 { String::new() } else { body.to_string() };
    let answer = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}
