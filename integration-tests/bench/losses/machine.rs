//! The machine beneath an executor: rebooted, and out of room.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use berth_integration_tests::cluster::{Cluster, Place};
use berth_integration_tests::docker::is_running;
use berth_integration_tests::tools;
use berth_integration_tests::wait::{stays, until, until_within};
use serde_json::json;

use crate::Row;
use crate::support::{CLOCKS, SIZE, UNTIL_LET_GO, end_of, held, let_go, patient, with};

/// What happens to machines.
pub const ROWS: &[Row] = &[
    Row::rooted(
        "host-reboot",
        "another boot id at the executor's next start; containers ended with 0 and 255",
        reboot,
    ),
    Row::rooted(
        "disk-full",
        "the executor's file system filled while a job ends; room made later",
        disk_full,
    ),
];

fn reboot() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    let folder = tools::folder();
    let file = folder.path().join("boot_id");
    std::fs::write(&file, "11111111-1111-1111-1111-111111111111\n").expect("a file can be written");
    let script = format!("mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$@\"", file.display());
    let under = ["unshare", "-m", "sh", "-c", script.as_str(), "sh"];
    let place = Place { under: &under, ..Place::default() };
    cluster.add_executor_in(place, "executor-1", SIZE, &[]);
    let job = |code: u32, on_lost: &str| {
        let line = UNTIL_LET_GO.replace("exit 7", &format!("exit {code}"));
        let line = format!("[ \"$BERTH_ATTEMPT\" != 1 ] && exit 8; {line}");
        cluster.running(&with(patient(&["sh", "-c", &line]), on_lost))
    };
    let jobs = [job(0, "RETRY"), job(255, "RETRY"), job(0, "FAIL")];
    cluster.executors[0].process.kill();
    for (_, container) in &jobs {
        let_go(container);
        until("it has ended", || (!is_running(container)).then_some(()));
    }
    std::fs::write(&file, "22222222-2222-2222-2222-222222222222\n").expect("a file can be written");
    cluster.restart_executor(0);
    for (id, _) in &jobs[..2] {
        let ended = cluster.ended(id);
        assert_eq!(end_of(&ended), ("FAILED".into(), 8, 2), "run again, whatever the old code: {ended}");
    }
    let once = cluster.ended(&jobs[2].0);
    assert_eq!(
        (&once["state"], &once["endReason"], &once["attempt"]),
        (&json!("FAILED"), &json!("EXECUTOR_FAULT"), &json!(1)),
        "{once}"
    );
    format!(
        "exit codes 0 and 255 of the old boot counted for nothing: both ran again; fail ended once: {}",
        once["message"]
    )
}

/// A small file system of the recipe's own.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Self {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at).status();
        assert!(mounted.expect("mount runs").success(), "a tmpfs can be mounted");
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn disk_full() -> String {
    let mut cluster = Cluster::start_with(&CLOCKS);
    let folder = tools::folder();
    let _small = Small::mount(folder.path());
    let place = Place { folder: Some(folder.path()), ..Place::default() };
    cluster.add_executor_in(place, "executor-1", SIZE, &[]);
    let (id, container) = cluster.running(&held("FAIL"));
    let ballast = folder.path().join("ballast");
    let mut file = std::fs::File::create(&ballast).expect("a file can be made");
    // Ends with "no space left".
    let _ = std::io::copy(&mut std::io::repeat(b'x'), &mut file);
    let_go(&container);
    until("it has ended", || (!is_running(&container)).then_some(()));
    stays("an end that is not on disk is not told", Duration::from_secs(5), || {
        cluster.job(&id)["state"] == "RUNNING"
    });
    let said = |cluster: &Cluster| {
        let output = cluster.executors[0].process.output();
        output
            .lines()
            .filter(|line| line.contains("WARN") || line.contains("ERROR"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let warnings = said(&cluster);
    assert!(!warnings.is_empty() && warnings.len() <= 5, "{} warnings: {warnings:?}", warnings.len());
    std::fs::remove_file(&ballast).expect("the ballast is there");
    drop(file);
    let ended = until_within(Duration::from_secs(30), "the job ends once there is room", || {
        let job = cluster.job(&id);
        (job["state"] == "FAILED").then_some(job)
    });
    assert_eq!(end_of(&ended), ("FAILED".into(), 7, 1));
    format!(
        "not told while it could not be kept; {} warnings; its 7 was told once there was room",
        warnings.len()
    )
}
