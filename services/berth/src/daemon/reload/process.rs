//! This process: which program it runs, what it listens on, and how it becomes the next one.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use notify::{RecursiveMode, Watcher};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::heritage::{self, Heritage};
use super::program::{Fingerprint, replaced};
use super::setting;
use crate::{failure, output};

/// How long an address of before may take to become free.
const SAME_ADDRESS: Duration = Duration::from_secs(10);
/// The wait between two tries to listen on it.
const AGAIN: Duration = Duration::from_millis(50);
/// This process's own program, even when its file is gone.
const RUNNING: &str = "/proc/self/exe";

/// What is known of this process. Locked for moments only.
#[derive(Debug, Default)]
struct State {
    program: PathBuf,
    /// The program to become.
    next: Option<Fingerprint>,
    /// Somebody wants the process to end.
    forgotten: bool,
    listening: BTreeMap<String, SocketAddr>,
}

fn state() -> MutexGuard<'static, State> {
    static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the program before this one left in the process.
fn inherited() -> Option<&'static Heritage> {
    static HERITAGE: OnceLock<Option<Heritage>> = OnceLock::new();
    HERITAGE.get_or_init(|| Heritage::of_value(&std::env::var(heritage::VARIABLE).ok()?)).as_ref()
}

/// Where SCHEDULER_RELOAD asks for it, watches the program's file and cancels `stop` once it has
/// been replaced by one that runs.
///
/// # Errors
/// Fails when the variable is neither yes nor no, or the program's folder cannot be watched.
pub fn watch(stop: &CancellationToken) -> anyhow::Result<()> {
    if !setting::is_on(std::env::var(setting::VARIABLE).ok().as_deref())? {
        return Ok(());
    }
    let (program, running) = match inherited() {
        Some(heritage) => (heritage.path.clone(), heritage.program.clone()),
        None => {
            let program = own_path().context("this program's own file is not known")?;
            // What runs, not what has its name: that may have been replaced since the start.
            let running = Fingerprint::of(Path::new(RUNNING)).context("this program cannot be looked at")?;
            (program, running)
        }
    };
    let woken = Arc::new(Notify::new());
    let watcher = watcher(&program, woken.clone())
        .with_context(|| format!("the folder of {} cannot be watched", program.display()))?;
    state().program.clone_from(&program);
    tracing::info!(program = %program.display(), "watching this program: a new one takes its place");
    let stop = stop.clone();
    tokio::spawn(async move {
        // It watches for as long as it lives.
        let _watcher = watcher;
        let found = replaced(&program, &running, &woken).await;
        tracing::info!(program = %program.display(), "the program has changed: restarting");
        state().next = Some(found);
        stop.cancel();
    });
    Ok(())
}

/// Watches the folder, since a file that is replaced by rename is another one.
fn watcher(program: &Path, woken: Arc<Notify>) -> anyhow::Result<notify::RecommendedWatcher> {
    let folder = program.parent().context("it lies in no folder")?.to_path_buf();
    let name = program.file_name().map(ToOwned::to_owned);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An event that cannot be read may have been the one.
        let relevant = event.map_or(true, |event| {
            event.need_rescan() || event.paths.iter().any(|path| path.file_name() == name.as_deref())
        });
        if relevant {
            woken.notify_one();
        }
    })?;
    watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// The path of this program; Linux marks that of a file which is gone.
fn own_path() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.into_os_string().into_vec();
    let plain = path.strip_suffix(b" (deleted)").unwrap_or(&path);
    // What is left to the next program is text.
    let plain = std::str::from_utf8(plain).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok(PathBuf::from(plain))
}

/// Gives up a restart that is under way: the process is to end.
pub fn forget() {
    state().forgotten = true;
}

/// Listens on an address, for a flag. Where the program before this one listened for the same flag
/// on a port that was left open, that port is taken again, as soon as it is free.
///
/// # Errors
/// Fails as the system does.
pub async fn bind(flag: &str, address: SocketAddr) -> io::Result<TcpListener> {
    let before = inherited().and_then(|heritage| heritage.address(flag, address));
    let give_up = Instant::now() + if before.is_some() { SAME_ADDRESS } else { Duration::ZERO };
    let listener = loop {
        match TcpListener::bind(before.unwrap_or(address)).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < give_up => {
                tokio::time::sleep(AGAIN).await;
            }
            outcome => break outcome?,
        }
    };
    state().listening.insert(flag.to_owned(), listener.local_addr()?);
    Ok(listener)
}

/// Becomes the new program, where there is one: same process, arguments and environment. It comes
/// back only when there is none, or none can be started. How this program ended is then passed on.
pub fn exec_if_changed(outcome: anyhow::Result<u8>) -> anyhow::Result<u8> {
    let (program, next, listening) = {
        let mut state = state();
        match state.next.take() {
            Some(next) if !state.forgotten => {
                (state.program.clone(), next, std::mem::take(&mut state.listening))
            }
            Some(_) | None => return outcome,
        }
    };
    if let Err(error) = &outcome {
        failure::report(error);
    }
    let shown = program.display().to_string();
    // Only what was tried out is started. The old program, started again, tries out what is there now.
    let was_tried = Fingerprint::of(&program).is_ok_and(|now| now == next);
    let value = Heritage::new(program.clone(), next, listening).to_value()?;
    let reason =
        if was_tried { exec(&program, &value).to_string() } else { "it has changed again".to_owned() };
    output::note(format!("berth: {shown} is not started ({reason}); the old program goes on"));
    Err(exec(Path::new(RUNNING), &value)).context("this program cannot be started again")
}

/// Becomes a program; comes back with the error when that fails.
fn exec(program: &Path, heritage: &str) -> io::Error {
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env(heritage::VARIABLE, heritage).exec()
}
