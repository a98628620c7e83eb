//! What is said of Docker and of images.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_integration_tests::cluster::{Cluster, Size, id_of};
use berth_integration_tests::engine::EngineDoor;
use berth_integration_tests::process::Process;
use berth_integration_tests::registry::Registry;
use berth_integration_tests::tools;
use berth_integration_tests::wait::until;
use serde_json::json;

use crate::golden::{check, reason};
use crate::{executor, line_with, stderr};

/// A user without any right.
const NOBODY: u32 = 65_534;

fn count(process: &Process, part: &str) -> usize {
    process.output().matches(part).count()
}

/// An executor that looks at its engine often, and says each of its tries.
fn watchful(cluster: &Cluster, socket: &Path, folder: &Path) -> Process {
    let mut command = executor(tools::berth(), cluster, "executor-1", folder);
    command.args(["--safety-interval", "100ms"]).env("DOCKER_HOST", format!("unix://{}", socket.display()));
    command.env("BERTH_LOG", "info,berth_executor::runtime=debug");
    Process::start("executor", &mut command)
}

#[test]
fn without_docker_an_executor_says_so_once_and_waits() {
    let cluster = Cluster::start();
    let folder = tools::folder();
    let socket = folder.path().join("docker.sock");
    let variable = [(socket.to_str().expect("a plain path"), "<SOCKET>")];
    let mut process = watchful(&cluster, &socket, &folder.path().join("data"));
    let told = process.line_with("is not reachable");
    check("no_docker", reason(&told), &variable);
    until("it was tried again", || (count(&process, "still out of reach") >= 3).then_some(()));
    assert_eq!(count(&process, "is not reachable"), 1, "and was not told again");
    let door = EngineDoor::open(&socket);
    process.line("ready role=executor");
    // It is registered without an engine, too.
    process.line_with("the container engine answers again");

    door.close();
    let told = process.line_with("(connection refused)");
    check("no_docker_later", reason(&told), &variable);
    until("it was tried again", || (count(&process, "still out of reach") >= 6).then_some(()));
    assert_eq!(count(&process, "(connection refused)"), 1, "a cause is told once");
    std::fs::remove_file(&socket).expect("the socket is there");
    until("the new cause is told", || (count(&process, "(no such file)") == 2).then_some(()));
    let _door = EngineDoor::open(&socket);
    until("it goes on", || (count(&process, "the container engine answers again") == 2).then_some(()));
}

/// Copies the program to where everybody may run it.
fn for_everybody(folder: &Path) -> PathBuf {
    let everybody = Permissions::from_mode(0o755);
    std::fs::set_permissions(folder, everybody.clone()).expect("the folder is ours");
    let program = folder.join("berth");
    std::fs::copy(tools::berth(), &program).expect("the program can be copied");
    std::fs::set_permissions(&program, everybody).expect("the copy is ours");
    program
}

#[test]
fn without_permission_the_group_is_named() {
    let cluster = Cluster::start();
    let folder = tools::folder();
    let program = for_everybody(folder.path());
    let (data, socket) = (folder.path().join("data"), folder.path().join("docker.sock"));
    std::fs::create_dir(&data).expect("a folder can be made");
    let _listener = UnixListener::bind(&socket).expect("a socket can be made");
    std::fs::set_permissions(&socket, Permissions::from_mode(0o000)).expect("the socket is ours");
    let mut command = executor(&program, &cluster, "executor-1", &data);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    // Permissions do not hold root up.
    if std::fs::metadata(folder.path()).expect("it is there").uid() == 0 {
        std::os::unix::fs::chown(&data, Some(NOBODY), Some(NOBODY)).expect("root may give it away");
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut process = Process::start("executor", &mut command);
    let told = process.line_with("No permission");
    check("no_permission", reason(&told), &[(socket.to_str().expect("a plain path"), "<SOCKET>")]);
}

#[test]
fn a_missing_image_is_named_with_the_executor() {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-2", Size { cpus: "2", memory: "1g", gpus: "" }, &[]);
    let registry = Registry::start();
    let image = format!("{}/alpin", registry.address);
    let variable = [(registry.address.as_str(), "<REGISTRY>")];
    let submitted = cluster.submit(&json!({ "image": image, "command": ["true"], "memory": "32Mi" }));
    let job = cluster.ended(&id_of(&submitted));
    assert_eq!((&job["state"], &job["endReason"]), (&json!("FAILED"), &json!("IMAGE_NOT_FOUND")), "{job}");
    check("image_missing", job["message"].as_str().expect("it has a message"), &variable);
    let run = cluster.berth(&["run", "-m", "32m", &image, "true"]);
    assert_eq!(run.status.code(), Some(125), "{}", stderr(&run));
    check("image_missing_run", &line_with(&stderr(&run), "not found"), &variable);
}

#[test]
fn a_docker_host_that_is_none_says_what_to_write() {
    let cluster = Cluster::start();
    let folder = tools::folder();
    let mut command: Command = executor(tools::berth(), &cluster, "executor-1", folder.path());
    command.env("DOCKER_HOST", "/var/run/docker.sock");
    let mut process = Process::start("executor", &mut command);
    check("no_docker_host", reason(&process.line_with("is not reachable")), &[]);
}
