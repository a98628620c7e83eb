//! `berth run` against a cluster that plays a script: output, exit codes, failover, interrupts.
use std::process::Stdio;
use std::time::Instant;

use crate::fake::{Cluster, Left, Proxy, Step, berth, call, dead_address, serve};
use berth_api::v1::log_entry::Stream::{Stderr, Stdout};
use berth_api::v1::{EndReason, JobState};
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};

fn out(text: &'static str) -> Step {
    Step::Write(Stdout, Bytes::from_static(text.as_bytes()))
}

fn err(text: &'static str) -> Step {
    Step::Write(Stderr, Bytes::from_static(text.as_bytes()))
}

fn exits(code: i32) -> Step {
    let state = if code == 0 { JobState::Succeeded } else { JobState::Failed };
    Step::End(state, EndReason::ExitCode, Some(code))
}

async fn run(script: Vec<Step>) -> Left {
    let address = serve(&Cluster::new(Vec::new(), script)).await;
    call(&[address], &["run", "busybox", "do"]).await
}

#[tokio::test]
async fn output_goes_where_it_was_written_and_the_exit_code_is_the_jobs_own() {
    let pause = Step::Sleep(150);
    let script = [
        vec![pause.clone(), Step::Assign, pause.clone(), Step::Start, pause.clone()],
        vec![out("one\n"), err("two\n"), pause.clone(), out("three, with no end of line"), pause, exits(3)],
    ];
    let left = run(script.concat()).await;
    assert_eq!((left.code, left.stdout.as_str()), (3, "one\nthree, with no end of line"), "{left:?}");
    let stderr: Vec<&str> = left.stderr.lines().skip(1).collect();
    let expected = [
        "berth: queued",
        "berth: assigned on executor-1",
        "berth: running on executor-1",
        "two",
        "berth: failed (EXIT_CODE): as the script says",
    ];
    assert_eq!(stderr, expected, "{left:?}");
}

#[tokio::test]
async fn a_job_that_ends_at_once_leaves_all_its_output() {
    let piece = Bytes::from("0123456789abcdef\n".repeat(4_096));
    let mut script = vec![Step::Assign, Step::Start];
    script.extend(std::iter::repeat_n(Step::Write(Stdout, piece.clone()), 32));
    script.push(exits(0));
    let left = run(script).await;
    assert_eq!(left.code, 0, "{}", left.stderr);
    assert_eq!(left.stdout.len(), piece.len() * 32);
}

#[tokio::test]
async fn ends_that_are_not_the_jobs_own_have_dockers_codes() {
    let end = |reason, code| vec![Step::Assign, Step::Start, Step::End(JobState::Failed, reason, code)];
    let oom = run(end(EndReason::OomKilled, Some(137))).await;
    assert_eq!(oom.code, 137);
    assert!(oom.stderr.contains("killed: out of memory"), "{}", oom.stderr);
    assert_eq!(run(end(EndReason::RunTimeout, Some(137))).await.code, 124);
    let never = run(vec![Step::End(JobState::Failed, EndReason::QueueTimeout, None)]).await;
    assert_eq!(never.code, 125);
    assert!(never.stderr.contains("failed (QUEUE_TIMEOUT): as the script says"), "{}", never.stderr);
}

#[tokio::test]
async fn a_refused_job_is_125_and_a_wrong_flag_2() {
    let address = serve(&Cluster::new(Vec::new(), Vec::new())).await;
    let refused = call(&[address], &["run", "refused"]).await;
    assert_eq!(refused.code, 125);
    assert_eq!(refused.stderr, "error: spec.image: is refused here\n");
    let wrong = call(&[address], &["run", "-it", "busybox", "sh"]).await;
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("error: -i and -t are not possible"), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("hint: "), "{}", wrong.stderr);
}

#[tokio::test]
async fn a_lost_answer_to_the_submit_does_not_make_two_jobs() {
    let cluster = Cluster::new(Vec::new(), vec![Step::Assign, Step::Start, exits(0)]);
    let address = serve(&cluster).await;
    let left = call(&[address], &["run", "-d", "unanswered"]).await;
    assert_eq!((left.code, left.stdout.as_str()), (0, "0193ffff-0000\n"), "{left:?}");
    assert_eq!(cluster.known().jobs.len(), 1);
    assert_eq!(cluster.calls(), ["submit", "submit"]);
}

#[tokio::test]
async fn every_attempt_of_a_retried_job_is_shown() {
    let script = vec![
        Step::Assign,
        Step::Start,
        out("first\n"),
        Step::Requeue("exit code 1; attempt 2 follows"),
        Step::Sleep(300),
        Step::Assign,
        Step::Start,
        out("second\n"),
        Step::Sleep(300),
        exits(0),
    ];
    let left = run(script).await;
    assert_eq!((left.code, left.stdout.as_str()), (0, "first\nsecond\n"), "{left:?}");
}

#[tokio::test]
async fn the_death_of_a_scheduler_is_not_seen() {
    let mut script = vec![Step::Assign, Step::Start];
    for line in ["0\n", "1\n", "2\n", "3\n", "4\n", "5\n", "6\n", "7\n", "8\n", "9\n"] {
        script.extend([out(line), Step::Sleep(150)]);
    }
    script.push(exits(7));
    let cluster = Cluster::new(Vec::new(), script);
    let address = serve(&cluster).await;
    let (first, second) = (Proxy::to(address).await, Proxy::to(address).await);
    let mut command = berth(&[first.address, second.address], &["run", "busybox", "count"]);
    let mut child = command.spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    let mut shown = Vec::new();
    while let Some(line) = lines.next_line().await.expect("is read") {
        if line == "2" {
            first.cut();
        }
        shown.push(line);
    }
    let left: Left = child.wait_with_output().await.expect("ends").into();
    assert_eq!((left.code, shown.join(" ").as_str()), (7, "0 1 2 3 4 5 6 7 8 9"), "{left:?}");
    assert!(!left.stderr.contains("error"), "{left:?}");
    let calls = cluster.calls();
    assert!(calls.contains(&"watch resumed".to_owned()), "{calls:?}");
    assert!(calls.iter().any(|call| call.starts_with("logs 1 from ") && call != "logs 1 from 0 follow true"));
}

#[tokio::test]
async fn ctrl_c_aborts_the_job() {
    let script = vec![Step::Assign, Step::Start, out("ready\n"), Step::Sleep(60_000)];
    let cluster = Cluster::new(Vec::new(), script);
    let address = serve(&cluster).await;
    let mut child = berth(&[address], &["run", "busybox", "sleep"]).spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    assert_eq!(lines.next_line().await.expect("is read").as_deref(), Some("ready"));
    interrupt(child.id().expect("runs"));
    let left: Left = child.wait_with_output().await.expect("ends").into();
    assert_eq!(left.code, 130, "{left:?}");
    assert!(left.stderr.contains("aborted: as the script says"), "{left:?}");
    assert!(cluster.calls().contains(&"abort interrupted by its user".to_owned()));
}

#[tokio::test]
async fn a_second_ctrl_c_leaves_at_once_and_names_the_job() {
    let script = vec![Step::Assign, Step::Start, out("ready\n"), Step::Sleep(60_000)];
    let cluster = Cluster::new(Vec::new(), script);
    let address = serve(&cluster).await;
    let mut child = berth(&[address], &["run", "stubborn"]).spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    assert_eq!(lines.next_line().await.expect("is read").as_deref(), Some("ready"));
    let pid = child.id().expect("runs");
    interrupt(pid);
    cluster.asked("abort interrupted by its user").await;
    assert!(child.try_wait().expect("can be asked").is_none(), "the first one only aborts");
    interrupt(pid);
    let left: Left = child.wait_with_output().await.expect("ends").into();
    assert_eq!(left.code, 130, "{left:?}");
    assert!(left.stderr.contains("left job 0193ffff-0000"), "{left:?}");
}

fn interrupt(pid: u32) {
    let pid = Pid::from_raw(pid.try_into().expect("a process id"));
    kill(pid, Signal::SIGINT).expect("the program can be signalled");
}

#[tokio::test]
async fn a_reader_that_leaves_does_not_change_the_exit_code() {
    let script =
        vec![Step::Assign, Step::Start, out("1\n"), Step::Sleep(500), out("2\n"), Step::Sleep(100), exits(5)];
    let address = serve(&Cluster::new(Vec::new(), script)).await;
    let mut child = berth(&[address], &["run", "busybox"]).spawn().expect("the program starts");
    drop(child.stdout.take());
    let left: Left = child.wait_with_output().await.expect("ends").into();
    assert_eq!(left.code, 5, "{left:?}");
    assert!(!left.stderr.contains("panick"), "{left:?}");
}

#[tokio::test]
async fn an_unreachable_cluster_is_125_for_run() {
    let began = Instant::now();
    let mut command = berth(&[dead_address().await], &["--retry-for", "1s", "run", "busybox"]);
    let left: Left = command.stdout(Stdio::piped()).output().await.expect("the program starts").into();
    assert_eq!(left.code, 125, "{left:?}");
    assert!(left.stderr.starts_with("error: no scheduler answered at 127.0.0.1:"), "{left:?}");
    assert!((900..3_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}
