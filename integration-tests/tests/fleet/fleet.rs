//! A fleet of containers under test, driven through `./run`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use berth_integration_tests::cluster::{id_of, job};
use berth_integration_tests::docker::docker_ok;
use berth_integration_tests::process::Process;
use berth_integration_tests::recipe::{closing_line, run, text};
use berth_integration_tests::wait::until;
use berth_integration_tests::{docker, http, tools};
use serde_json::{Value, json};

/// What a whole fleet consists of.
pub const SERVICES: [&str; 7] =
    ["redis", "scheduler-1", "scheduler-2", "scheduler-3", "executor-1", "executor-2", "executor-3"];

/// A fleet, removed at the end of its test.
pub struct Fleet {
    /// The name of its compose project.
    pub name: String,
    /// The name of its cluster.
    pub cluster: String,
    /// The image of its schedulers and executors.
    pub image: String,
    compose: PathBuf,
    owns_image: bool,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let down = self.run("docker_compose_down", &[]);
        if !down.status.success() {
            eprintln!("the fleet {} is left: {}", self.name, String::from_utf8_lossy(&down.stderr));
        }
        docker::remove_containers(&self.cluster);
        if self.owns_image {
            docker::docker(&["image", "rm", &self.image]);
        }
    }
}

impl Fleet {
    /// Names a fleet that a compose tool will run, of the image that all tests share.
    pub fn new(compose: PathBuf) -> Self {
        let image = std::env::var("BERTH_IMAGE").unwrap_or_else(|_| "berth:test".to_owned());
        let name = tools::unique("berth-fleet-test");
        Self { cluster: format!("{name}-jobs"), name, image, compose, owns_image: false }
    }

    /// The same of an image of its own, which may change without another fleet's knowing.
    pub fn with_own_image(compose: PathBuf) -> Self {
        let mut fleet = Self::new(compose);
        (fleet.image, fleet.owns_image) = (format!("berth:{}", fleet.name), true);
        fleet
    }

    /// A recipe on this fleet.
    fn command(&self, recipe: &str, environment: &[(&str, &str)]) -> Command {
        let mut command = run(recipe);
        command
            .env("BERTH_PROJECT", &self.name)
            .env("BERTH_CLUSTER", &self.cluster)
            .env("BERTH_COMPOSE", &self.compose)
            .env("BERTH_IMAGE", &self.image)
            .env("BERTH_HEALTH_INTERVAL", "1s");
        for number in 1..=3 {
            command.env(format!("BERTH_HTTP_{number}"), "0").env(format!("BERTH_GRPC_{number}"), "0");
        }
        command.envs(environment.iter().copied());
        command
    }

    /// Runs a recipe on this fleet beside the test.
    pub fn start(&self, recipe: &str) -> Process {
        Process::start(recipe, &mut self.command(recipe, &[]))
    }

    /// Runs a recipe on this fleet.
    pub fn run(&self, recipe: &str, environment: &[(&str, &str)]) -> Output {
        let began = Instant::now();
        let output = self.command(recipe, environment).output().expect("./run runs");
        eprintln!("{recipe} took {:.1} s", began.elapsed().as_secs_f64());
        output
    }

    /// Runs a recipe that must succeed; gives its closing line.
    pub fn ok(&self, recipe: &str, environment: &[(&str, &str)]) -> Value {
        let output = self.run(recipe, environment);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{recipe}: {}\n{stdout}\n{stderr}", output.status);
        let closing = closing_line(&output);
        assert_eq!((&closing["recipe"], &closing["ok"]), (&json!(recipe), &json!(true)));
        closing
    }

    /// The container of a service.
    pub fn container(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let service = format!("label=com.docker.compose.service={service}");
        docker_ok(&["ps", "-aq", "--no-trunc", "--filter", &project, "--filter", &service])
    }

    /// The containers of the given services, in their order.
    pub fn containers(&self, services: &[&str]) -> Vec<String> {
        services.iter().map(|service| self.container(service)).collect()
    }

    /// Fails unless every one of the services is up and found healthy by the engine.
    pub fn is_healthy(&self, services: &[&str]) {
        for service in services {
            let state = docker::inspect(&self.container(service))["State"].clone();
            assert_eq!(
                (&state["Status"], &state["Health"]["Status"]),
                (&json!("running"), &json!("healthy"))
            );
        }
    }

    /// Every container, network and volume that belongs to this fleet or its jobs, by label or name.
    pub fn objects(&self) -> BTreeSet<String> {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let cluster = format!("label=berth.cluster={}", self.cluster);
        let name = format!("name={}", self.name);
        let listings: [(&str, &[&str], &[&str]); 3] = [
            ("container", &["ps", "-aq", "--no-trunc"], &[&project, &cluster, &name]),
            ("network", &["network", "ls", "-q", "--no-trunc"], &[&project, &name]),
            ("volume", &["volume", "ls", "-q"], &[&project, &name]),
        ];
        let mut all = BTreeSet::new();
        for (kind, listing, filters) in listings {
            for filter in filters {
                let found = docker_ok(&[listing, &["--filter", filter]].concat());
                all.extend(found.lines().map(|id| format!("{kind} {id}")));
            }
        }
        all
    }

    /// The container of the only attempt that a job has had.
    pub fn job_container(&self, id: &str) -> String {
        let containers = docker::containers_of(id);
        assert_eq!(containers.len(), 1, "job {id} was started once");
        containers[0].clone()
    }

    /// Lets a job of [`held_job`] end; that it does is for the caller to see.
    pub fn release(&self, id: &str) {
        // The job may end before this does, which the engine then counts as its failure.
        docker::let_go(&self.job_container(id));
    }
}

/// The compose tool that `./run tools` fetches, of version 2 or later.
pub fn compose_v2() -> PathBuf {
    tools::tool("docker-compose")
}

/// The compose tool of version 1, which can be had from a distribution only.
pub fn compose_v1() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join("docker-compose")).find(|tool| {
        let version = Command::new(tool).args(["version", "--short"]).output();
        version.is_ok_and(|output| output.stdout.starts_with(b"1."))
    })
}

/// Says that the rest of a test is left out, where `./run test` counts such.
pub fn leave_out(reason: &str) {
    eprintln!("left out: {reason}");
    if let Some(log) = std::env::var_os("BERTH_TEST_SKIP_LOG") {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().append(true).create(true).open(log);
        writeln!(file.expect("the log can be opened"), "{reason}").expect("it can be written");
    }
}

/// The REST addresses that a recipe told, by scheduler.
pub fn rest_addresses(closing: &Value) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().expect("a text").to_owned();
    let schedulers = closing["schedulers"].as_array().expect("schedulers are told");
    schedulers.iter().map(|scheduler| (word(&scheduler["id"]), word(&scheduler["http"]))).collect()
}

/// Runs a job to its end through one scheduler; gives it as it ended.
pub fn run_job(rest: &str, body: &Value) -> Value {
    let id = id_of(&http::post(rest, "/jobs", body));
    ended(rest, &id)
}

/// Waits until a job has ended, and gives it.
pub fn ended(rest: &str, id: &str) -> Value {
    in_state(rest, id, &["SUCCEEDED", "FAILED", "ABORTED"])
}

/// Waits until a job is in one of the states, and gives it.
pub fn in_state(rest: &str, id: &str, states: &[&str]) -> Value {
    until(&format!("job {id} is one of {states:?}"), || {
        let answer = http::request(rest, "GET", &format!("/jobs/{id}"), &[], b"");
        // While another leader is being found, there may be no answer yet.
        let job = (answer.status == 200).then(|| answer.json())?;
        states.contains(&job["state"].as_str()?).then_some(job)
    })
}

/// Starts a job that runs until it is released, and waits until it runs.
pub fn held_job(rest: &str, more: &[(&str, Value)]) -> String {
    let mut body = job(&["sh", "-c", "while ! [ -e /tmp/go ]; do sleep 0.1; done"]);
    for (name, value) in more {
        body[*name] = value.clone();
    }
    let id = id_of(&http::post(rest, "/jobs", &body));
    in_state(rest, &id, &["RUNNING"]);
    id
}

/// The users that the processes of a container run as, by number or by the host's name for it.
pub fn users_of(container: &str) -> Vec<String> {
    let listing = docker_ok(&["top", container, "-o", "uid,pid"]);
    let users = listing.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    users.map(str::to_owned).collect()
}

/// Copies a file out of a container.
pub fn file_in(container: &str, path: &str) -> Vec<u8> {
    let folder = tools::folder();
    let copy = folder.path().join("copy");
    docker_ok(&["cp", "--follow-link", &format!("{container}:{path}"), &copy.display().to_string()]);
    std::fs::read(Path::new(&copy)).expect("the copy can be read")
}
