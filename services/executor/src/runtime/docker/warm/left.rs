//! Counts what is in a container by what the kernel shows of it, where this process is on the engine's machine: it
//! takes no call, and the engine's own answer takes it a process. It asks no engine.

use std::fs;
use std::path::Path;

use super::pool::Container;

/// Counts the processes and threads in a container, below a machine's root; `None` where that is not to be seen.
pub(super) fn processes(root: &Path, container: &Container) -> Option<usize> {
    let groups = fs::read_to_string(root.join(format!("proc/{}/cgroup", container.pid))).ok()?;
    groups.lines().find_map(|line| {
        // As proc(5) and cgroups(7) have it: hierarchy, controllers (none in version 2), path.
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let hierarchy = match controllers {
            "" => "",
            several => several.split(',').find(|controller| *controller == "pids")?,
        };
        // Elsewhere, or later, the number may be another process's.
        if !path.contains(&container.id) {
            return None;
        }
        let group = root.join("sys/fs/cgroup").join(hierarchy).join(path.trim_start_matches('/'));
        fs::read_to_string(group.join("pids.current")).ok()?.trim().parse().ok()
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
    fn what_is_not_the_containers_is_not_counted() {
        let machine = machine("8:pids:/docker/abc\n", "pids/docker/abc", "2\n");
        assert_eq!(processes(machine.path(), &container("other", 42)), None);
        assert_eq!(processes(machine.path(), &container("abc", 43)), None);
        fs::write(machine.path().join("sys/fs/cgroup/pids/docker/abc/pids.current"), "?").expect("written");
        assert_eq!(processes(machine.path(), &container("abc", 42)), None);
    }
}
