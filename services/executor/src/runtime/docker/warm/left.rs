//! Tells what is left in a container by what the kernel shows of it, where this process is on the engine's machine: it
//! takes no call, and the engine's own answer takes it a process. It asks no engine.

use std::fs;
use std::path::{Path, PathBuf};

use super::pool::Container;

/// Counts the processes and threads in a container, below a machine's root; `None` where that is not to be seen.
pub(super) fn processes(root: &Path, container: &Container) -> Option<usize> {
    fs::read_to_string(group(root, container, "pids")?.join("pids.current")).ok()?.trim().parse().ok()
}

/// Says whether the kernel has killed a process in a container for want of memory; `None` where that is not to be seen.
pub(super) fn has_lacked_memory(root: &Path, container: &Container) -> Option<bool> {
    let group = group(root, container, "memory")?;
    // The one in version 2 of control groups, the other in version 1.
    let mut texts = ["memory.events", "memory.oom_control"].iter().map(|file| group.join(file));
    let text = texts.find_map(|file| fs::read_to_string(file).ok())?;
    let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    Some(kills.trim() != "0")
}

/// The folder of a container's control group that has a controller.
fn group(root: &Path, container: &Container, controller: &str) -> Option<PathBuf> {
    let groups = fs::read_to_string(root.join(format!("proc/{}/cgroup", container.pid))).ok()?;
    groups.lines().find_map(|line| {
        // As proc(5) and cgroups(7) have it: hierarchy, controllers (none in version 2), path.
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let hierarchy = match controllers {
            "" => "",
            several => several.split(',').find(|one| *one == controller)?,
        };
        // Elsewhere, or later, the number may be another process's.
        if !path.contains(&container.id) {
            return None;
        }
        let group = root.join("sys/fs/cgroup").join(hierarchy).join(path.trim_start_matches('/'));
        group.is_dir().then_some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cgroup: &str, folder: &str, count: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("proc/42/cgroup", cgroup);
        write(&format!("sys/fs/cgroup/{folder}/pids.current"), count);
        root
    }

    fn container(id: &str, pid: i64) -> Container {
        Container { id: id.into(), pid, entrypoint: Vec::new() }
    }

    #[test]
    fn processes_are_counted_in_either_version_of_control_groups() {
        let first = "12:cpu,cpuacct:/docker/abc\n8:pids:/docker/abc\n0::/docker/abc\n";
        let machines = [
            machine(first, "pids/docker/abc", "2\n"),
            machine("0::/system.slice/docker-abc.scope\n", "system.slice/docker-abc.scope", "2\n"),
        ];
        for machine in machines {
            assert_eq!(processes(machine.path(), &container("abc", 42)), Some(2));
        }
    }

    #[test]
    fn a_kill_for_want_of_memory_is_seen_in_either_version_of_control_groups() {
        let first = machine("8:memory:/docker/abc\n", "memory/docker/abc", "");
        let second = machine("0::/docker/abc\n", "docker/abc", "");
        assert_eq!(has_lacked_memory(second.path(), &container("abc", 42)), None);
        for (machine, file) in [
            (first, "sys/fs/cgroup/memory/docker/abc/memory.oom_control"),
            (second, "sys/fs/cgroup/docker/abc/memory.events"),
        ] {
            for (text, lacked) in [("low 0\noom_kill 0\n", false), ("under_oom 0\noom_kill 3\n", true)] {
                fs::write(machine.path().join(file), text).expect("written");
                assert_eq!(has_lacked_memory(machine.path(), &container("abc", 42)), Some(lacked));
            }
        }
    }

    #[test]
    fn what_is_not_the_containers_is_not_counted() {
        let machine = machine("8:pids:/docker/abc\n", "pids/docker/abc", "2\n");
        assert_eq!(processes(machine.path(), &container("other", 42)), None);
        assert_eq!(processes(machine.path(), &container("abc", 43)), None);
        fs::write(machine.path().join("sys/fs/cgroup/pids/docker/abc/pids.current"), "?").expect("written");
        assert_eq!(processes(machine.path(), &container("abc", 42)), None);
    }
}
