//! Says that a role is ready: one line on stdout, and `ready.json` in its folder for as long as that is so.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The file's name.
const FILE: &str = "ready.json";

/// What is said.
#[derive(Debug, Serialize)]
pub struct Ready<'a> {
    /// `scheduler`, `executor` or `dev`.
    pub role: &'a str,
    /// The role's name.
    pub id: &'a str,
    /// Where gRPC is served, host:port; empty for none.
    pub grpc: String,
    /// Where HTTP is served, host:port; empty for none.
    pub http: String,
    /// The process.
    pub pid: u32,
    /// The program's version.
    pub version: &'a str,
}

impl Ready<'_> {
    /// Says it. A file that cannot be written, or a closed stdout, does not stop the role.
    pub fn announce(&self, folder: &Path) {
        // The file first: whoever has read the line finds it.
        if let Err(error) = self.write(folder) {
            tracing::warn!(error = format!("{error:#}"), "readiness could not be written");
        }
        let line = format!(
            "ready role={} id={} grpc={} http={} pid={}\n",
            self.role, self.id, self.grpc, self.http, self.pid
        );
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    }

    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let (path, fresh) = (folder.join(FILE), folder.join("ready.json.new"));
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(&fresh, text + "\n")
            .with_context(|| format!("{} cannot be written", fresh.display()))?;
        // Renamed into place, so that a reader never sees half of it.
        std::fs::rename(&fresh, &path).with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Keeps a folder's `ready.json` from outliving the readiness it tells of.
#[derive(Debug)]
pub struct Notice {
    path: PathBuf,
}

impl Notice {
    /// Takes away what an earlier process has left. Another process that still runs keeps its own: a folder
    /// in use is refused later, by its lock.
    pub fn begin(folder: &Path) -> Self {
        let notice = Self { path: folder.join(FILE) };
        if notice.author().is_some_and(|pid| pid == std::process::id() || !is_berth(pid)) {
            notice.remove();
        }
        notice
    }

    /// The process that wrote it; 0 for one that nobody can read.
    fn author(&self) -> Option<u32> {
        #[derive(Deserialize)]
        struct Author {
            pid: u32,
        }
        let text = std::fs::read_to_string(&self.path).ok()?;
        Some(serde_json::from_str::<Author>(&text).map_or(0, |author| author.pid))
    }

    fn remove(&self) {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.path.display(), "an old file cannot be removed");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if self.author() == Some(std::process::id()) {
            self.remove();
        }
    }
}

/// Says whether a process runs, and runs a program of this one's name.
fn is_berth(pid: u32) -> bool {
    let name = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    name(&pid.to_string()).is_some_and(|running| Some(running) == name("self"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(pid: u32) -> Ready<'static> {
        Ready {
            role: "scheduler",
            id: "scheduler-1",
            grpc: "127.0.0.1:1".to_owned(),
            http: String::new(),
            pid,
            version: "1",
        }
    }

    #[test]
    fn readiness_is_told_for_as_long_as_it_lasts() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(FILE);
        // No process has this number: the kernel's own limit is lower.
        ready(u32::MAX).write(folder.path()).expect("is written");
        let notice = Notice::begin(folder.path());
        assert!(!file.exists(), "an earlier process has left it");
        ready(std::process::id()).write(folder.path()).expect("is written");
        drop(notice);
        assert!(!file.exists(), "nobody is ready any more");
    }

    #[test]
    fn what_another_process_wrote_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(FILE);
        let notice = Notice::begin(folder.path());
        ready(u32::MAX).write(folder.path()).expect("is written");
        drop(notice);
        assert!(file.exists(), "a process may only take away its own");
        std::fs::write(&file, "{").expect("is written");
        drop(Notice::begin(folder.path()));
        assert!(!file.exists(), "what cannot be read tells nothing");
    }
}
