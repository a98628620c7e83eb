//! A cluster of real processes.

use std::path::Path;
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

/// An executor process.
pub struct Executor {
    /// The process.
    pub process: Process,
    /// Its name.
    pub id: String,
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Executor {
    /// Its data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
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
        docker::require_image();
        let name = tools::unique("test");
        let redis = Redis::start();
        let folder = tools::folder();
        let scheduler = scheduler(&name, "scheduler-1", &redis, folder.path(), arguments);
        Self { name, scheduler, executors: Vec::new(), redis, folder }
    }

    /// Starts another replica.
    pub fn another_scheduler(&self, id: &str, arguments: &[&str]) -> Scheduler {
        scheduler(&self.name, id, &self.redis, self.folder.path(), arguments)
    }

    /// Adds an executor on the machine's Docker Engine and waits until it is ready.
    pub fn add_executor(&mut self, id: &str, size: Size<'_>, arguments: &[&str]) {
        let addresses = self.scheduler.grpc.clone();
        self.add_executor_at(&addresses, id, size, arguments);
    }

    /// The same, with schedulers at the given addresses.
    pub fn add_executor_at(&mut self, addresses: &str, id: &str, size: Size<'_>, arguments: &[&str]) {
        let folder = tools::folder();
        let environment =
            [("EXECUTOR_CPUS", size.cpus), ("EXECUTOR_MEMORY", size.memory), ("EXECUTOR_GPUS", size.gpus)];
        let environment = environment.into_iter().filter(|(_, value)| !value.is_empty());
        let mut all =
            vec!["executor", "--schedulers", addresses, "--cluster", &self.name, "--safety-interval", "1h"];
        all.extend(arguments);
        let environment: Vec<(String, String)> =
            environment.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let arguments: Vec<String> = all.into_iter().map(str::to_owned).collect();
        let process = executor_process(id, folder.path(), &environment, &arguments);
        self.executors.push(Executor { process, id: id.to_owned(), folder, environment, arguments });
    }

    /// Kills an executor's process with SIGKILL and starts it again on the same folder.
    pub fn restart_executor(&mut self, index: usize) {
        let executor = &mut self.executors[index];
        executor.process.kill();
        executor.process = executor_process(
            &executor.id,
            executor.folder.path(),
            &executor.environment,
            &executor.arguments,
        );
    }

    /// Stops the first scheduler and starts it again on the same ports' choice.
    pub fn restart_scheduler(&mut self, arguments: &[&str]) {
        let (grpc, http) = (self.scheduler.grpc.clone(), self.scheduler.http.clone());
        let mut all = vec!["--grpc-listen", &grpc, "--http-listen", &http];
        all.extend(arguments);
        self.scheduler = scheduler(&self.name, "scheduler-1", &self.redis, self.folder.path(), &all);
    }

    /// Submits a job by REST; gives it as it was returned.
    pub fn submit(&self, body: &Value) -> Value {
        http::post(&self.scheduler.http, "/jobs", body)
    }

    /// Submits a shell line as a small job; gives its id.
    pub fn shell(&self, line: &str) -> String {
        id_of(&self.submit(&job(&["sh", "-c", line])))
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

fn scheduler(cluster: &str, id: &str, redis: &Redis, folder: &Path, arguments: &[&str]) -> Scheduler {
    let mut command = Command::new(tools::berth());
    command.args(["scheduler", "--cluster", cluster, "--id", id, "--redis-url", &redis.url()]);
    let given = |flag: &str| arguments.contains(&flag);
    for (flag, value) in
        [("--grpc-listen", "127.0.0.1:0"), ("--http-listen", "127.0.0.1:0"), ("--safety-interval", "1h")]
    {
        if !given(flag) {
            command.args([flag, value]);
        }
    }
    command.args(["--data-dir", &folder.join(id).display().to_string()]).args(arguments);
    let mut process = Process::start(id, &mut command);
    let ready = process.line("ready role=scheduler");
    Scheduler { grpc: field(&ready, "grpc"), http: field(&ready, "http"), process }
}

fn executor_process(
    id: &str,
    folder: &Path,
    environment: &[(String, String)],
    arguments: &[String],
) -> Process {
    let mut command = Command::new(tools::berth());
    command.args(arguments).args(["--data-dir", &folder.display().to_string()]).env("EXECUTOR_ID", id);
    command.envs(environment.iter().map(|(k, v)| (k, v)));
    let mut process = Process::start(id, &mut command);
    process.line("ready role=executor");
    process
}

/// Reads `name=value` from a ready line.
fn field(line: &str, name: &str) -> String {
    let value = line.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{line:?} names {name}")).to_owned()
}
