//! A whole cluster in one process: `berth dev`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::process::Process;
use crate::{docker, tools};

/// A cluster in one process, with a name and a folder of its own.
pub struct Dev {
    /// The process.
    pub process: Process,
    /// What `ready.json` says.
    pub ready: Value,
    given: Given,
}

/// What a cluster is started with.
struct Given {
    name: String,
    program: PathBuf,
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.process.kill();
        docker::remove_containers(&self.given.name);
    }
}

impl Dev {
    /// Starts one on free ports; its safety pass never comes.
    pub fn start(environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::start_program(tools::berth(), environment, arguments)
    }

    /// The same of a program that lies elsewhere.
    pub fn start_program(program: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let given = Given {
            name: tools::unique("dev"),
            program: program.to_owned(),
            folder: tools::folder(),
            environment: environment.iter().map(own).collect(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        };
        let (process, ready) = given.start("127.0.0.1:0", "127.0.0.1:0");
        Self { process, ready, given }
    }

    /// Starts it again on its folder and its ports.
    pub fn start_again(&mut self) {
        (self.process, self.ready) = self.given.start(&self.grpc(), &self.http());
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
        self.given.folder.path().display().to_string()
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

impl Given {
    fn start(&self, grpc: &str, http: &str) -> (Process, Value) {
        let mut command = Command::new(&self.program);
        command.args(["dev", "--cluster", &self.name, "--grpc-listen", grpc, "--http-listen", http]);
        command.args(["--safety-interval", "1h", "--data-dir"]).arg(self.folder.path()).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(&self.name, &mut command);
        process.line("ready role=dev");
        let text = std::fs::read_to_string(self.folder.path().join("ready.json"));
        let text = text.expect("a cluster that is ready says so in its folder");
        (process, serde_json::from_str(&text).expect("ready.json is JSON"))
    }
}
