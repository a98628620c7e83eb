//! A plain HTTP/1.1 client: one request a connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The head, as sent.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads the body as JSON.
    ///
    /// # Panics
    /// Panics when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// Sends a request and reads the whole answer.
pub fn request(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let stream = TcpStream::connect(address).expect("the address is served");
    stream.set_read_timeout(Some(Duration::from_secs(90))).expect("a timeout can be set");
    exchange(stream, address, &format!("{method} {path}"), headers, body)
}

/// Posts JSON to a server that may be killed meanwhile; gives the answer if it came as a whole.
pub fn post_if_served(address: &str, path: &str, body: &Value) -> Option<Answer> {
    request_if_served(address, "POST", path, &[], body.to_string().as_bytes())
}

/// Sends a request to a server that may be out of reach; gives the answer if it came as a whole, JSON
/// and all.
pub fn request_if_served(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).ok()?;
    let whole = all.windows(4).any(|window| window == b"\r\n\r\n");
    let answer = whole.then(|| parse(&all))?;
    serde_json::from_slice::<Value>(&answer.body).is_ok().then_some(answer)
}

/// Sends a request to the Docker Engine's own API and reads the whole answer.
pub fn engine(method: &str, path: &str, body: &Value) -> Answer {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
    let stream = UnixStream::connect(socket).expect("the engine is served");
    stream.set_read_timeout(Some(Duration::from_secs(90))).expect("a timeout can be set");
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    exchange(stream, "docker", &format!("{method} {path}"), &[("Content-Type", "application/json")], &body)
}

fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut head = format!("{target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).expect("the head is sent");
    // A server may answer, and stop reading, before it has the whole body.
    let _ = stream.write_all(body);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    parse(&all)
}

fn parse(all: &[u8]) -> Answer {
    let end = all.windows(4).position(|window| window == b"\r\n\r\n").expect("the answer has a head");
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).expect("it has a status");
    let body = &all[end + 4..];
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Answer { status, body: if chunked { dechunk(body) } else { body.to_vec() }, head }
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..end]);
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk has a size");
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    body
}

/// Gets a path as JSON and expects success.
pub fn get(address: &str, path: &str) -> Value {
    let answer = request(address, "GET", path, &[], b"");
    assert_eq!(answer.status, 200, "GET {path}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// Posts JSON and expects success.
pub fn post(address: &str, path: &str, body: &Value) -> Value {
    let answer = request(address, "POST", path, &[], body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "POST {path}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}
