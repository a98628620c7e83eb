//! A child process whose output is kept, and that does not outlive its test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{until, until_within};

/// The last bytes of output that are kept.
const KEPT_BYTES: usize = 256 * 1024;

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a program; its stdout and stderr are kept together.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} starts: {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            keep(child.stdout.take().expect("stdout is piped"), output.clone()),
            keep(child.stderr.take().expect("stderr is piped"), output.clone()),
        ];
        Self { name: name.to_owned(), child, output, readers }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that begins with a text, and gives it.
    pub fn line(&mut self, beginning: &str) -> String {
        self.first_line(beginning, |line| line.starts_with(beginning))
    }

    /// Waits for a line that has a text in it, and gives it.
    pub fn line_with(&mut self, part: &str) -> String {
        self.first_line(part, |line| line.contains(part))
    }

    fn first_line(&mut self, wanted: &str, fits: impl Fn(&str) -> bool) -> String {
        let find = |text: &str| text.lines().find(|line| fits(line)).map(str::to_owned);
        let what = format!("{} says {wanted:?}", self.name);
        let output = self.output.clone();
        let (name, child, readers) = (&self.name, &mut self.child, &self.readers);
        until(&what, || {
            // Asked first: what it wrote before its end is read to the last line then.
            let is_read = readers.iter().all(JoinHandle::is_finished);
            let text = output.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let line = find(&text);
            if line.is_none()
                && is_read
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("{name} ended with {status}:\n{text}");
            }
            line
        })
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        // One that has ended already is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits for its end; gives its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.ended(Duration::from_secs(30))
    }

    /// Sends a signal by name.
    pub fn signal(&self, signal: &str) {
        let signal: Signal = format!("SIG{signal}").parse().expect("a signal's name");
        let pid = Pid::from_raw(self.pid().try_into().expect("a process id"));
        kill(pid, signal).unwrap_or_else(|error| panic!("{} can be signalled: {error}", self.name));
    }

    /// Says whether it has ended; if so with its exit code, which one that was killed has not.
    pub fn has_ended(&mut self) -> Option<Option<i32>> {
        let status = self.child.try_wait().expect("a child can be waited for");
        status.map(|status| status.code())
    }

    /// Sends a signal by name, unless it has ended.
    pub fn signal_if_there(&mut self, signal: &str) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(signal);
        }
    }

    /// Waits for its end; gives its exit code.
    pub fn ended(&mut self, patience: Duration) -> Option<i32> {
        let what = format!("{} ends", self.name);
        let child = &mut self.child;
        until_within(patience, &what, || child.try_wait().expect("a child can be waited for")).code()
    }
}

fn keep(stream: impl Read + Send + 'static, output: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut kept = output.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_str(&line);
            kept.push('\n');
            if kept.len() > KEPT_BYTES {
                let mut cut = kept.len() - KEPT_BYTES / 2;
                while !kept.is_char_boundary(cut) {
                    cut += 1;
                }
                kept.replace_range(..cut, "");
            }
        }
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.output());
        }
    }
}
