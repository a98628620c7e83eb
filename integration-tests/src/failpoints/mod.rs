//! Points at which a process can be made to die, or to pause: before and after each call of the store, of the
//! container engine, of the disk and of a connection, which is where scheduler and executor await.
//! Only the program `faulty` of the tests passes them, and the simulation.

mod disk;
mod engine;
mod store;

pub use disk::FaultyDisk;
pub use engine::{FaultyConnect, FaultyEngine};
pub use store::FaultyStore;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

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
    "store.executor",
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

/// What happens at an armed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// The process dies.
    Death,
    /// What passes goes on only after that time; all else in the process goes on meanwhile.
    Pause(Duration),
}

/// A point that is armed, for its given pass.
#[derive(Debug, Clone)]
struct Armed {
    site: String,
    passes_left: u32,
    harm: Harm,
}

/// The points of one process, of which one may be armed, and all may be held.
pub struct Points {
    armed: Mutex<Option<Armed>>,
    held: watch::Sender<bool>,
    /// Who passes pauses at the moment.
    pausing: AtomicUsize,
    die: Box<dyn Fn() + Send + Sync>,
}

impl Points {
    /// Arms nothing yet; `die` ends the process, now or soon: what passed the point goes no further.
    pub fn new(die: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            armed: Mutex::default(),
            held: watch::channel(false).0,
            pausing: AtomicUsize::new(0),
            die: Box::new(die),
        }
    }

    /// Arms what the environment names, of this very process.
    pub fn from_environment() -> Self {
        let points = Self::new(|| kill(Pid::this(), Signal::SIGKILL).expect("a process may kill itself"));
        let armed = std::env::var(VARIABLE).unwrap_or_default();
        let (site, pass) = armed.rsplit_once('@').unwrap_or((&armed, "1"));
        points.arm(site, pass.parse().expect("a number of passes"), Harm::Death);
        points
    }

    /// Arms a site, instead of any other, for its given pass from now on, counted from 1.
    pub fn arm(&self, site: &str, pass: u32, harm: Harm) {
        *self.armed() = Some(Armed { site: site.to_owned(), passes_left: pass, harm });
    }

    /// Lets nothing pass any point until it is let go: the process stands still, but for what it does between two.
    pub fn hold(&self, is_held: bool) {
        self.held.send_replace(is_held);
    }

    /// Arms nothing any more.
    pub fn disarm(&self) {
        *self.armed() = None;
    }

    /// Says whether anybody pauses at a point.
    pub fn is_pausing(&self) -> bool {
        self.pausing.load(Ordering::SeqCst) > 0
    }

    fn armed(&self) -> MutexGuard<'_, Option<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hit(&self, call: &str, side: &str) -> Option<Harm> {
        let mut armed = self.armed();
        let point = armed.as_mut()?;
        if point.site.strip_suffix(side).and_then(|rest| rest.strip_suffix('.')) != Some(call) {
            return None;
        }
        point.passes_left -= 1;
        if point.passes_left > 0 {
            return None;
        }
        armed.take().map(|point| point.harm)
    }

    /// Passes a point. At the armed one the process dies as if it had been killed from outside, or waits.
    pub async fn pass(&self, call: &str, side: &str) {
        match self.hit(call, side) {
            Some(Harm::Death) => {
                (self.die)();
                std::future::pending::<()>().await;
            }
            Some(Harm::Pause(lasts)) => {
                let _pause = Pause::begin(&self.pausing);
                tokio::time::sleep(lasts).await;
            }
            None => {}
        }
        if *self.held.borrow() {
            // Its sender lives as long as the points.
            let _ = self.held.subscribe().wait_for(|is_held| !is_held).await;
        }
    }
}

/// Counts one that pauses, for as long as it lives: it may be given up at any time.
struct Pause<'a>(&'a AtomicUsize);

impl<'a> Pause<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Calls its inner call between two points.
macro_rules! between {
    ($points:expr, $name:literal, $call:expr) => {{
        $points.pass($name, "before").await;
        let answer = $call.await;
        $points.pass($name, "after").await;
        answer
    }};
}
use between;
