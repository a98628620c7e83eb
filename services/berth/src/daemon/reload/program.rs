//! The program's file: whether it is another, whether it is whole, whether it runs.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::sync::Notify;

use super::{heritage, setting};

/// A file that does not change for so long is taken to be whole.
const QUIET: Duration = Duration::from_millis(300);
/// The wait while somebody still writes to it.
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// How long a program may take to say its version.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified_ns: i128,
}

impl Fingerprint {
    /// Looks at a file.
    ///
    /// # Errors
    /// Fails as the look does, for example as there is no file.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            size_bytes: meta.size(),
            modified_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        })
    }

    /// Makes one up.
    #[cfg(test)]
    pub(super) fn of_parts(device: u64, inode: u64, size_bytes: u64, modified_ns: i128) -> Self {
        Self { device, inode, size_bytes, modified_ns }
    }
}

/// Waits until the file is a whole program that runs, and is not the one that `running` stands for.
/// `woken` is told whenever something happens to the file. What does not run is told, and waited out.
pub(super) async fn replaced(path: &Path, running: &Fingerprint, woken: &Notify) -> Fingerprint {
    let mut refused = None;
    loop {
        let found = settled(path).await;
        let Some(found) = found.filter(|found| found != running && refused.as_ref() != Some(found)) else {
            woken.notified().await;
            continue;
        };
        match try_out(path).await {
            // What was tried must be what is started.
            Ok(()) if Fingerprint::of(path).is_ok_and(|now| now == found) => return found,
            Ok(()) => {}
            Err(Flaw::Busy) => tokio::time::sleep(BUSY_WAIT).await,
            Err(Flaw::Broken(reason)) => {
                let program = path.display();
                tracing::warn!(%program, %reason, "the new program does not run: the old one goes on");
                refused = Some(found);
            }
        }
    }
}

/// Waits until the file is left alone; `None` when it is not there then.
async fn settled(path: &Path) -> Option<Fingerprint> {
    let mut last = Fingerprint::of(path).ok();
    loop {
        tokio::time::sleep(QUIET).await;
        let now = Fingerprint::of(path).ok();
        if now == last {
            return now;
        }
        last = now;
    }
}

/// Why a program cannot be started.
#[derive(Debug, PartialEq, Eq)]
enum Flaw {
    /// Somebody writes to it.
    Busy,
    /// It does not run as it should.
    Broken(String),
}

/// Lets the program say its version, and read this process's arguments: with `--help` after them, it
/// refuses what it does not know and starts nothing.
async fn try_out(path: &Path) -> Result<(), Flaw> {
    let version = trial(path, "--version", &[]).await?;
    if !version.stdout.starts_with(b"berth ") {
        return Err(Flaw::Broken("--version does not say that it is berth".to_owned()));
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    trial(path, "--help", &arguments).await.map(drop)
}

/// Runs the program once, to its end.
async fn trial(path: &Path, flag: &str, arguments: &[OsString]) -> Result<Output, Flaw> {
    let mut command = Command::new(path);
    command
        .args(arguments)
        .arg(flag)
        .env_remove(setting::VARIABLE)
        .env_remove(heritage::VARIABLE)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match tokio::time::timeout(TRIAL_LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == ErrorKind::ExecutableFileBusy => return Err(Flaw::Busy),
        Ok(Err(error)) => return Err(Flaw::Broken(error.to_string())),
        Err(_) => return Err(Flaw::Broken(format!("{flag} took longer than {} s", TRIAL_LIMIT.as_secs()))),
    };
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
    Err(Flaw::Broken(format!("{flag} ended with {}{said}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::Arc;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("berth-reload-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).expect("a folder can be made");
            Self(path)
        }

        /// Puts a script in place by rename.
        fn put(&self, script: &str) -> PathBuf {
            let (path, fresh) = (self.0.join("berth"), self.0.join("berth.new"));
            fs::write(&fresh, script).expect("it can be written");
            fs::set_permissions(&fresh, Permissions::from_mode(0o755)).expect("it is ours");
            fs::rename(&fresh, &path).expect("it can be renamed");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Tries a program that nobody writes to. For a moment, a process that another test starts has
    /// every file open that this one has.
    async fn tried(path: &Path) -> Result<(), Flaw> {
        loop {
            match try_out(path).await {
                Err(Flaw::Busy) => tokio::task::yield_now().await,
                outcome => return outcome,
            }
        }
    }

    const GOOD: &str = "#!/bin/sh\necho berth 1.0\n";

    #[tokio::test]
    async fn a_program_is_tried_before_it_is_believed() {
        let folder = Folder::new();
        assert_eq!(tried(&folder.put(GOOD)).await, Ok(()));
        for (script, reason) in [
            ("#!/bin/sh\nexit 3\n", "--version ended with exit status: 3"),
            (
                "#!/bin/sh\necho berth 1.0\nfor last; do :; done\n[ \"$last\" = --version ] || { echo no such flag >&2; exit 2; }\n",
                "--help ended with exit status: 2: no such flag",
            ),
            ("#!/bin/sh\necho other 1.0\n", "--version does not say that it is berth"),
            ("\u{7f}ELF", "Exec format error (os error 8)"),
        ] {
            assert_eq!(tried(&folder.put(script)).await, Err(Flaw::Broken(reason.to_owned())));
        }
        let writing = folder.0.join("writing");
        fs::copy("/bin/true", &writing).expect("it can be copied");
        let _open = fs::OpenOptions::new().append(true).open(&writing).expect("it can be written");
        assert_eq!(try_out(&writing).await, Err(Flaw::Busy));
    }

    #[tokio::test]
    async fn a_broken_program_is_waited_out_and_a_good_one_taken() {
        let folder = Folder::new();
        let path = folder.put(GOOD);
        let (running, woken) = (Fingerprint::of(&path).expect("it is there"), Arc::new(Notify::new()));
        let waiting = tokio::spawn({
            let (path, running, woken) = (path.clone(), running.clone(), woken.clone());
            async move { replaced(&path, &running, &woken).await }
        });
        let mark = folder.0.join("mark");
        folder.put(&format!("#!/bin/sh\ntouch {}\nexit 1\n", mark.display()));
        woken.notify_one();
        while !mark.exists() {
            assert!(!waiting.is_finished(), "nothing good is there yet");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fs::remove_file(&path).expect("it is there");
        woken.notify_one();
        folder.put("#!/bin/sh\necho berth 2.0\n");
        woken.notify_one();
        let found = tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("in time");
        let good = Fingerprint::of(&path).expect("it is there");
        assert_eq!(found.expect("no panic"), good);
        assert_ne!(good, running);
    }
}
