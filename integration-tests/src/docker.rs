//! The Docker Engine, seen from outside Berth: by its own command-line client.

use std::process::{Command, Output};

use crate::process::Process;
use crate::tools;

/// The image whose jobs tests run: a shell and a helper. `./run images` makes it.
pub const IMAGE: &str = "berth-job:local";

/// Runs `docker`; gives its output.
pub fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().expect("docker runs")
}

/// Runs `docker` and expects success; gives what it prints.
pub fn docker_ok(arguments: &[&str]) -> String {
    let output = docker(arguments);
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Makes `/tmp/go` in a container, for which jobs of tests wait. It is copied there: a program run inside
/// would be killed with the job that it lets end.
pub fn let_go(container: &str) {
    let folder = tools::folder();
    let file = folder.path().join("go");
    std::fs::write(&file, "").expect("a file can be written");
    docker_ok(&["cp", &file.display().to_string(), &format!("{container}:/tmp/go")]);
}

/// Says whether a container's main process runs; one that is gone does not.
pub fn is_running(container: &str) -> bool {
    docker(&["inspect", "-f", "{{.State.Running}}", container]).stdout.starts_with(b"true")
}

/// Fails with what to do when the job image is not there.
pub fn require_image() {
    let found = docker(&["image", "inspect", IMAGE]).status.success();
    assert!(found, "image {IMAGE} is missing, or Docker is; run ./run images");
}

/// Lists the containers of a cluster's jobs, running or not, by id.
pub fn containers(cluster: &str) -> Vec<String> {
    labelled(cluster, &["--filter", "label=berth.job"])
}

/// Lists the idle containers that hold networks for a cluster's jobs, running or not, by id.
pub fn slots(cluster: &str) -> Vec<String> {
    labelled(cluster, &["--filter", "label=berth.slot"])
}

/// Lists the containers that jobs of a cluster use one after the other, running or not, by id.
pub fn warm(cluster: &str) -> Vec<String> {
    labelled(cluster, &["--filter", "label=berth.warm"])
}

fn labelled(cluster: &str, more: &[&str]) -> Vec<String> {
    let filter = format!("label=berth.cluster={cluster}");
    let list = docker_ok(&[&["ps", "-aq", "--no-trunc", "--filter", &filter], more].concat());
    list.lines().map(str::to_owned).collect()
}

/// The slot that a container was put into; `None` where it has a network of its own.
pub fn slot_of(container: &str) -> Option<String> {
    let mode = inspect(container)["HostConfig"]["NetworkMode"].as_str().map(str::to_owned);
    mode.and_then(|mode| mode.strip_prefix("container:").map(str::to_owned))
}

/// Lists the containers of a job by id.
pub fn containers_of(job: &str) -> Vec<String> {
    let filter = format!("label=berth.job={job}");
    docker_ok(&["ps", "-aq", "--no-trunc", "--filter", &filter]).lines().map(str::to_owned).collect()
}

/// Everything the engine knows of a container.
pub fn inspect(container: &str) -> serde_json::Value {
    let text = docker_ok(&["inspect", container]);
    let all: serde_json::Value = serde_json::from_str(&text).expect("docker prints JSON");
    all[0].clone()
}

/// Removes what is left of a cluster.
pub fn remove_containers(cluster: &str) {
    // What the engine was just asked for may appear only while the first are being removed.
    for _ in 0..3 {
        let left = labelled(cluster, &[]);
        if left.is_empty() {
            return;
        }
        let mut arguments = vec!["rm", "-f", "-v"];
        arguments.extend(left.iter().map(String::as_str));
        docker(&arguments);
    }
}

/// Watches starts of a cluster's jobs as the engine tells them.
pub struct StartCounter {
    process: Process,
    folder: tempfile::TempDir,
}

impl StartCounter {
    /// Begins to watch; starts from now on are seen.
    pub fn begin(cluster: &str) -> Self {
        let folder = tools::folder();
        let file = folder.path().join("starts");
        // The stream goes to a file, so that no start is lost to a bounded buffer.
        let script = format!(
            "exec docker events --since {} --filter label=berth.cluster={cluster} --filter label=berth.job --filter event=start \
             --format '{{{{index .Actor.Attributes \"berth.job\"}}}}' > {}",
            seconds_now(),
            file.display()
        );
        let process = Process::start("docker events", Command::new("sh").args(["-c", &script]));
        crate::wait::until("docker events listens", || file.exists().then_some(()));
        Self { process, folder }
    }

    /// The job of every start so far, in order.
    pub fn jobs(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("starts")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Says whether the engine's stream still lives.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn seconds_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("time has begun").as_secs()
}
