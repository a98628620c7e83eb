//! Hosts: network namespaces with an address each, on one bridge, that can be cut off and slowed down.
//! They live in a network of their own, of which the machine's own knows nothing, and end with it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use berth_integration_tests::process::Process;
use berth_integration_tests::wait::until;

/// Set inside the network of their own.
const INSIDE: &str = "BERTH_CHAOS_INSIDE";
/// Where whoever is on no host is: Redis, clients and watchers.
pub const HOME: &str = "10.77.0.1";
/// What a slow link carries.
const SLOW: [&str; 8] = ["root", "tbf", "rate", "24kbit", "burst", "1600", "latency", "3s"];

/// Which packets of a host are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Those that it sends.
    Out,
    /// Those that it is sent.
    In,
    /// All.
    Both,
}

/// Starts this program anew in a network of its own, unless it is there already.
///
/// # Errors
/// Fails with what is missing.
pub fn enter() -> Result<(), String> {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["link", "add", "home", "type", "bridge"]);
        run("ip", &["addr", "add", &format!("{HOME}/24"), "dev", "home"]);
        run("ip", &["link", "set", "home", "up"]);
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let error = command.arg("--net").arg(program).args(std::env::args().skip(1)).env(INSIDE, "1").exec();
    Err(format!("unshare (util-linux): {error}"))
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {says}");
}

/// A host.
pub struct Host {
    /// Its address.
    pub address: String,
    /// Its end of its link.
    link: String,
    /// Keeps the namespace.
    holder: Process,
}

impl Host {
    /// Makes a host, by its number from 1.
    pub fn new(number: usize) -> Self {
        let holder = Process::start("host", Command::new("unshare").args(["--net", "sleep", "infinity"]));
        let own = std::fs::read_link("/proc/self/ns/net").expect("a process has a network");
        let namespace = format!("/proc/{}/ns/net", holder.pid());
        until("the host has a network of its own", || {
            std::fs::read_link(&namespace).is_ok_and(|network| network != own).then_some(())
        });
        let (link, peer) = (format!("host{number}"), format!("port{number}"));
        let pid = holder.pid().to_string();
        run("ip", &["link", "add", &link, "type", "veth", "peer", "name", &peer]);
        run("ip", &["link", "set", &peer, "master", "home", "up"]);
        run("ip", &["link", "set", &link, "netns", &pid]);
        let host = Self { address: format!("10.77.0.{}", 10 + number), link, holder };
        host.run("ip", &["link", "set", "lo", "up"]);
        host.run("ip", &["addr", "add", &format!("{}/24", host.address), "dev", &host.link]);
        host.run("ip", &["link", "set", &host.link, "up"]);
        host
    }

    /// The words that run a program on it, before those of the program.
    pub fn under(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.holder.pid())]
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let [enter, network] = self.under();
        run(&enter, &[&[network.as_str(), program], arguments].concat());
    }

    fn filter(&self, verb: &str, way: Way) {
        if way != Way::Out {
            self.run("iptables", &["-w", verb, "INPUT", "-i", &self.link, "-j", "DROP"]);
        }
        if way != Way::In {
            self.run("iptables", &["-w", verb, "OUTPUT", "-o", &self.link, "-j", "DROP"]);
        }
    }

    /// Drops packets from now on, without a word to anybody.
    pub fn cut(&self, way: Way) {
        self.filter("-A", way);
    }

    /// Lets them through again.
    pub fn mend(&self, way: Way) {
        self.filter("-D", way);
    }

    /// Makes what it sends crawl.
    pub fn slow_down(&self) {
        self.run("tc", &[&["qdisc", "add", "dev", self.link.as_str()], &SLOW[..]].concat());
    }

    /// Lets it send as fast as it can again.
    pub fn speed_up(&self) {
        self.run("tc", &["qdisc", "del", "dev", &self.link, "root"]);
    }
}
