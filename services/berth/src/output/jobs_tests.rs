//! Golden texts of jobs.

use super::*;
use berth_api::v1::{EndReason, PendingReason};
use prost_types::Timestamp as WireTime;

const NOW: i64 = 1_800_000_000;

fn ago(seconds: i64) -> Option<WireTime> {
    Some(WireTime { seconds: NOW - seconds, nanos: 0 })
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("is in range")
}

fn some_jobs() -> Vec<Job> {
    let waiting = Job {
        id: "0193ab01".into(),
        state: JobState::Pending.into(),
        create_time: ago(5),
        pending_reason: Some(PendingReason {
            message: "Fits 3 executors, none free now; 14 jobs ahead.".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let failed = Job {
        id: "0193ab02".into(),
        display_name: "nightly".into(),
        namespace: "default".into(),
        spec: Some(JobSpec {
            image: "busybox:latest".into(),
            command: vec!["sh".into(), "-c".into(), "exit 3".into()],
            resources: Some(Resources { cpu_millis: 1_500, memory_bytes: 512 << 20, ..Default::default() }),
            labels: BTreeMap::from([("team".into(), "ml".into())]),
            priority: Some(50),
            ..Default::default()
        }),
        state: JobState::Failed.into(),
        end_reason: EndReason::ExitCode.into(),
        exit_code: Some(3),
        executor_id: "executor-1".into(),
        attempt: 1,
        create_time: ago(300),
        start_time: ago(290),
        end_time: ago(98),
        message: "The main process exited with 3.".into(),
        ..Default::default()
    };
    vec![waiting, failed]
}

#[test]
fn a_list_has_one_line_a_job() {
    let expected = "\
ID        NAME     STATE    EXIT  EXECUTOR    AGE  RAN    WHY
0193ab01  -        PENDING  -     -           5s   -      Fits 3 executors, none free now; 14 jobs ahead.
0193ab02  nightly  FAILED   3     executor-1  5m   3m12s  EXIT_CODE: The main process exited with 3.
";
    assert_eq!(list(&some_jobs(), false, now()), expected);
}

#[test]
fn a_wide_list_shows_the_spec() {
    let text = list(&some_jobs()[1..], true, now());
    let row = text.lines().nth(1).expect("there is a row");
    assert!(
        row.ends_with(
            "busybox:latest  sh -c 'exit 3'  1.5   512Mi   0     1        50        team=ml  default"
        ),
        "{row}"
    );
}

#[test]
fn a_job_in_full_leaves_out_what_is_not_set() {
    let expected = "\
Id:        0193ab02
Name:      nightly
Namespace: default
State:     FAILED
Why:       EXIT_CODE: The main process exited with 3.
Exit code: 3
Executor:  executor-1
Attempt:   1
Submitted: 2027-01-15T07:55:00Z (5m ago)
Started:   2027-01-15T07:55:10Z (4m50s ago)
Ended:     2027-01-15T07:58:22Z (1m38s ago)
Ran:       3m12s
Image:     busybox:latest
Command:   sh -c 'exit 3'
CPUs:      1.5
Memory:    512Mi
Priority:  50
Labels:    team=ml
";
    assert_eq!(detail(&some_jobs()[1], now()), expected);
}
