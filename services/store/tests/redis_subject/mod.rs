//! A Redis store with a server of its own as a subject of the suite.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use berth_store::contract::{Fragile, Subject};
use berth_store::redis::{RedisConfig, RedisStore};
use berth_store::{Store, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::redis_server::{RedisServer, raw};

pub struct RedisSubject {
    server: Mutex<RedisServer>,
    port: u16,
}

impl RedisSubject {
    pub async fn start() -> Self {
        let server = RedisServer::start().await;
        Self { port: server.port, server: Mutex::new(server) }
    }

    pub async fn connect_nowhere() -> Result<RedisStore, StoreError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("its number").port();
        drop(listener);
        RedisStore::connect(config(port)).await
    }

    pub async fn open_with_timeout(&self, command_timeout: Duration) -> Arc<dyn Store> {
        connect(RedisConfig { command_timeout, ..config(self.port) }).await
    }

    pub async fn open_itself(&self) -> RedisStore {
        RedisStore::connect(config(self.port)).await.expect("a connection")
    }

    pub async fn raw(&self, words: &[&str]) -> String {
        raw(self.port, words).await.expect("a reply")
    }

    pub async fn kill(&self) {
        self.server.lock().await.kill();
    }

    pub fn freeze(&self) {
        self.server.try_lock().expect("nobody restarts it").signal("STOP");
    }

    pub fn thaw(&self) {
        self.server.try_lock().expect("nobody restarts it").signal("CONT");
    }
}

fn config(port: u16) -> RedisConfig {
    RedisConfig { url: format!("redis://127.0.0.1:{port}"), ..RedisConfig::default() }
}

async fn connect(config: RedisConfig) -> Arc<dyn Store> {
    Arc::new(RedisStore::connect(config).await.expect("a connection"))
}

#[async_trait]
impl Subject for RedisSubject {
    async fn open(&self) -> Arc<dyn Store> {
        connect(config(self.port)).await
    }

    async fn open_cluster(&self, cluster: &str) -> Arc<dyn Store> {
        connect(RedisConfig { cluster: cluster.to_owned(), ..config(self.port) }).await
    }

    async fn open_with_small_log(&self) -> Arc<dyn Store> {
        connect(RedisConfig { log_max_bytes: 4_096, ..config(self.port) }).await
    }

    async fn open_with_short_log(&self) -> Arc<dyn Store> {
        connect(RedisConfig { log_max_age: Duration::from_millis(30), ..config(self.port) }).await
    }

    async fn open_fragile(&self) -> Fragile {
        let armed = Arc::new(AtomicBool::new(false));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("its number").port();
        tokio::spawn(accept(listener, self.port, Arc::clone(&armed)));
        let store = connect(config(port)).await;
        Fragile { store, lose_next_reply: Box::new(move || armed.store(true, Ordering::SeqCst)) }
    }

    async fn restart(&self) {
        self.server.lock().await.restart().await;
    }

    async fn set_full(&self, full: bool) {
        // Less than an empty server uses.
        let limit = if full { "100kb" } else { "0" };
        let reply = self.raw(&["CONFIG", "SET", "maxmemory", limit]).await;
        assert!(reply.starts_with("+OK"), "{reply}");
    }
}

/// Forwards connections to the server.
async fn accept(listener: TcpListener, port: u16, armed: Arc<AtomicBool>) {
    while let Ok((client, _)) = listener.accept().await {
        if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
            tokio::spawn(forward(client, server, Arc::clone(&armed)));
        }
    }
}

/// Copies both ways until one side ends. Once armed, the first script that passes disarms it; its
/// reply is waited for, so that it was applied, and both connections are closed instead.
async fn forward(mut client: TcpStream, mut server: TcpStream, armed: Arc<AtomicBool>) {
    let (mut request, mut reply) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut is_losing = false;
    loop {
        tokio::select! {
            read = client.read(&mut request) => match read {
                Ok(length) if length > 0 => {
                    let is_script = request[..length].windows(7).any(|word| word == b"EVALSHA");
                    is_losing |= is_script && armed.swap(false, Ordering::SeqCst);
                    if server.write_all(&request[..length]).await.is_err() {
                        return;
                    }
                }
                Ok(_) | Err(_) => return,
            },
            read = server.read(&mut reply) => match read {
                Ok(length) if length > 0 && !is_losing => {
                    if client.write_all(&reply[..length]).await.is_err() {
                        return;
                    }
                }
                Ok(_) | Err(_) => return,
            },
        }
    }
}
