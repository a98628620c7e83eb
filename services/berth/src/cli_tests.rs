//! How command lines are read.

use super::*;
use clap::error::ErrorKind;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("berth").chain(line.split_whitespace()))
}

fn refusal(line: &str) -> String {
    let error = parse(line).err().map(|error| error.to_string());
    error.unwrap_or_else(|| panic!("must be refused: {line}"))
}

fn run_args(line: &str) -> run::Args {
    match parse(line).map(|cli| cli.command) {
        Ok(Command::Run(args)) => *args,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn flags_after_the_image_belong_to_the_command() {
    let args = run_args("run --name n -e A=1 busybox sh -c -e --name x -- -d --rm");
    let request = args.request().expect("is valid");
    let spec = request.spec.expect("has a spec");
    assert_eq!(spec.image, "busybox");
    assert_eq!(spec.command, ["sh", "-c", "-e", "--name", "x", "--", "-d", "--rm"]);
    assert_eq!((request.display_name.as_str(), spec.env["A"].as_str()), ("n", "1"));
    let direct = run_args("run busybox -e B=2 --help").request().expect("is valid");
    assert_eq!(direct.spec.expect("has a spec").command, ["-e", "B=2", "--help"]);
}

#[test]
fn flags_become_the_spec() {
    let line = "run --cpus 1.5 -m 512m --gpus a100:2 -w /w -l team=ml --label x=y --priority 70 --timeout 1h \
                --queue-timeout 0 --retries 2 --on-lost hold --stop-grace 30s --pull never --network none --reuse warm \
                --namespace ns --request-id key --rm busybox";
    let request = run_args(line).request().expect("is valid");
    let spec = request.spec.expect("has a spec");
    let resources = spec.resources.clone().expect("has resources");
    assert_eq!((resources.cpu_millis, resources.memory_bytes, resources.gpu_count), (1_500, 512 << 20, 2));
    assert_eq!(resources.gpu_models, ["a100"]);
    assert_eq!((spec.working_dir.as_str(), spec.namespace.as_str()), ("/w", "ns"));
    assert_eq!((spec.network.as_str(), spec.pull_policy.as_str()), ("none", "never"));
    assert_eq!(spec.reuse, "warm");
    assert_eq!((spec.priority, spec.max_retries), (Some(70), 2));
    assert_eq!(spec.on_lost(), berth_api::v1::OnLost::Hold);
    assert_eq!(spec.run_timeout.map(|d| d.seconds), Some(3_600));
    assert_eq!(spec.queue_timeout.map(|d| d.seconds), Some(0), "0 waits for ever, and is not unset");
    assert_eq!(spec.stop_grace.map(|d| d.seconds), Some(30));
    assert_eq!(spec.labels.len(), 2);
    assert_eq!(request.request_id, "key");
    assert!(spec.command.is_empty());
}

#[test]
fn a_plain_job_leaves_all_to_the_cluster_but_can_be_repeated() {
    let request = run_args("run busybox").request().expect("is valid");
    assert!(!request.request_id.is_empty());
    let spec = request.spec.expect("has a spec");
    assert_eq!((spec.priority, spec.run_timeout, spec.queue_timeout), (None, None, None));
    assert_eq!(spec.resources, Some(Default::default()));
}

#[test]
fn what_a_cluster_cannot_do_is_refused_with_the_reason() {
    assert!(refusal("run --gpus all busybox").contains("how many?"));
    assert!(refusal("run -m 1GB busybox").contains("write \"1Gi\""));
    assert!(refusal("run --pull always busybox").contains("missing, never"));
    for line in ["run -it busybox sh", "run -i busybox sh", "run --tty busybox sh"] {
        let failure = run_args(line).request().expect_err("must be refused");
        assert_eq!(failure.exit, crate::failure::USAGE);
        assert!(failure.message.starts_with("-i and -t are not possible"), "{failure}");
    }
    let failure = run_args("run -v /a:/b busybox").request().expect_err("must be refused");
    assert_eq!(failure.exit, crate::failure::USAGE);
    assert!(failure.message.contains("bind mounts are not allowed"), "{failure}");
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    for line in ["run", "run --nonsense busybox", "wait", "ps --state done", "ps -o xml", "--addr s1 ps"] {
        let error = parse(line).err().unwrap_or_else(|| panic!("must be refused: {line}"));
        assert_eq!(error.exit_code(), 2, "{line}");
        assert_ne!(error.kind(), ErrorKind::DisplayHelp, "{line}");
    }
}

#[test]
fn addresses_may_stand_anywhere_before_the_image() {
    for line in ["--addr s1:1,s2:2 run busybox", "run --addr s1:1,s2:2 busybox"] {
        let cli = parse(line).expect("is valid");
        assert_eq!(cli.cluster.addr.as_slice(), ["s1:1", "s2:2"]);
    }
}

#[test]
fn help_tells_where_a_role_keeps_its_files() {
    for role in ["dev", "scheduler", "executor"] {
        let help = refusal(&format!("{role} --help")).split_whitespace().collect::<Vec<_>>().join(" ");
        let told = format!("by default ~/.local/share/berth/{role}, for root /var/lib/berth/{role}");
        assert!(help.contains(&told), "{help}");
        let folder = daemon::home::default_data_dir(role);
        let places =
            [".local/share/berth", "/var/lib/berth"].map(|place| std::path::Path::new(place).join(role));
        assert!(places.iter().any(|place| folder.ends_with(place)), "{}", folder.display());
    }
}
