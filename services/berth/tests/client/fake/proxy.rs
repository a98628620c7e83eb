//! A relay that can be cut, so that connections break as they do when a scheduler dies.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Relays a port of its own to another until it is cut.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    relay: JoinHandle<()>,
}

impl Proxy {
    /// Starts to relay.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("is bound");
        let relay = tokio::spawn(async move {
            // Dropped with the task, and every connection with it.
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { address, relay }
    }

    /// Closes the port and every connection.
    pub fn cut(&self) {
        self.relay.abort();
    }
}
