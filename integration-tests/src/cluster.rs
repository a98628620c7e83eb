//! A cluster of real processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::Process;
use crate::redis::Redis;
use crate::wait::{until, until_within};
use crate::{docker, http, tools};

/// A scheduler process.
pub struct Scheduler {
    /// The process.
    pub process: Process,
    /// Where its gRPC is.
    pub grpc: String,
    /// Where its REST is.
    pub http: String,
}

impl Scheduler {
    /// Starts one on a Redis, and waits until it is ready.
    pub fn start(cluster: &str, id: &str, redis: &Redis, folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(tools::berth());
        command.args(["scheduler", "--cluster", cluster, "--id", id]);
        let given = |flag: &str| arguments.contains(&flag);
        for (flag, value) in [
            ("--redis-url", redis.url().as_str()),
            ("--grpc-listen", "127.0.0.1:0"),
            ("--http-listen", "127.0.0.1:0"),
            ("--safety-interval", "1h"),
        ] {
            if !given(flag) {
                command.args([flag, value]);
            }
        }
        command.args(["--data-dir", &folder.join(id).display().to_string()]).args(arguments);
        let mut process = Process::start(id, &mut command);
        let ready = process.line("ready role=scheduler");
        Self { grpc: field(&ready, "grpc"), http: field(&ready, "http"), process }
    }
}

/// An executor process.
pub struct Executor {
    /// The process.
    pub process: Process,
    /// Its name.
    pub id: String,
    start: Start,
    _made: Option<tempfile::TempDir>,
}

impl Executor {
    /// Its data folder.
    pub fn folder(&self) -> &Path {
        &self.start.folder
    }
}

/// All that an executor's process is started with.
struct Start {
    id: String,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    under: Vec<String>,
    arguments: Vec<String>,
}

impl Start {
    fn begin(&self) -> Process {
        let mut words = self.under.clone();
        words.push(tools::berth().display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(&self.arguments).arg("--data-dir").arg(&self.folder);
        command.env("EXECUTOR_ID", &self.id).envs(self.environment.iter().map(|(k, v)| (k, v)));
        Process::start(&self.id, &mut command)
    }
}

/// How an executor is started where that is not the usual way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place<'a> {
    /// Addresses of schedulers; the first scheduler's where none are given.
    pub schedulers: Option<&'a str>,
    /// Its data folder; one of its own where none is given.
    pub folder: Option<&'a Path>,
    /// More variables.
    pub environment: &'a [(&'a str, &'a str)],
    /// A program, and its arguments, that runs it.
    pub under: &'a [&'a str],
}

/// A cluster: its Redis, its first scheduler, and its executors, with a name of its own.
pub struct Cluster {
    /// The name.
    pub name: String,
    /// The first scheduler.
    pub scheduler: Scheduler,
    /// The executors, in the order they were added.
    pub executors: Vec<Executor>,
    /// The Redis.
    pub redis: Redis,
    folder: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for executor in &mut self.executors {
            executor.process.kill();
        }
        docker::remove_containers(&self.name);
    }
}

/// What an executor has.
#[derive(Debug, Clone, Copy)]
pub struct Size<'a> {
    /// CPUs, as EXECUTOR_CPUS says them.
    pub cpus: &'a str,
    /// Memory, as EXECUTOR_MEMORY says it.
    pub memory: &'a str,
    /// GPUs, as EXECUTOR_GPUS says them; empty for none.
    pub gpus: &'a str,
}

impl Cluster {
    /// Starts Redis and one scheduler, whose safety pass never comes.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments for the scheduler.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_on(Redis::start(), arguments)
    }

    /// The same on a Redis that is there already.
    pub fn start_on(redis: Redis, arguments: &[&str]) -> Self {
        docker::require_image();
        let name = tools::unique("test");
        let folder = tools::folder();
        let scheduler = Scheduler::start(&name, "scheduler-1", &redis, folder.path(), arguments);
        Self { name, scheduler, executors: Vec::new(), redis, folder }
    }

    /// Starts another replica.
    pub fn another_scheduler(&self, id: &str, arguments: &[&str]) -> Scheduler {
        Scheduler::start(&self.name, id, &self.redis, self.folder.path(), arguments)
    }

    /// Adds an executor on the machine's Docker Engine and waits until it is ready.
    pub fn add_executor(&mut self, id: &str, size: Size<'_>, arguments: &[&str]) {
        let addresses = self.scheduler.grpc.clone();
        self.add_executor_at(&addresses, id, size, arguments);
    }

    /// The same, with schedulers at the given addresses.
    pub fn add_executor_at(&mut self, addresses: &str, id: &str, size: Size<'_>, arguments: &[&str]) {
        self.add_executor_in(Place { schedulers: Some(addresses), ..Place::default() }, id, size, arguments);
    }

    /// The same, in a place of its own.
    pub fn add_executor_in(&mut self, place: Place<'_>, id: &str, size: Size<'_>, arguments: &[&str]) {
        let mut executor = self.executor_in(place, id, size, arguments);
        executor.process.line("ready role=executor");
        self.executors.push(executor);
    }

    /// Starts an executor that is not waited for, and is not one of the cluster's own.
    pub fn executor_in(&self, place: Place<'_>, id: &str, size: Size<'_>, arguments: &[&str]) -> Executor {
        let (folder, made) = match place.folder {
            Some(folder) => (folder.to_owned(), None),
            None => {
                let made = tools::folder();
                (made.path().to_owned(), Some(made))
            }
        };
        let sizes =
            [("EXECUTOR_CPUS", size.cpus), ("EXECUTOR_MEMORY", size.memory), ("EXECUTOR_GPUS", size.gpus)];
        let sizes = sizes.into_iter().filter(|(_, value)| !value.is_empty());
        let addresses = place.schedulers.unwrap_or(&self.scheduler.grpc);
        let mut all =
            vec!["executor", "--schedulers", addresses, "--cluster", &self.name, "--safety-interval", "1h"];
        all.extend(arguments);
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
        let environment = sizes.chain(place.environment.iter().copied());
        let start = Start {
            id: id.to_owned(),
            folder,
            environment: environment.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            under: owned(place.under),
            arguments: owned(&all),
        };
        Executor { process: start.begin(), id: id.to_owned(), start, _made: made }
    }

    /// Kills an executor's process with SIGKILL and starts it again on the same folder.
    pub fn restart_executor(&mut self, index: usize) {
        self.start_executor(index);
        self.executors[index].process.line("ready role=executor");
    }

    /// The same, without a wait until it is registered.
    pub fn start_executor(&mut self, index: usize) {
        let executor = &mut self.executors[index];
        executor.process.kill();
        executor.process = executor.start.begin();
    }

    /// Stops the first scheduler and starts it again on the same ports' choice.
    pub fn restart_scheduler(&mut self, arguments: &[&str]) {
        let (grpc, http) = (self.scheduler.grpc.clone(), self.scheduler.http.clone());
        let mut all = vec!["--grpc-listen", &grpc, "--http-listen", &http];
        all.extend(arguments);
        self.scheduler = Scheduler::start(&self.name, "scheduler-1", &self.redis, self.folder.path(), &all);
    }

    /// Submits a job by REST; gives it as it was returned.
    pub fn submit(&self, body: &Value) -> Value {
        http::post(&self.scheduler.http, "/jobs", body)
    }

    /// Submits a shell line as a small job; gives its id.
    pub fn shell(&self, line: &str) -> String {
        id_of(&self.submit(&job(&["sh", "-c", line])))
    }

    /// Submits a job and waits until it runs; gives its id and its container.
    pub fn running(&self, body: &Value) -> (String, String) {
        let id = id_of(&self.submit(body));
        self.reaches(&id, &["RUNNING"]);
        let container = docker::containers_of(&id).pop().expect("a running job has a container");
        (id, container)
    }

    /// Reads a job by REST.
    pub fn job(&self, id: &str) -> Value {
        http::get(&self.scheduler.http, &format!("/jobs/{id}"))
    }

    /// Waits until a job is in one of the states, and gives it.
    pub fn reaches(&self, id: &str, states: &[&str]) -> Value {
        until(&format!("job {id} reaches {states:?}"), || self.in_state(id, states))
    }

    /// Waits until a job has ended, for as long as is said, and gives it.
    pub fn ended_within(&self, patience: Duration, id: &str) -> Value {
        let states = ["SUCCEEDED", "FAILED", "ABORTED"];
        until_within(patience, &format!("job {id} ends"), || self.in_state(id, &states))
    }

    /// Waits until a job has ended, and gives it.
    pub fn ended(&self, id: &str) -> Value {
        self.ended_within(crate::wait::PATIENCE, id)
    }

    fn in_state(&self, id: &str, states: &[&str]) -> Option<Value> {
        let answer = http::request(&self.scheduler.http, "GET", &format!("/jobs/{id}"), &[], b"");
        // While the store is away, there is no answer yet.
        if answer.status == 503 {
            return None;
        }
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let job = answer.json();
        job["state"].as_str().is_some_and(|state| states.contains(&state)).then_some(job)
    }

    /// Reads an executor by REST.
    pub fn executor(&self, id: &str) -> Value {
        let all = http::get(&self.scheduler.http, "/executors");
        let found = all["executors"].as_array().and_then(|list| list.iter().find(|e| e["id"] == id)).cloned();
        found.unwrap_or_else(|| panic!("executor {id} is listed: {all}"))
    }

    /// Runs a client command of `berth` against the first scheduler.
    pub fn berth(&self, arguments: &[&str]) -> Output {
        Command::new(tools::berth())
            .args(arguments)
            .env("BERTH_ADDR", &self.scheduler.grpc)
            .output()
            .expect("berth runs")
    }

    /// Runs a client command and expects success; gives what it prints.
    pub fn berth_ok(&self, arguments: &[&str]) -> String {
        let output = self.berth(arguments);
        assert!(
            output.status.success(),
            "berth {arguments:?}: {} {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A small job with a command.
pub fn job(command: &[&str]) -> Value {
    json!({ "image": docker::IMAGE, "command": command, "cpus": 0.1, "memory": "32Mi", "network": "none" })
}

/// The id of a job.
pub fn id_of(job: &Value) -> String {
    job["id"].as_str().unwrap_or_else(|| panic!("a job has an id: {job}")).to_owned()
}

/// Reads `name=value` from a ready line.
fn field(line: &str, name: &str) -> String {
    let value = line.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{line:?} names {name}")).to_owned()
}
