//! Points at which a process can be made to die: before and after each call of the store, of the
//! container engine, of the disk and of a connection, which is where scheduler and executor await.
//! Only the program `faulty` of the tests passes them.

use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Names the armed point: SITE or SITE@N for its Nth pass.
pub const VARIABLE: &str = "FAULTY";

/// Calls of the store, by a scheduler.
pub const STORE: &[&str] = &[
    "store.commit",
    "store.meta",
    "store.jobs",
    "store.specs",
    "store.page",
    "store.executors",
    "store.head",
    "store.changes",
    "store.renew_leases",
    "store.acquire_lock",
    "store.renew_lock",
    "store.release_lock",
    "store.announce_scheduler",
    "store.schedulers",
];
/// Calls of the container engine, by an executor.
pub const ENGINE: &[&str] = &[
    "engine.list",
    "engine.ping",
    "engine.images",
    "engine.create",
    "engine.start",
    "engine.wait",
    "engine.inspect",
    "engine.signal",
    "engine.remove",
    "engine.logs",
];
/// Calls of the disk, by an executor.
pub const DISK: &[&str] = &[
    "disk.lock",
    "disk.read",
    "disk.read_at",
    "disk.write_atomic",
    "disk.append",
    "disk.rename",
    "disk.list",
];
/// Connections to schedulers, by an executor.
pub const CONNECTION: &[&str] = &["connection.connect"];

/// The points of some calls: before and after each.
pub fn sites(calls: &[&str]) -> Vec<String> {
    calls.iter().flat_map(|call| [format!("{call}.before"), format!("{call}.after")]).collect()
}

/// The points of one process, of which one may be armed.
#[derive(Debug)]
pub struct Points {
    armed: String,
    passes_left: AtomicU32,
}

impl Points {
    /// Arms what the environment names.
    pub fn from_environment() -> Self {
        let armed = std::env::var(VARIABLE).unwrap_or_default();
        let (site, pass) = armed.rsplit_once('@').unwrap_or((&armed, "1"));
        let passes_left = AtomicU32::new(pass.parse().expect("a number of passes"));
        Self { armed: site.to_owned(), passes_left }
    }

    /// Passes a point. At the armed one the process dies as if it had been killed from outside.
    pub async fn pass(&self, call: &str, side: &str) {
        let is_armed = self.armed.strip_suffix(side).and_then(|rest| rest.strip_suffix('.')) == Some(call);
        if is_armed && self.passes_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            kill(Pid::this(), Signal::SIGKILL).expect("a process may kill itself");
            std::future::pending::<()>().await;
        }
    }
}
