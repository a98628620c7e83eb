//! An image registry on this machine, and a way to make it slow.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::docker::docker_ok;
use crate::process::Process;
use crate::tools;
use crate::wait::until;

/// A registry.
pub struct Registry {
    /// Where it is, host:port.
    pub address: String,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// Starts an empty registry on a free port.
    pub fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("it has an address").to_string();
        drop(free);
        let folder = tools::folder();
        let storage = folder.path().join("storage").display().to_string();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {storage}\nhttp:\n  addr: {address}\n"
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).expect("a file can be written");
        let mut command = Command::new(tools::tool("registry"));
        command.args(["serve", &file.display().to_string()]);
        let process = Process::start("registry", &mut command);
        until("the registry listens", || TcpStream::connect(&address).ok());
        Self { address, _process: process, _folder: folder }
    }

    /// Puts a local image into the registry under a name.
    pub fn push(&self, image: &str, name: &str) {
        let target = format!("{}/{name}", self.address);
        docker_ok(&["tag", image, &target]);
        docker_ok(&["push", &target]);
        docker_ok(&["rmi", &target]);
    }
}

/// A proxy that hands a registry's answers on only once it is released.
pub struct Gate {
    /// Where it is, host:port.
    pub address: String,
    open: Arc<AtomicBool>,
}

impl Gate {
    /// Stands before a server, closed: requests arrive, answers wait.
    pub fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address").to_string();
        let open = Arc::new(AtomicBool::new(false));
        let (server, gate) = (server.to_owned(), open.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let (client_in, upstream_out) = (client.try_clone(), upstream.try_clone());
                let gate = gate.clone();
                std::thread::spawn(move || copy(client_in.ok(), upstream_out.ok(), None));
                std::thread::spawn(move || copy(Some(upstream), Some(client), Some(&gate)));
            }
        });
        Self { address, open }
    }

    /// Lets everything through from now on.
    pub fn release(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

fn copy(from: Option<TcpStream>, to: Option<TcpStream>, gate: Option<&AtomicBool>) {
    let (Some(mut from), Some(mut to)) = (from, to) else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while gate.is_some_and(|gate| !gate.load(Ordering::SeqCst)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}
