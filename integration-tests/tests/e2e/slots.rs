//! Networks that are kept ready for jobs: one job after the other gets one, and nothing of a job reaches the next.

use std::io::Write;
use std::net::TcpStream;

use berth_integration_tests::cluster::{Cluster, Place, id_of, job};
use berth_integration_tests::docker;
use berth_integration_tests::dockerd::Dockerd;
use berth_integration_tests::wait::until;
use serde_json::{Value, json};

use crate::MEDIUM;

/// Waits to be let go, at most a minute.
const WAIT: &str = "i=0; while ! [ -e /tmp/go ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done";

fn cluster_with(slots: &str) -> Cluster {
    let mut cluster = Cluster::start();
    cluster.add_executor("executor-1", MEDIUM, &["--network-slots", slots]);
    cluster
}

fn shell(line: &str) -> Value {
    job(&["sh", "-c", line])
}

fn on_bridge(mut job: Value) -> Value {
    job["network"] = json!("bridge");
    job
}

fn of(namespace: &str, mut job: Value) -> Value {
    job["namespace"] = json!(namespace);
    job
}

/// Submits a job again and again until one is put into a slot; gives its id, its container and its slot.
fn in_a_slot(cluster: &Cluster, body: &Value) -> (String, String, String) {
    until("a job is put into a slot", || {
        let (id, container) = begun(cluster, body);
        if let Some(slot) = docker::slot_of(&container) {
            return Some((id, container, slot));
        }
        docker::let_go(&container);
        cluster.ended(&id);
        None
    })
}

/// The same for a slot that is known.
fn in_slot(cluster: &Cluster, body: &Value, slot: &str) -> (String, String) {
    let (id, container, found) = in_a_slot(cluster, body);
    assert_eq!(found, slot, "it is the only one");
    (id, container)
}

/// Submits a job and waits until its container has begun.
fn begun(cluster: &Cluster, body: &Value) -> (String, String) {
    let id = id_of(&cluster.submit(body));
    cluster.reaches(&id, &["RUNNING", "SUCCEEDED", "FAILED"]);
    let container = docker::containers_of(&id).pop().expect("it has a container");
    (id, container)
}

fn ended_well(cluster: &Cluster, id: &str) {
    let job = cluster.ended(id);
    assert_eq!(job["state"], "SUCCEEDED", "{job} {}", cluster.berth_ok(&["logs", id]));
}

fn is_gone(slot: &str) -> bool {
    !docker::docker(&["inspect", slot]).status.success()
}

#[test]
fn a_slot_is_an_idle_container_that_can_do_nothing() {
    let cluster = cluster_with("1");
    let (id, container, slot) = in_a_slot(&cluster, &shell("true"));
    ended_well(&cluster, &id);
    let found = docker::inspect(&slot);
    let (config, host) = (&found["Config"], &found["HostConfig"]);
    assert_eq!((&found["Path"], &config["User"]), (&json!("/pause"), &json!("65534:65534")));
    assert_eq!((&host["CapDrop"], &host["ReadonlyRootfs"]), (&json!(["ALL"]), &json!(true)));
    assert!(host["SecurityOpt"].to_string().contains("no-new-privileges"), "{host}");
    assert_eq!((&host["LogConfig"]["Type"], &host["NetworkMode"]), (&json!("none"), &json!("none")));
    let labels = config["Labels"].as_object().expect("it has labels");
    assert_eq!(
        (&labels["berth.cluster"], &labels["berth.executor"]),
        (&json!(cluster.name), &json!("executor-1"))
    );
    assert!(labels.contains_key("berth.slot") && !labels.contains_key("berth.job"), "{labels:?}");
    let used = docker::inspect(&container);
    let read_only = |mount: &Value| mount["RW"] == json!(false);
    assert_eq!(used["Mounts"].as_array().expect("a list").iter().filter(|mount| read_only(mount)).count(), 3);
}

#[test]
fn a_job_cannot_write_what_belongs_to_its_slot() {
    let cluster = cluster_with("1");
    let line = "id -u; for f in hosts resolv.conf hostname; do
            echo evil >> /etc/$f; rm -f /etc/$f; mv /etc/$f /tmp; mount -o remount,rw /etc/$f; umount /etc/$f; done
        echo evil > /proc/sys/net/ipv4/ip_forward; ip addr add 10.9.8.7/24 dev lo; ip link set lo down
        grep -l evil /etc/hosts /etc/resolv.conf /etc/hostname; ip addr | grep 10.9.8.7; true";
    let (id, container, slot) = in_a_slot(&cluster, &on_bridge(shell(line)));
    ended_well(&cluster, &id);
    let logs = cluster.berth(&["logs", &id]);
    assert_eq!(String::from_utf8_lossy(&logs.stdout), "0\n", "root wrote nothing");
    assert!(String::from_utf8_lossy(&logs.stderr).contains("Read-only file system"));
    let (next, after) = in_slot(&cluster, &on_bridge(shell("cat /etc/hosts; ip addr show lo")), &slot);
    assert_ne!(container, after);
    ended_well(&cluster, &next);
    let seen = cluster.berth_ok(&["logs", &next]);
    assert!(seen.contains("127.0.0.1") && seen.contains("UP") && !seen.contains("evil"), "{seen}");
}

#[test]
fn nothing_of_a_job_is_left_for_the_next_one_in_its_slot() {
    let cluster = cluster_with("1");
    // Listeners that it leaves running, files, and a connection that it closes first.
    let line = "touch /tmp/file /dev/shm/file; setsid listen 0.0.0.0:4242 & setsid listen @name &
        for address in 127.0.0.1:4242 @name; do until connect $address; do sleep 0.1; done; done";
    let (id, _, slot) = in_a_slot(&cluster, &shell(line));
    ended_well(&cluster, &id);
    let line = "ls /tmp /dev/shm | grep file; ps | grep -v -e sh -e ps -e init -e COMMAND -e grep
        tail -n +2 /proc/net/tcp; tail -n +2 /proc/net/unix; connect 127.0.0.1:4242; connect @name
        listen 127.0.0.1:4242 & until connect 127.0.0.1:4242; do sleep 0.1; done";
    let (next, _) = in_slot(&cluster, &shell(line), &slot);
    ended_well(&cluster, &next);
    let logs = cluster.berth(&["logs", &next]);
    let (out, err) = (String::from_utf8_lossy(&logs.stdout), String::from_utf8_lossy(&logs.stderr));
    let said: Vec<&str> = out.lines().filter(|line| !line.starts_with("heard")).collect();
    assert_eq!(said, ["listening 127.0.0.1:4242", "connected 127.0.0.1:4242"], "{out} {err}");
    assert!(
        err.contains("127.0.0.1:4242: Connection refused") && err.contains("@name: Connection refused"),
        "{err}"
    );
}

#[test]
fn what_a_peer_still_sends_to_a_job_never_reaches_the_next_one() {
    let cluster = cluster_with("1");
    let listening = format!("listen 0.0.0.0:4242 & {WAIT}");
    let (id, container, slot) = in_a_slot(&cluster, &on_bridge(shell(&listening)));
    let address =
        docker::inspect(&slot)["NetworkSettings"]["IPAddress"].as_str().expect("it has one").to_owned();
    let connect = || until("it listens", || TcpStream::connect((address.as_str(), 4242)).ok());
    let says = |id: &str, words: &str| {
        until(words, || cluster.berth_ok(&["logs", id]).contains(words).then_some(()))
    };
    let mut peer = connect();
    peer.write_all(b"former").expect("it is connected");
    says(&id, "heard former");
    docker::let_go(&container);
    ended_well(&cluster, &id);
    let (next, container) = in_slot(&cluster, &on_bridge(shell(&listening)), &slot);
    says(&next, "listening");
    // The kernel answers that there is no such connection.
    until("the peer is told", || peer.write_all(b"late").is_err().then_some(()));
    connect().write_all(b"new").expect("it is connected");
    says(&next, "heard new");
    docker::let_go(&container);
    ended_well(&cluster, &next);
    assert!(!cluster.berth_ok(&["logs", &next]).contains("heard late"));
}

#[test]
fn two_jobs_at_a_time_have_slots_of_their_own_and_do_not_reach_one_another() {
    let cluster = cluster_with("2");
    let (one, first, slot) =
        in_a_slot(&cluster, &shell(&format!("listen 127.0.0.1:4242 & listen @name & {WAIT}")));
    let line = format!("connect 127.0.0.1:4242; connect @name; hostname; {WAIT}");
    let (two, second, other) = in_a_slot(&cluster, &shell(&line));
    assert_ne!(slot, other);
    for (id, container) in [(&one, &first), (&two, &second)] {
        docker::let_go(container);
        ended_well(&cluster, id);
    }
    let logs = cluster.berth(&["logs", &two]);
    let (out, err) = (String::from_utf8_lossy(&logs.stdout), String::from_utf8_lossy(&logs.stderr));
    assert_eq!(out.trim(), &other[..12], "its host name is its slot's");
    assert_eq!(err.matches("Connection refused").count(), 2, "{err}");
    assert!(!cluster.berth_ok(&["logs", &one]).contains("heard"));
}

#[test]
fn jobs_of_another_namespace_or_network_never_get_a_used_slot() {
    let cluster = cluster_with("1");
    let (id, _, slot) = in_a_slot(&cluster, &of("one", shell("true")));
    ended_well(&cluster, &id);
    for body in [of("two", shell("true")), on_bridge(of("one", shell("true")))] {
        for _ in 0..3 {
            let (id, container) = begun(&cluster, &body);
            ended_well(&cluster, &id);
            assert_ne!(docker::slot_of(&container).as_ref(), Some(&slot));
        }
    }
}

#[test]
fn a_slot_goes_with_a_job_that_was_stopped() {
    let cluster = cluster_with("1");
    let (id, _, slot) = in_a_slot(&cluster, &shell(WAIT));
    cluster.berth_ok(&["abort", &id]);
    cluster.ended(&id);
    until("the slot is gone", || is_gone(&slot).then_some(()));
}

#[test]
fn a_slot_goes_with_a_job_that_was_killed() {
    let cluster = cluster_with("1");
    let (id, container, slot) = in_a_slot(&cluster, &shell(WAIT));
    docker::docker_ok(&["kill", &container]);
    cluster.ended(&id);
    until("the slot is gone", || is_gone(&slot).then_some(()));
}

#[test]
fn a_dead_slot_costs_no_job() {
    let mut cluster = cluster_with("2");
    let (one, first, slot) = in_a_slot(&cluster, &shell(WAIT));
    let (two, second, other) = in_a_slot(&cluster, &shell(WAIT));
    for (id, container) in [(&one, &first), (&two, &second)] {
        docker::let_go(container);
        ended_well(&cluster, id);
    }
    // As an engine leaves them that was started anew, and as one does that has forgotten them.
    let slots = [slot, other];
    docker::docker_ok(&["kill", &slots[0]]);
    docker::docker_ok(&["rm", "-f", &slots[1]]);
    for _ in 0..4 {
        let id = cluster.shell("echo fine");
        ended_well(&cluster, &id);
    }
    until("dead slots are removed", || slots.iter().all(|slot| is_gone(slot)).then_some(()));
    let (id, _, _) = in_a_slot(&cluster, &shell("true"));
    ended_well(&cluster, &id);
    assert_eq!(cluster.executors[0].process.stop(), Some(0));
}

#[test]
#[ignore = "needs root: a Docker Engine of its own, in a network namespace"]
fn slots_that_an_engine_has_ended_cost_no_job_and_are_removed() {
    let mut engine = Dockerd::start(&["--bridge", "none"]);
    let mut cluster = Cluster::start();
    let host = engine.host();
    let place = Place { environment: &[("DOCKER_HOST", &host)], ..Place::default() };
    cluster.add_executor_in(place, "executor-1", MEDIUM, &["--cleanup-after", "0s"]);
    let slots = || engine_slots(&engine);
    let before = until("there is a slot", || {
        ended_well(&cluster, &cluster.shell("true"));
        Some(slots()).filter(|slots| !slots.is_empty())
    });
    engine.process.kill();
    engine.again();
    for _ in 0..4 {
        ended_well(&cluster, &cluster.shell("true"));
    }
    let slots = || engine_slots(&engine);
    until("dead slots are removed", || before.iter().all(|slot| !slots().contains(slot)).then_some(()));
    until("there is a new one", || {
        ended_well(&cluster, &cluster.shell("true"));
        (!slots().is_empty()).then_some(())
    });
}

fn engine_slots(engine: &Dockerd) -> Vec<String> {
    let list = engine.docker_ok(&["ps", "-aq", "--no-trunc", "--filter", "label=berth.slot"]);
    list.lines().map(str::to_owned).collect()
}

#[test]
fn idle_slots_go_with_their_executor_and_those_in_use_with_their_job() {
    let mut cluster = cluster_with("2");
    let (id, container, used) = in_a_slot(&cluster, &shell(WAIT));
    assert_eq!(cluster.executors[0].process.stop(), Some(0));
    assert_eq!(docker::slots(&cluster.name).join(" "), used);
    cluster.restart_executor(0);
    docker::let_go(&container);
    ended_well(&cluster, &id);
    until("the slot is gone", || is_gone(&used).then_some(()));
    let (id, container, used) = in_a_slot(&cluster, &shell(WAIT));
    // It is killed, so that it leaves everything.
    cluster.restart_executor(0);
    until("only the slot in use is left", || (docker::slots(&cluster.name).join(" ") == used).then_some(()));
    docker::let_go(&container);
    ended_well(&cluster, &id);
    until("the slot is gone", || is_gone(&used).then_some(()));
}

#[test]
fn slots_can_be_turned_off() {
    let cluster = cluster_with("off");
    for _ in 0..4 {
        let (id, container) = begun(&cluster, &shell("true"));
        ended_well(&cluster, &id);
        assert_eq!(docker::slot_of(&container), None);
    }
    assert_eq!(docker::slots(&cluster.name), Vec::<String>::new());
}
