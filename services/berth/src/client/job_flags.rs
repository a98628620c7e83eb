//! The flags that describe a job, as Docker's users know them, and the request they make.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_api::v1::{JobSpec, OnLost, Resources, SubmitJobRequest};
use clap::ValueEnum;

use crate::failure::Failure;
use crate::values::{self, Gpus, wire_duration};

/// What becomes of a job whose executor is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LostChoice {
    /// Run again elsewhere: at least once
    Retry,
    /// Fail: at most one start, ever
    Fail,
    /// Wait for the executor: never two at once
    Hold,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PullChoice {
    /// Where the executor does not have it
    Missing,
    /// Never: an image that is not there fails the job
    Never,
}

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkChoice {
    /// Outgoing only
    Bridge,
    /// Loopback only
    None,
}

/// Whether the container is the job's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReuseChoice {
    /// It is
    None,
    /// One that jobs of the same kind use one after the other
    Warm,
}

/// The flags that describe a job.
#[derive(Debug, Clone, clap::Args)]
pub struct JobFlags {
    /// CPUs, a hard quota: 1.5 or 1500m [default: 1]
    #[arg(long, value_parser = values::cpus, value_name = "N", help_heading = "Resources")]
    cpus: Option<i64>,
    /// Memory, a hard limit: 512m or 2g, in powers of 1024 [default: 256m]
    #[arg(short, long, value_parser = values::memory, value_name = "BYTES", help_heading = "Resources")]
    memory: Option<i64>,
    /// GPUs: how many, or MODEL:COUNT such as a100:2
    #[arg(long, value_parser = values::gpus, value_name = "GPUS", help_heading = "Resources")]
    gpus: Option<Gpus>,
    /// Environment variable; without a value, this shell's own
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// File of environment variables, one KEY=VALUE a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// A name for people; need not be unique
    #[arg(long)]
    name: Option<String>,
    /// Label for filters
    #[arg(short, long, value_parser = values::key_value, value_name = "KEY=VALUE")]
    label: Vec<(String, String)>,
    /// Tenant [default: default]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// 0 to 100, higher first [default: 50]
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..=100), value_name = "N", help_heading = "Scheduling")]
    priority: Option<i32>,
    /// How long one attempt may run [default: without limit]
    #[arg(long, value_parser = values::duration, value_name = "DURATION", help_heading = "Scheduling")]
    timeout: Option<Duration>,
    /// How long it may wait for an executor; 0 waits for ever [default: 15s]
    #[arg(long, value_parser = values::duration, value_name = "DURATION", help_heading = "Scheduling")]
    queue_timeout: Option<Duration>,
    /// What the executor's labels must meet: KEY=VALUE, KEY!=VALUE, "KEY in (A, B)", "KEY notin (A, B)", KEY, !KEY
    #[arg(long, value_name = "CONSTRAINT", help_heading = "Scheduling")]
    constraint: Vec<String>,
    /// How often a failure of its own is retried
    #[arg(
        long,
        value_parser = clap::value_parser!(i32).range(0..=100),
        default_value_t = 0,
        hide_default_value = true,
        value_name = "N",
        help_heading = "Scheduling"
    )]
    retries: i32,
    /// What becomes of it when its executor is lost [default: retry]
    #[arg(long, value_enum, value_name = "CHOICE", help_heading = "Scheduling")]
    on_lost: Option<LostChoice>,
    /// Time from SIGTERM to SIGKILL [default: 10s]
    #[arg(long, value_parser = values::duration, value_name = "DURATION", help_heading = "Scheduling")]
    stop_grace: Option<Duration>,
    /// When the image is pulled [default: missing]
    #[arg(long, value_enum, value_name = "CHOICE")]
    pull: Option<PullChoice>,
    /// Network of the container [default: bridge]
    #[arg(long, value_enum, value_name = "CHOICE")]
    network: Option<NetworkChoice>,
    /// Whose container it runs in; a warm one shows it the files of jobs before [default: none]
    #[arg(long, value_enum, value_name = "CHOICE")]
    reuse: Option<ReuseChoice>,
    /// Key that makes a repeat of this command safe for 24 h [default: a new one]
    #[arg(long, value_name = "KEY")]
    request_id: Option<String>,
}

impl JobFlags {
    /// Makes the request; `image` and `command` are what stands behind the flags. It always has a
    /// `request_id`, so that it may be sent again.
    ///
    /// # Errors
    /// Fails when an environment file cannot be read.
    pub fn request(&self, image: &str, command: &[String]) -> Result<SubmitJobRequest, Failure> {
        let env = self.environment(&|key| std::env::var(key).ok())?;
        Ok(SubmitJobRequest {
            spec: Some(self.spec(image, command, env)),
            display_name: self.name.clone().unwrap_or_default(),
            request_id: self.request_id.clone().unwrap_or_else(new_request_id),
            validate_only: false,
            array_size: 0,
        })
    }

    fn spec(&self, image: &str, command: &[String], env: BTreeMap<String, String>) -> JobSpec {
        JobSpec {
            image: image.to_owned(),
            command: command.to_vec(),
            env,
            resources: Some(self.resources()),
            priority: self.priority,
            run_timeout: self.timeout.map(wire_duration),
            queue_timeout: self.queue_timeout.map(wire_duration),
            max_retries: self.retries,
            labels: self.label.iter().cloned().collect(),
            on_lost: self.on_lost.map_or(OnLost::Unspecified, on_lost).into(),
            stop_grace: self.stop_grace.map(wire_duration),
            working_dir: self.workdir.clone().unwrap_or_default(),
            namespace: self.namespace.clone().unwrap_or_default(),
            network: self.network.map(network).unwrap_or_default().to_owned(),
            constraints: self.constraint.clone(),
            pull_policy: self.pull.map(pull_policy).unwrap_or_default().to_owned(),
            reuse: self.reuse.map(reuse).unwrap_or_default().to_owned(),
            ..Default::default()
        }
    }

    fn resources(&self) -> Resources {
        let gpus = self.gpus.clone();
        Resources {
            cpu_millis: self.cpus.unwrap_or(0),
            memory_bytes: self.memory.unwrap_or(0),
            gpu_count: gpus.as_ref().map_or(0, |gpus| gpus.count),
            gpu_models: gpus.and_then(|gpus| gpus.model).into_iter().collect(),
        }
    }

    /// Collects the environment: files first, in their order, then flags. `own` looks a variable up in
    /// this process; one that is not set there is left out, as Docker does.
    fn environment(&self, own: &dyn Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>, Failure> {
        let mut env = BTreeMap::new();
        for file in &self.env_file {
            env.extend(read_env_file(file, own)?);
        }
        for entry in &self.env {
            env.extend(variable(entry, own).map_err(|what| Failure::usage(format!("--env {what}")))?);
        }
        Ok(env)
    }
}

/// Makes a key that no other request has.
pub fn new_request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn on_lost(choice: LostChoice) -> OnLost {
    match choice {
        LostChoice::Retry => OnLost::Retry,
        LostChoice::Fail => OnLost::Fail,
        LostChoice::Hold => OnLost::Hold,
    }
}

fn network(choice: NetworkChoice) -> &'static str {
    match choice {
        NetworkChoice::Bridge => "bridge",
        NetworkChoice::None => "none",
    }
}

fn pull_policy(choice: PullChoice) -> &'static str {
    match choice {
        PullChoice::Missing => "missing",
        PullChoice::Never => "never",
    }
}

fn reuse(choice: ReuseChoice) -> &'static str {
    match choice {
        ReuseChoice::None => "none",
        ReuseChoice::Warm => "warm",
    }
}

fn read_env_file(
    path: &Path,
    own: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read --env-file {}: {error}", path.display())))?;
    parse_env_file(&text, own).map_err(|what| Failure::usage(format!("{}, {what}", path.display())))
}

/// Reads Docker's form: `KEY=VALUE` taken literally, `KEY` for this process's own, `#` for comments.
fn parse_env_file(text: &str, own: &dyn Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if !line.is_empty() && !line.starts_with('#') {
            pairs.extend(variable(line, own).map_err(|what| format!("line {}: {what}", number + 1))?);
        }
    }
    Ok(pairs)
}

fn variable(text: &str, own: &dyn Fn(&str) -> Option<String>) -> Result<Option<(String, String)>, String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text.trim_end(), own(text.trim_end())),
    };
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(format!("{text:?} is not KEY=VALUE"));
    }
    Ok(value.map(|value| (key.to_owned(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_is_read_as_docker_reads_it() {
        let own = |key: &str| (key == "HOME").then(|| "/root".to_owned());
        let text = "# comment\n\nA=1 # not a comment\nHOME\nABSENT\n  B=\"quoted\"\n";
        let pairs = parse_env_file(text, &own).expect("is valid");
        let expected = [("A", "1 # not a comment"), ("HOME", "/root"), ("B", "\"quoted\"")];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let refusal = parse_env_file("A=1\n=2\n", &|_| None).expect_err("must be refused");
        assert_eq!(refusal, "line 2: \"=2\" is not KEY=VALUE");
    }
}
