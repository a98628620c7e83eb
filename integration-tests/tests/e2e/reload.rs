//! SCHEDULER_RELOAD: daemons become the new program in the same process and on the same ports, and
//! nobody notices but by the time a call takes.

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use berth_integration_tests::docker::{self, IMAGE};
use berth_integration_tests::process::Process;
use berth_integration_tests::redis::Redis;
use berth_integration_tests::tools;
use berth_integration_tests::wait::until;

/// A scheduler and an executor that run one program, which a test replaces.
struct Pair {
    program: PathBuf,
    name: String,
    scheduler: Process,
    executor: Process,
    address: String,
    http: String,
    _redis: Redis,
    _folder: tempfile::TempDir,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.executor.kill();
        docker::remove_containers(&self.name);
    }
}

impl Pair {
    fn start() -> Self {
        docker::require_image();
        let (folder, redis, name) = (tools::folder(), Redis::start(), tools::unique("test"));
        let program = folder.path().join("bin/berth");
        fs::create_dir(folder.path().join("bin")).expect("a folder can be made");
        by_rename(&program, &fs::read(tools::berth()).expect("the program can be read"));
        let data = |role: &str| folder.path().join(role).display().to_string();
        let mut command = Command::new(&program);
        command
            .args(["scheduler", "--cluster", &name, "--id", "scheduler-1", "--redis-url", &redis.url()])
            .args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .args(["--data-dir", &data("scheduler"), "--safety-interval", "1h"])
            .env("SCHEDULER_RELOAD", "1");
        let mut scheduler = Process::start("scheduler", &mut command);
        let ready = scheduler.line("ready role=scheduler");
        let field =
            |name: &str| ready.split(' ').find_map(|part| part.strip_prefix(name)).expect("it listens");
        let (address, http) = (field("grpc="), field("http="));
        let mut command = Command::new(&program);
        command
            .args(["executor", "--cluster", &name, "--schedulers", address])
            .args(["--data-dir", &data("executor"), "--safety-interval", "1h"])
            .env("EXECUTOR_ID", "executor-1")
            .env("SCHEDULER_RELOAD", "true");
        let mut executor = Process::start("executor", &mut command);
        executor.line("ready role=executor");
        let (address, http) = (address.to_owned(), http.to_owned());
        Self { program, name, scheduler, executor, address, http, _redis: redis, _folder: folder }
    }

    /// The lines by which both have said that they are ready, in order.
    fn ready(&self) -> (Vec<String>, Vec<String>) {
        let lines = |process: &Process| {
            let output = process.output();
            output.lines().filter(|line| line.starts_with("ready role=")).map(str::to_owned).collect()
        };
        (lines(&self.scheduler), lines(&self.executor))
    }

    /// Waits until both have started `count` times in all: same process, same name, same ports.
    fn started(&self, count: usize) {
        let (scheduler, executor) = until(&format!("both have started {count} times"), || {
            Some(self.ready())
                .filter(|(scheduler, executor)| scheduler.len() >= count && executor.len() >= count)
        });
        for lines in [scheduler, executor] {
            assert_eq!(lines.len(), count, "{lines:?}");
            assert!(
                lines.iter().all(|line| *line == lines[0]),
                "name, ports and pid are the same: {lines:?}"
            );
        }
    }

    /// Begins a request and does not end it, which keeps the scheduler from stopping at once.
    fn hold(&self) -> TcpStream {
        let mut held = TcpStream::connect(&self.http).expect("it listens");
        let beginning = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
        held.write_all(beginning).expect("it is sent");
        held
    }

    fn berth(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(tools::berth());
        command.args(arguments).env("BERTH_ADDR", &self.address);
        command
    }
}

/// Puts a program in place at once: written beside, then renamed.
fn by_rename(program: &Path, content: &[u8]) {
    let fresh = program.with_extension("new");
    fs::write(&fresh, content).expect("it can be written");
    fs::set_permissions(&fresh, Permissions::from_mode(0o755)).expect("it is ours");
    fs::rename(&fresh, program).expect("it can be renamed");
}

/// Puts a program in place piece by piece, under its own name, as `cp` does.
fn in_place(program: &Path, content: &[u8]) {
    fs::remove_file(program).expect("it is there");
    let mut file = fs::File::create(program).expect("it can be made");
    file.set_permissions(Permissions::from_mode(0o755)).expect("it is ours");
    for piece in content.chunks(1 << 20) {
        file.write_all(piece).expect("it can be written");
        file.sync_data().expect("it can be synced");
    }
}

/// Calls of a client, one after the other, until it is told to end.
struct Calls {
    end: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    caller: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl Calls {
    fn begin(pair: &Pair) -> Self {
        let (end, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let commands = [vec!["ps", "-a"], vec!["status"], vec!["run", "-d", "-m", "32m", IMAGE, "true"]];
        let mut commands: Vec<Command> = commands.iter().map(|arguments| pair.berth(arguments)).collect();
        let (is_over, count) = (end.clone(), made.clone());
        let caller = std::thread::spawn(move || {
            let mut failed = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                for command in &mut commands {
                    let output = command.output().expect("berth runs");
                    if !output.status.success() {
                        failed.push(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
            failed
        });
        Self { end, made, caller: Some(caller) }
    }

    /// Waits for some more calls, so that what was done before is seen by them.
    fn some_more(&self) {
        let before = self.made.load(Ordering::SeqCst);
        until("more calls are made", || (self.made.load(Ordering::SeqCst) >= before + 6).then_some(()));
    }

    fn failed(mut self) -> Vec<String> {
        self.end.store(true, Ordering::SeqCst);
        self.caller.take().expect("it runs").join().expect("no panic")
    }
}

#[test]
fn a_replaced_program_takes_over_and_neither_calls_nor_jobs_notice() {
    let mut pair = Pair::start();
    let program = fs::read(tools::berth()).expect("the program can be read");
    let script = "while ! [ -e /tmp/go ]; do sleep 0.1; done; echo came through; exit 7";
    let mut run = Process::start(
        "berth run",
        &mut pair.berth(&["run", "-m", "32m", "--network", "none", IMAGE, "sh", "-c", script]),
    );
    let said = run.line_with("berth: job ");
    let id = said.rsplit(' ').next().expect("a job is named").to_owned();
    until("it runs", || {
        let output = pair.berth(&["get", &id, "-o", "json"]).output().expect("berth runs");
        String::from_utf8_lossy(&output.stdout).contains("\"RUNNING\"").then_some(())
    });
    let containers = docker::containers_of(&id);
    assert_eq!(containers.len(), 1, "it has a container");
    let calls = Calls::begin(&pair);
    calls.some_more();

    by_rename(&pair.program, &program);
    pair.started(2);
    calls.some_more();
    in_place(&pair.program, &program);
    pair.started(3);
    calls.some_more();

    by_rename(&pair.program, b"#!/bin/sh\necho this is no program >&2\nexit 1\n");
    for process in [&mut pair.scheduler, &mut pair.executor] {
        let told = process.line_with("the new program does not run");
        assert!(told.contains("--version ended with exit status: 1"), "{told}");
    }
    calls.some_more();
    pair.started(3);
    by_rename(&pair.program, &program);
    pair.started(4);
    calls.some_more();
    assert_eq!(calls.failed(), [] as [String; 0], "every call succeeded");

    docker::let_go(&containers[0]);
    assert_eq!(run.ended(Duration::from_secs(60)), Some(7), "{}", run.output());
    assert_eq!(run.output().matches("came through").count(), 1, "{}", run.output());
    assert_eq!(docker::containers_of(&id), containers, "the job was started once");
    let released = pair.scheduler.output().matches("leader lock released").count();
    assert_eq!(released, 3, "the lock is given up before each restart");
    for process in [&mut pair.scheduler, &mut pair.executor] {
        assert_eq!(process.stop(), Some(0), "a daemon that was replaced still stops in order");
    }
}

#[test]
fn a_program_that_changes_once_more_during_the_stop_is_not_started_untried() {
    let mut pair = Pair::start();
    let program = fs::read(tools::berth()).expect("the program can be read");
    let calls = Calls::begin(&pair);
    let held = pair.hold();
    calls.some_more();
    by_rename(&pair.program, &program);
    pair.scheduler.line_with("the program has changed: restarting");
    by_rename(&pair.program, b"#!/bin/sh\nexit 1\n");
    drop(held);
    let told = pair.scheduler.line_with("the old program goes on");
    assert!(told.contains("it has changed again"), "{told}");
    pair.scheduler.line_with("the new program does not run");
    calls.some_more();
    assert_eq!(pair.ready().0.len(), 2, "the scheduler has started again");
    by_rename(&pair.program, &program);
    until("the good one is taken", || (pair.ready().0.len() == 3).then_some(()));
    calls.some_more();
    assert_eq!(calls.failed(), [] as [String; 0], "every call succeeded");
    let scheduler = pair.ready().0;
    assert!(scheduler.iter().all(|line| *line == scheduler[0]), "{scheduler:?}");
}

#[test]
fn a_daemon_that_is_told_to_end_while_it_restarts_ends() {
    let mut pair = Pair::start();
    let held = pair.hold();
    // An answer to a later request tells that the earlier one has arrived.
    berth_integration_tests::http::get(&pair.http, "/stats");
    by_rename(&pair.program, &fs::read(tools::berth()).expect("the program can be read"));
    pair.scheduler.line_with("the program has changed: restarting");
    pair.scheduler.signal("TERM");
    pair.scheduler.line_with("berth::daemon: stopping");
    drop(held);
    assert_eq!(pair.scheduler.ended(Duration::from_secs(30)), Some(0));
    assert_eq!(pair.ready().0.len(), 1, "it has not started again");
}

#[test]
fn without_the_variable_a_new_program_changes_nothing_and_a_wrong_word_is_refused() {
    let folder = tools::folder();
    let mut command = Command::new(tools::berth());
    command
        .args(["executor", "--runtime", "simulated", "--data-dir", &folder.path().display().to_string()])
        .env("SCHEDULER_RELOAD", "perhaps");
    let mut process = Process::start("executor", &mut command);
    assert_eq!(process.ended(Duration::from_secs(30)), Some(1));
    let told = process.line_with("SCHEDULER_RELOAD");
    assert_eq!(told, "error: SCHEDULER_RELOAD=\"perhaps\" is neither yes nor no: write 1 or 0");
    command.env("SCHEDULER_RELOAD", "0").env("BERTH_LOG", "info");
    let mut process = Process::start("executor", &mut command);
    process.line_with("executor starts");
    assert!(!process.output().contains("watching this program"), "{}", process.output());
    assert_eq!(process.stop(), Some(0));
}
