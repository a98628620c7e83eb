//! What a program leaves to the one that takes its place in the process: one environment variable.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::program::Fingerprint;

/// Where it is left. For Berth alone: nobody sets it.
pub(super) const VARIABLE: &str = "BERTH_RELOAD_HERITAGE";

/// What is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Heritage {
    /// The process. In any other the variable came by accident, and means nothing.
    pid: u32,
    /// The program's file: after a start of the old program its own name may be another one.
    pub path: PathBuf,
    /// That file as it was when it was tried out: what differs from it is new.
    pub program: Fingerprint,
    /// The addresses that were listened on, by flag.
    pub listening: BTreeMap<String, SocketAddr>,
}

impl Heritage {
    /// Puts together what this process leaves.
    pub(super) fn new(path: PathBuf, program: Fingerprint, listening: BTreeMap<String, SocketAddr>) -> Self {
        Self { pid: std::process::id(), path, program, listening }
    }

    /// Writes it as the variable's value.
    pub(super) fn to_value(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Reads the variable's value; `None` unless this very process left it.
    pub(super) fn of_value(value: &str) -> Option<Self> {
        let heritage: Self = serde_json::from_str(value).ok()?;
        (heritage.pid == std::process::id()).then_some(heritage)
    }

    /// The address to take again for a flag: the one before where the flag leaves the port open.
    pub(super) fn address(&self, flag: &str, wanted: SocketAddr) -> Option<SocketAddr> {
        let before = *self.listening.get(flag)?;
        let same = before.ip() == wanted.ip() && (wanted.port() == 0 || wanted.port() == before.port());
        same.then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("is an address")
    }

    fn heritage() -> Heritage {
        let listening = [("--grpc-listen".to_owned(), address("127.0.0.1:4000"))];
        Heritage::new("/bin/berth".into(), Fingerprint::of_parts(1, 2, 3, 4), listening.into())
    }

    #[test]
    fn it_is_read_by_the_same_process_alone() {
        let value = heritage().to_value().expect("is written");
        assert_eq!(Heritage::of_value(&value), Some(heritage()));
        let foreign = Heritage { pid: std::process::id() + 1, ..heritage() };
        assert_eq!(Heritage::of_value(&foreign.to_value().expect("is written")), None);
        assert_eq!(Heritage::of_value("nonsense"), None);
    }

    #[test]
    fn a_port_that_was_left_open_is_the_one_of_before() {
        let before = heritage();
        let again = |wanted: &str| before.address("--grpc-listen", address(wanted));
        assert_eq!(again("127.0.0.1:0"), Some(address("127.0.0.1:4000")));
        assert_eq!(again("127.0.0.1:4000"), Some(address("127.0.0.1:4000")));
        assert_eq!(again("127.0.0.1:5000"), None, "another port is wanted now");
        assert_eq!(again("0.0.0.0:0"), None, "another address is wanted now");
        assert_eq!(before.address("--http-listen", address("127.0.0.1:0")), None);
    }
}
