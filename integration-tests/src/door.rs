//! A way to a TCP server that a test can cut, hold up in either direction, let lose answers, and point
//! at another server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often what is held up looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A listener of a test's own behind which a server is.
pub struct Door {
    address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    target: Mutex<String>,
    closed: AtomicBool,
    held_up: AtomicBool,
    held_down: AtomicBool,
    lose_every: AtomicUsize,
    answers: AtomicUsize,
    lost: AtomicUsize,
    carried: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Door {
    /// Opens a way to a server, host:port.
    pub fn before(target: &str) -> Self {
        Self::on("127.0.0.1", target)
    }

    /// The same, on another of the machine's addresses.
    pub fn on(address: &str, target: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it has an address").to_string();
        let state = Arc::new(State { target: Mutex::new(target.to_owned()), ..State::default() });
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                serve(client, &shared);
            }
        });
        Self { address, state }
    }

    /// Where it is, host:port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts every connection, and every later one at once, until it is opened.
    pub fn cut(&self) {
        self.state.closed.store(true, Ordering::SeqCst);
        self.break_all();
    }

    /// Holds up what goes to the server, what comes from it, or both. Nothing is lost, and no connection
    /// is broken: each side hears nothing more of the other.
    pub fn hold(&self, up: bool, down: bool) {
        self.state.held_up.store(up, Ordering::SeqCst);
        self.state.held_down.store(down, Ordering::SeqCst);
    }

    /// Lets everything through again.
    pub fn open(&self) {
        self.state.closed.store(false, Ordering::SeqCst);
        self.state.lose_every.store(0, Ordering::SeqCst);
        self.hold(false, false);
    }

    /// Swallows every so many answers, and breaks the connections they came on.
    pub fn lose_every(&self, count: usize) {
        self.state.lose_every.store(count, Ordering::SeqCst);
    }

    /// How many answers were swallowed.
    pub fn lost(&self) -> usize {
        self.state.lost.load(Ordering::SeqCst)
    }

    /// How many pieces went through, either way.
    pub fn carried(&self) -> usize {
        self.state.carried.load(Ordering::SeqCst)
    }

    /// Leads to another server from now on; connections to the one before are broken.
    pub fn point_at(&self, target: &str) {
        target.clone_into(&mut lock(&self.state.target));
        self.break_all();
    }

    fn break_all(&self) {
        for stream in lock(&self.state.open).drain(..) {
            // One that was closed already is as good as broken.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.cut();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(client: TcpStream, state: &Arc<State>) {
    let target = lock(&state.target).clone();
    if state.closed.load(Ordering::SeqCst) {
        return;
    }
    let Ok(server) = TcpStream::connect(target) else { return };
    for stream in [&client, &server] {
        // What is sent in pieces must not wait for each other.
        let _ = stream.set_nodelay(true);
    }
    let pairs =
        [(client.try_clone(), server.try_clone(), true), (server.try_clone(), client.try_clone(), false)];
    for (from, to, up) in pairs {
        let (Ok(from), Ok(to)) = (from, to) else { return };
        let state = state.clone();
        std::thread::spawn(move || copy(from, to, up, &state));
    }
    lock(&state.open).extend([client, server]);
}

fn copy(mut from: TcpStream, mut to: TcpStream, up: bool, state: &State) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let held = if up { &state.held_up } else { &state.held_down };
        while held.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK_EVERY);
        }
        if !up && is_lost(state) {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        state.carried.fetch_add(1, Ordering::SeqCst);
    }
    let _ = to.shutdown(if up { Shutdown::Write } else { Shutdown::Both });
}

fn is_lost(state: &State) -> bool {
    let every = state.lose_every.load(Ordering::SeqCst);
    let lost = every > 0 && (state.answers.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(every);
    if lost {
        state.lost.fetch_add(1, Ordering::SeqCst);
    }
    lost
}
