//! The processes of a cluster, each on its host, and what can be done to them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use berth_integration_tests::dockerd::Dockerd;
use berth_integration_tests::door::Door;
use berth_integration_tests::process::Process;
use berth_integration_tests::redis::Redis;
use berth_integration_tests::{docker, tools};

use crate::hosts::{HOME, Host};

/// Clocks under which verdicts come within seconds.
const CLOCKS: [&str; 8] =
    ["--heartbeat-interval", "1s", "--lease", "3s", "--lost-after", "13s", "--lock-ttl", "1s"];
/// No executor is judged lost sooner after its registration.
pub const LOST_AFTER: Duration = Duration::from_secs(13);
const GRPC: u16 = 50051;
const HTTP: u16 = 8080;

/// A process on a host, that can be started again as it was.
pub struct Actor {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub host: Host,
    /// The process, while there is one.
    pub process: Process,
    program: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Actor {
    fn start(name: &str, host: Host, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut program: Vec<String> = host.under().to_vec();
        program.push(tools::berth().display().to_string());
        program.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let environment: Vec<(String, String)> =
            environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let process = begin(name, &program, &environment);
        Self { name: name.to_owned(), host, process, program, environment }
    }

    /// Starts it again, once it has ended.
    pub fn again(&mut self) {
        self.process.kill();
        self.process = begin(&self.name, &self.program, &self.environment);
    }
}

fn begin(name: &str, program: &[String], environment: &[(String, String)]) -> Process {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).envs(environment.iter().map(|(key, value)| (key, value)));
    Process::start(name, &mut command)
}

/// All of a cluster.
pub struct Stage {
    /// The cluster's name.
    pub cluster: String,
    /// The replicas.
    pub schedulers: Vec<Actor>,
    /// The executors; where there is an engine of their own, the last one is on it.
    pub executors: Vec<Actor>,
    /// An engine of their own.
    pub engine: Option<Dockerd>,
    /// The store.
    pub redis: Redis,
    /// The store's replica.
    pub replica: Redis,
    /// What the replica hears of the store.
    pub wire: Door,
    /// The replicas' way to the store.
    pub door: Door,
    _folder: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for executor in &mut self.executors {
            executor.process.kill();
        }
        docker::remove_containers(&self.cluster);
    }
}

impl Stage {
    /// Starts everything, and waits until it works.
    pub fn start(schedulers: usize, executors: usize, has_engine: bool) -> Self {
        let (cluster, folder) = (tools::unique("chaos"), tools::folder());
        let redis = Redis::start_with(&["--repl-diskless-sync-delay", "0"]);
        let (replica, wire) = replica_of(&redis);
        let door = Door::on(HOME, &redis.address());
        let url = format!("redis://{}", door.address());
        let at = |name: &str| -> PathBuf { folder.path().join(name) };
        let schedulers: Vec<Actor> = (1..=schedulers)
            .map(|number| {
                let (name, host) = (format!("scheduler-{number}"), Host::new(number));
                let listen = |port: u16| format!("{}:{port}", host.address);
                let (grpc, rest, data) = (listen(GRPC), listen(HTTP), at(&name).display().to_string());
                let own = ["scheduler", "--cluster", &cluster, "--id", &name, "--redis-url", &url];
                let more = ["--grpc-listen", &grpc, "--http-listen", &rest, "--data-dir", &data];
                Actor::start(&name, host, &[&own[..], &more, &CLOCKS].concat(), &[])
            })
            .collect();
        let addresses: Vec<String> =
            schedulers.iter().map(|actor| format!("{}:{GRPC}", actor.host.address)).collect();
        let addresses = addresses.join(",");
        let engine = has_engine.then(|| Dockerd::start(&["--bridge", "none"]));
        let count = executors + usize::from(has_engine);
        let executors = (1..=count).map(|number| {
            let (name, host) = (format!("executor-{number}"), Host::new(100 + number));
            let data = at(&name).display().to_string();
            let arguments =
                ["executor", "--schedulers", &addresses, "--cluster", &cluster, "--data-dir", &data];
            let host_of_engine = engine.as_ref().filter(|_| number > executors).map(Dockerd::host);
            let mut environment =
                vec![("EXECUTOR_ID", name.as_str()), ("EXECUTOR_CPUS", "2"), ("EXECUTOR_MEMORY", "1g")];
            if number == 1 {
                environment.push(("EXECUTOR_GPUS", "a100:2"));
            }
            environment.extend(host_of_engine.as_deref().map(|host| ("DOCKER_HOST", host)));
            Actor::start(&name, host, &arguments, &environment)
        });
        let executors: Vec<Actor> = executors.collect();
        let mut stage =
            Self { cluster, schedulers, executors, engine, redis, replica, wire, door, _folder: folder };
        for scheduler in &mut stage.schedulers {
            scheduler.process.line("ready role=scheduler");
        }
        for executor in &mut stage.executors {
            executor.process.line("ready role=executor");
        }
        stage
    }

    /// The gRPC addresses of all replicas.
    pub fn addresses(&self) -> Vec<String> {
        self.schedulers.iter().map(|actor| format!("{}:{GRPC}", actor.host.address)).collect()
    }

    /// Names the processes of the cluster that are not there although all should be.
    pub fn missing(&mut self) -> Vec<String> {
        let all = self.schedulers.iter_mut().chain(&mut self.executors);
        let ended = all.filter_map(|actor| actor.process.has_ended().map(|code| (actor, code)));
        ended.map(|(actor, code)| format!("{} ended by itself with {code:?}", actor.name)).collect()
    }

    /// Lets the replica take the store's place, and gives it a replica of its own. What the store lacked of
    /// it was killed before.
    pub fn promote(&mut self) {
        self.replica.cli(&["REPLICAOF", "NO", "ONE"]);
        let (replica, wire) = replica_of(&self.replica);
        std::mem::swap(&mut self.redis, &mut self.replica);
        (self.replica, self.wire) = (replica, wire);
    }
}

fn replica_of(redis: &Redis) -> (Redis, Door) {
    let (wire, replica) =
        (Door::before(&redis.address()), Redis::start_with(&["--repl-diskless-sync-delay", "0"]));
    let (host, port) = wire.address().split_once(':').expect("host:port");
    replica.cli(&["REPLICAOF", host, port]);
    (replica, wire)
}
