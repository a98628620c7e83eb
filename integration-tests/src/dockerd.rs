//! A Docker Engine of a harness's own. It lives in a network namespace of its own: the machine's engine,
//! and its bridge, are left alone. It needs root.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::wait::until;
use crate::{docker, tools};

/// A dockerd.
pub struct Dockerd {
    /// The process.
    pub process: Process,
    /// The network namespace it lives in.
    pub namespace: String,
    folder: tempfile::TempDir,
    options: Vec<String>,
}

impl Dockerd {
    /// Starts one, with options of its own, and gives it the image that jobs run.
    pub fn start(options: &[&str]) -> Self {
        let namespace = tools::unique("engine");
        let made = Command::new("ip").args(["netns", "add", &namespace]).status().expect("ip runs");
        assert!(made.success(), "a network namespace can be made");
        let folder = tools::folder();
        std::fs::write(folder.path().join("daemon.json"), "{}").expect("a file can be written");
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = begin(folder.path(), &namespace, &options);
        let engine = Self { process, namespace, folder, options };
        engine.answers();
        let image = engine.folder.path().join("image.tar").display().to_string();
        docker::docker_ok(&["save", "-o", &image, docker::IMAGE]);
        engine.docker_ok(&["load", "-i", &image]);
        engine
    }

    /// Where it is, as DOCKER_HOST says it.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    /// Runs `docker` against it; gives its output.
    pub fn docker(&self, arguments: &[&str]) -> std::process::Output {
        let host = self.host();
        docker::docker(&[&["-H", host.as_str()], arguments].concat())
    }

    /// Runs `docker` against it and expects success; gives what it prints.
    pub fn docker_ok(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn answers(&self) {
        until("the engine answers", || self.docker(&["version"]).status.success().then_some(()));
    }

    /// Starts it again after its end, and waits until it answers.
    pub fn again(&mut self) {
        self.process = begin(self.folder.path(), &self.namespace, &self.options);
        until("the engine answers again", || {
            // One that takes its dying containerd for a living one gives up; whoever supervises it tries again.
            if self.process.has_ended().is_some() {
                self.process = begin(self.folder.path(), &self.namespace, &self.options);
            }
            self.docker(&["version"]).status.success().then_some(())
        });
    }

    /// The one container of a job.
    pub fn container_of(&self, id: &str) -> String {
        let filter = format!("label=berth.job={id}");
        self.docker_ok(&["ps", "-aq", "--no-trunc", "--filter", &filter])
            .lines()
            .next()
            .expect("one")
            .to_owned()
    }

    /// How many containers a job has.
    pub fn starts_of(&self, id: &str) -> usize {
        self.docker_ok(&["ps", "-aq", "--filter", &format!("label=berth.job={id}")]).lines().count()
    }

    /// Makes `/tmp/go` in a container.
    pub fn let_go(&self, container: &str) {
        let file = self.folder.path().join("go");
        std::fs::write(&file, "").expect("a file can be written");
        self.docker_ok(&["cp", &file.display().to_string(), &format!("{container}:/tmp/go")]);
    }

    /// The process of a container.
    pub fn pid_of(&self, container: &str) -> u32 {
        self.docker_ok(&["inspect", "-f", "{{.State.Pid}}", container]).parse().expect("a process id")
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.process.signal_if_there("CONT");
        let left = self.docker(&["ps", "-aq"]).stdout;
        for container in String::from_utf8_lossy(&left).lines() {
            self.docker(&["rm", "-f", container]);
        }
        self.process.signal_if_there("TERM");
        self.process.ended(Duration::from_secs(30));
        // Of a dockerd that could not end in order, its containerd is left.
        if let Ok(pid) = std::fs::read_to_string(self.folder.path().join("exec/containerd/containerd.pid")) {
            let _ = Command::new("kill").args(["-9", pid.trim()]).status();
        }
        // What it leaves mounted would keep its folder from being removed.
        let _ = Command::new("sh")
            .args(["-c", "grep \" $0/\" /proc/mounts | cut -d' ' -f2 | xargs -r umount -l"])
            .arg(self.folder.path())
            .status();
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

fn begin(folder: &Path, namespace: &str, options: &[String]) -> Process {
    let at = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("dockerd");
    command.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
    command.args(["--config-file", &at("daemon.json"), "-H", &format!("unix://{}", at("docker.sock"))]);
    command.args(["--iptables=false", "--ip6tables=false"]);
    command.args(["--containerd-namespace", namespace]);
    command.args(["--containerd-plugins-namespace", &format!("{namespace}-plugins")]);
    command.args(["--storage-driver", "fuse-overlayfs"]).args(options);
    Process::start("dockerd", &mut command)
}
