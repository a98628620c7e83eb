//! What processes spend their time on: `perf` samples them while lives are counted, and its report is kept.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Samples a second.
const FREQUENCY: &str = "499";
/// Functions that take less of the time are left out, in percent.
const LEAST: &str = "0.5";

/// One process that is looked at.
pub struct Profile {
    name: &'static str,
    folder: PathBuf,
    recorder: Child,
}

impl Profile {
    /// Begins to look at a process, for so long.
    pub fn begin(folder: &Path, name: &'static str, pid: u32, lasting: Duration) -> Self {
        std::fs::create_dir_all(folder).expect("the folder can be made");
        let recorder = Command::new("perf")
            .args(["record", "--quiet", "--freq", FREQUENCY, "--pid", &pid.to_string(), "--output"])
            .arg(Self::data(folder, name))
            .args(["--", "sleep", &lasting.as_secs().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("perf is there (linux-perf)");
        Self { name, folder: folder.to_owned(), recorder }
    }

    fn data(folder: &Path, name: &str) -> PathBuf {
        folder.join(format!("{name}.data"))
    }

    /// Writes the report: functions by their share of the process's time.
    pub fn end(mut self) {
        assert!(self.recorder.wait().expect("perf ends").success(), "perf has recorded");
        let data = Self::data(&self.folder, self.name);
        let report = Command::new("perf")
            .args([
                "report",
                "--stdio",
                "--no-children",
                "-F",
                "overhead,sym",
                "--percent-limit",
                LEAST,
                "--input",
            ])
            .arg(&data)
            .output()
            .expect("perf is there");
        let text = String::from_utf8_lossy(&report.stdout);
        let rows: Vec<&str> = text.lines().map(str::trim_end).filter(|line| line.contains('%')).collect();
        assert!(!rows.is_empty(), "perf tells something: {}", String::from_utf8_lossy(&report.stderr));
        std::fs::write(self.folder.join(format!("{}.txt", self.name)), rows.join("\n") + "\n")
            .expect("the report can be written");
        std::fs::remove_file(data).expect("what was recorded can be removed");
    }
}
