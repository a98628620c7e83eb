//! What containers did: what their engines tell of them, and what they wrote into a file of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use berth_domain::ids::{AttemptRef, JobId};
use berth_integration_tests::history::Run;
use berth_integration_tests::process::Process;
use berth_integration_tests::wait::until;
use berth_integration_tests::{docker, tools};
use serde_json::Value;

use crate::neighbours;

/// Where a job writes that it began, and that it came to its end.
pub const FILE: &str = "/tmp/witness";
/// The code of an end that its engine called a success, and that the container did not come to.
const NOT_ITS_END: i32 = -1;

/// Listens to an engine, and asks containers.
pub struct Witness {
    cluster: String,
    host: Option<String>,
    events: PathBuf,
    listener: Process,
    folder: tempfile::TempDir,
    known: BTreeMap<String, Seen>,
    read_lines: usize,
}

/// What is known of a container.
#[derive(Debug, Default)]
struct Seen {
    run: Option<Run>,
    /// It was asked whether it came to its end.
    is_asked: bool,
    /// It said so.
    has_ended: Option<bool>,
}

/// What containers did, and how well it is known.
pub struct Account {
    /// Their runs.
    pub runs: Vec<Run>,
    /// Successes that their containers testified to.
    pub testified: usize,
    /// Those of which no testimony could be had.
    pub silent: usize,
}

impl Witness {
    /// Begins to listen to the machine's engine, or to another.
    pub fn begin(cluster: &str, host: Option<String>) -> Self {
        let folder = tools::folder();
        let events = folder.path().join("events");
        let listener = listen(cluster, host.as_deref(), &events, now_s());
        let (cluster, known) = (cluster.to_owned(), BTreeMap::new());
        Self { cluster, host, events, listener, folder, known, read_lines: 0 }
    }

    /// Begins again after the engine was away; what it told before is told once more.
    pub fn again(&mut self, since_s: u64) {
        self.listener.kill();
        self.listener = listen(&self.cluster, self.host.as_deref(), &self.events, since_s);
        self.look();
        self.look_after();
    }

    /// Asks after those whose end was not heard of: an engine that was killed does not tell it later.
    fn look_after(&mut self) {
        let open: Vec<String> =
            self.known.iter().filter(|(_, seen)| is_open(seen)).map(|(id, _)| id.clone()).collect();
        for id in open {
            let end = self.end_of(&id);
            if let Some(run) = self.known.get_mut(&id).and_then(|seen| seen.run.as_mut()) {
                run.ended = end;
            }
        }
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        let host: Vec<&str> = self.host.iter().flat_map(|host| ["-H", host.as_str()]).collect();
        docker::docker(&[&host[..], arguments].concat())
    }

    /// Reads what was told since, and asks those that ended well.
    pub fn look(&mut self) {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines: Vec<&str> = whole.lines().collect();
        for line in lines.iter().skip(self.read_lines) {
            if let Ok(event) = serde_json::from_str(line) {
                take(&mut self.known, &event);
            }
        }
        self.read_lines = lines.len();
        let ended_well = |seen: &Seen| {
            !seen.is_asked
                && seen.run.as_ref().is_some_and(|run| run.ended.is_some_and(|(_, code)| code == 0))
        };
        let to_ask: Vec<String> =
            self.known.iter().filter(|(_, seen)| ended_well(seen)).map(|(id, _)| id.clone()).collect();
        for id in to_ask {
            let answer = self.ask(&id);
            if let (Some(seen), Ok(answer)) = (self.known.get_mut(&id), answer) {
                (seen.is_asked, seen.has_ended) = (true, answer);
            }
        }
    }

    /// What a container wrote of itself; `None` where it is gone, an error where its engine is away.
    fn ask(&self, id: &str) -> Result<Option<bool>, ()> {
        let file = self.folder.path().join("witness");
        let output = self.docker(&["cp", &format!("{id}:{FILE}"), &file.display().to_string()]);
        if output.status.success() {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            return Ok(Some(text.lines().eq(["begin", "end"])));
        }
        let says = String::from_utf8_lossy(&output.stderr).to_ascii_lowercase();
        if says.contains("no such container") || says.contains("could not find the file") {
            Ok(None)
        } else {
            Err(())
        }
    }

    /// Ends: asks after those whose end was not heard of, and gives the account.
    pub fn account(mut self) -> Account {
        self.look();
        self.look_after();
        let mut account = Account { runs: Vec::new(), testified: 0, silent: 0 };
        for seen in self.known.into_values() {
            let Some(mut run) = seen.run else { continue };
            if let Some((at_ms, 0)) = run.ended {
                match seen.has_ended {
                    Some(true) => account.testified += 1,
                    Some(false) => run.ended = Some((at_ms, NOT_ITS_END)),
                    None => account.silent += 1,
                }
            }
            account.runs.push(run);
        }
        account
    }

    fn end_of(&self, id: &str) -> Option<(u64, i32)> {
        let output = self.docker(&["inspect", id]);
        let all: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let state = &all[0]["State"];
        if state["Running"] == true {
            return None;
        }
        let finished = state["FinishedAt"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let at_ms = finished.and_then(|at| u64::try_from(at.as_millisecond()).ok()).unwrap_or_default();
        let code = state["ExitCode"].as_i64().and_then(|code| i32::try_from(code).ok());
        // Of one that is gone nothing is known but that it does not run.
        Some((at_ms, code.unwrap_or(NOT_ITS_END)))
    }
}

fn is_open(seen: &Seen) -> bool {
    seen.run.as_ref().is_some_and(|run| run.ended.is_none())
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

fn listen(cluster: &str, host: Option<&str>, to: &std::path::Path, since_s: u64) -> Process {
    let host = host.map(|host| format!("-H {host} ")).unwrap_or_default();
    // The stream goes to a file, so that no event is lost to a bounded buffer.
    let script = format!(
        "exec docker {host}events --since {since_s} --filter label=berth.cluster={cluster} --filter label=berth.job \
         --filter event=start --filter event=die --format '{{{{json .}}}}' >> {}",
        to.display()
    );
    let listener = Process::start("docker events", Command::new("sh").args(["-c", &script]));
    until("docker events listens", || to.exists().then_some(()));
    listener
}

/// Takes an event, which may be told twice.
fn take(known: &mut BTreeMap<String, Seen>, event: &Value) {
    let attributes = &event["Actor"]["Attributes"];
    let text = |name: &str| attributes[name].as_str().unwrap_or_default();
    let (Some(id), Some(nanos)) = (event["id"].as_str(), event["timeNano"].as_u64()) else { return };
    let seen = known.entry(id.to_owned()).or_default();
    let at_ms = nanos / 1_000_000;
    match event["Action"].as_str() {
        Some("start") if seen.run.is_none() && text("berth.job") != neighbours::JOB => {
            let number = |name: &str| text(name).parse::<u64>().unwrap_or_default();
            let attempt = AttemptRef {
                job: JobId::trusted(text("berth.job")),
                number: u32::try_from(number("berth.attempt")).unwrap_or_default(),
                epoch: number("berth.epoch"),
            };
            let executor = text("berth.executor").to_owned();
            seen.run = Some(Run { attempt, executor, started_ms: at_ms, ended: None });
        }
        Some("die") => {
            let code = text("exitCode").parse().unwrap_or(NOT_ITS_END);
            if let Some(run) = seen.run.as_mut().filter(|run| run.ended.is_none()) {
                run.ended = Some((at_ms, code));
            }
        }
        _ => {}
    }
}
