//! Commands that report what a process sees of its own container; they change nothing.

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::{Failure, Outcome};

/// Prints every variable as `NAME=VALUE`, ordered by name.
pub fn environment() -> Outcome {
    let mut variables: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    variables.sort();
    print(&variables)
}

/// Prints one variable's value; one that is not set is a failure.
pub fn variable(name: &str) -> Outcome {
    match std::env::var_os(name) {
        Some(value) => print(&[value.to_string_lossy().into_owned()]),
        None => Err(Failure::Work(format!("{name} is not set"))),
    }
}

/// Prints the effective user and group, the effective capabilities, and how the process is confined.
///
/// One `name=value` a line: `uid`, `gid`, `groups`, `CapEff` (hexadecimal), `NoNewPrivs`, `Seccomp` (0 off, 2 filter).
pub fn whoami() -> Outcome {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| Failure::Work(format!("/proc/self/status: {error}")))?;
    print(&[
        format!("uid={}", effective_id(&status, "Uid")),
        format!("gid={}", effective_id(&status, "Gid")),
        format!("groups={}", status_field(&status, "Groups")),
        format!("CapEff={}", status_field(&status, "CapEff")),
        format!("NoNewPrivs={}", status_field(&status, "NoNewPrivs")),
        format!("Seccomp={}", status_field(&status, "Seccomp")),
    ])
}

/// Prints the limits of the process's own control group, version 2 or 1, as far as they can be read.
///
/// One `name=value` a line: `cgroup` (2 or 1), `memory_bytes`, `cpu_quota_us` and `cpu_period_us`. A value is a number,
/// `max` for no limit (version 1 says -1, or a number near 2^63) or `unknown`.
pub fn limits() -> Outcome {
    const ROOT: &str = "/sys/fs/cgroup";
    let unknown = || "unknown".to_owned();
    if let Some(cpu) = read_line(&format!("{ROOT}/cpu.max")) {
        let (quota, period) = cpu.split_once(' ').unwrap_or((&cpu, "unknown"));
        let memory = read_line(&format!("{ROOT}/memory.max")).unwrap_or_else(unknown);
        return print_limits("2", &memory, quota, period);
    }
    let v1 = |file: &str| read_line(&format!("{ROOT}/{file}")).unwrap_or_else(unknown);
    print_limits(
        "1",
        &v1("memory/memory.limit_in_bytes"),
        &v1("cpu/cpu.cfs_quota_us"),
        &v1("cpu/cpu.cfs_period_us"),
    )
}

fn print_limits(version: &str, memory: &str, quota: &str, period: &str) -> Outcome {
    print(&[
        format!("cgroup={version}"),
        format!("memory_bytes={memory}"),
        format!("cpu_quota_us={quota}"),
        format!("cpu_period_us={period}"),
    ])
}

fn print(lines: &[String]) -> Outcome {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn read_line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Takes the effective one of the four ids in a line `Uid: real effective saved filesystem`.
fn effective_id(status: &str, name: &str) -> String {
    status_field(status, name).split_whitespace().nth(1).unwrap_or("unknown").to_owned()
}

fn status_field(status: &str, name: &str) -> String {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\tx\nUid:\t0\t65534\t0\t0\nCapEff:\t00000000a80425fb\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn status_fields_are_found_by_their_whole_name() {
        assert_eq!(effective_id(STATUS, "Uid"), "65534");
        assert_eq!(status_field(STATUS, "Seccomp"), "2");
        assert_eq!(status_field(STATUS, "Cap"), "unknown");
    }
}
