//! Says that a role is ready: one line on stdout, and `ready.json` in its folder.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

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
    /// Says it.
    ///
    /// # Errors
    /// Fails when the file cannot be written; a closed stdout is no error.
    pub fn announce(&self, folder: &Path) -> anyhow::Result<()> {
        let (path, fresh) = (folder.join("ready.json"), folder.join("ready.json.new"));
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(&fresh, text + "\n")
            .with_context(|| format!("{} cannot be written", fresh.display()))?;
        // Renamed into place, so that a reader never sees half of it.
        std::fs::rename(&fresh, &path).with_context(|| format!("{} cannot be written", path.display()))?;
        let line = format!(
            "ready role={} id={} grpc={} http={} pid={}\n",
            self.role, self.id, self.grpc, self.http, self.pid
        );
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
        Ok(())
    }
}
