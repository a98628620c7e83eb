//! A way to the machine's Docker Engine that a test can close and open again.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A socket of a test's own behind which the engine is.
pub struct EngineDoor {
    path: PathBuf,
    closed: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<UnixStream>>>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl EngineDoor {
    /// Opens a socket at a path.
    pub fn open(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket can be made");
        let (closed, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (is_closed, streams) = (closed.clone(), open.clone());
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_closed.load(Ordering::SeqCst) {
                    return;
                }
                serve(client, &streams);
            }
        });
        Self { path: path.to_owned(), closed, open, accepting: Some(accepting) }
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
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for EngineDoor {
    fn drop(&mut self) {
        self.shut();
    }
}

fn serve(client: UnixStream, open: &Mutex<Vec<UnixStream>>) {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
    let Ok(engine) = UnixStream::connect(socket) else { return };
    let pairs = [(client.try_clone(), engine.try_clone()), (engine.try_clone(), client.try_clone())];
    for (from, to) in pairs {
        let (Ok(from), Ok(to)) = (from, to) else { return };
        std::thread::spawn(move || copy(from, to));
    }
    open.lock().unwrap_or_else(PoisonError::into_inner).extend([client, engine]);
}

fn copy(mut from: UnixStream, mut to: UnixStream) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
