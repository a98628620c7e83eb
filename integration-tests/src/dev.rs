//! A whole cluster in one process: `berth dev`.

use std::process::{Command, Output};

use serde_json::Value;

use crate::process::Process;
use crate::{docker, tools};

/// A cluster in one process, with a name and a folder of its own.
pub struct Dev {
    /// Its name.
    pub name: String,
    /// The process.
    pub process: Process,
    /// What `ready.json` says.
    pub ready: Value,
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.process.kill();
        docker::remove_containers(&self.name);
    }
}

impl Dev {
    /// Starts one on free ports; its safety pass never comes.
    pub fn start(environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let (name, folder) = (tools::unique("dev"), tools::folder());
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let (process, ready) =
            start(&name, &folder, &environment, &arguments, ("127.0.0.1:0", "127.0.0.1:0"));
        Self { name, process, ready, folder, environment, arguments }
    }

    /// Starts it again on its folder and its ports.
    pub fn start_again(&mut self) {
        let ports = (self.grpc(), self.http());
        let ports = (ports.0.as_str(), ports.1.as_str());
        (self.process, self.ready) =
            start(&self.name, &self.folder, &self.environment, &self.arguments, ports);
    }

    /// Where its gRPC is.
    pub fn grpc(&self) -> String {
        self.told("grpc")
    }

    /// Where its REST is.
    pub fn http(&self) -> String {
        self.told("http")
    }

    /// Where its files are.
    pub fn folder(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Runs a client command against it.
    pub fn berth(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(tools::berth());
        command.args(arguments).env("BERTH_ADDR", self.grpc()).output().expect("berth runs")
    }

    fn told(&self, name: &str) -> String {
        self.ready[name].as_str().unwrap_or_else(|| panic!("{} tells {name}", self.ready)).to_owned()
    }
}

fn start(
    name: &str,
    folder: &tempfile::TempDir,
    environment: &[(String, String)],
    arguments: &[String],
    (grpc, http): (&str, &str),
) -> (Process, Value) {
    let file = folder.path().join("ready.json");
    let mut command = Command::new(tools::berth());
    command.args(["dev", "--cluster", name, "--grpc-listen", grpc, "--http-listen", http]);
    command.args(["--safety-interval", "1h", "--data-dir"]).arg(folder.path()).args(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let mut process = Process::start(name, &mut command);
    process.line("ready role=dev");
    let text = std::fs::read_to_string(file).expect("a cluster that is ready says so in its folder");
    (process, serde_json::from_str(&text).expect("ready.json is JSON"))
}
