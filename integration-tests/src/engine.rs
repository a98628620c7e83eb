//! A way to the machine's Docker Engine that a test can close and open again, and that tells which calls went through.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Methods of the engine's API.
const METHODS: [&[u8]; 4] = [b"GET ", b"POST ", b"PUT ", b"DELETE "];

/// A call of the engine.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method and path.
    pub line: String,
    /// When it was sent.
    pub sent: Instant,
    /// When its answer began to come; `None` until it has.
    pub answered: Option<Instant>,
}

/// Shared by all connections.
#[derive(Default)]
struct Passed {
    open: Mutex<Vec<UnixStream>>,
    calls: Mutex<Vec<Call>>,
}

/// A socket of a test's own behind which the engine is.
pub struct EngineDoor {
    path: PathBuf,
    closed: Arc<AtomicBool>,
    passed: Arc<Passed>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl EngineDoor {
    /// Opens a socket at a path.
    pub fn open(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket can be made");
        let (closed, passed) = (Arc::new(AtomicBool::new(false)), Arc::new(Passed::default()));
        let (is_closed, shared) = (closed.clone(), passed.clone());
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_closed.load(Ordering::SeqCst) {
                    return;
                }
                serve(client, &shared);
            }
        });
        Self { path: path.to_owned(), closed, passed, accepting: Some(accepting) }
    }

    /// Gives the calls since it was last asked, those without an answer too.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut lock(&self.passed.calls))
    }

    /// Closes the socket and cuts every connection; the file stays, as it does when an engine is killed.
    pub fn close(mut self) {
        self.shut();
    }

    fn shut(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then lets its listener go.
        let _ = UnixStream::connect(&self.path);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in lock(&self.passed.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for EngineDoor {
    fn drop(&mut self) {
        self.shut();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(client: UnixStream, passed: &Arc<Passed>) {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
    let Ok(engine) = UnixStream::connect(socket) else { return };
    let ways = [(client.try_clone(), engine.try_clone()), (engine.try_clone(), client.try_clone())];
    let [(Ok(from), Ok(to)), (Ok(back_from), Ok(back_to))] = ways else { return };
    // A connection has one call at a time, so whatever comes back answers the newest.
    let newest = Arc::new(Mutex::new(None));
    let (asked, shared) = (newest.clone(), passed.clone());
    std::thread::spawn(move || {
        copy(from, to, |piece| {
            if let Some(sent) = note(piece, &shared) {
                *lock(&asked) = Some(sent);
            }
        });
    });
    let shared = passed.clone();
    std::thread::spawn(move || {
        copy(back_from, back_to, |_| {
            let Some(sent) = lock(&newest).take() else { return };
            let mut calls = lock(&shared.calls);
            if let Some(call) = calls.iter_mut().rev().find(|call| call.sent == sent) {
                call.answered = Some(Instant::now());
            }
        });
    });
    lock(&passed.open).extend([client, engine]);
}

/// Notes a call, if a piece begins one; gives when it was sent, by which it is found again.
fn note(piece: &[u8], passed: &Passed) -> Option<Instant> {
    if !METHODS.iter().any(|method| piece.starts_with(method)) {
        return None;
    }
    let line = piece.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).trim_end_matches(" HTTP/1.1").to_owned();
    let sent = Instant::now();
    lock(&passed.calls).push(Call { line, sent, answered: None });
    Some(sent)
}

fn copy(mut from: UnixStream, mut to: UnixStream, sees: impl Fn(&[u8])) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        sees(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
