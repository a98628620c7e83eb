//! Opens listeners, and says what to do where that fails.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, lookup_host};

use super::reload;

/// Opens a listener on `host:port`; port 0 takes any free one.
///
/// # Errors
/// Says which flag to set when the port is taken or the address is not ours.
pub async fn open(address: &str, flag: &str) -> anyhow::Result<TcpListener> {
    let mut candidates =
        lookup_host(address).await.with_context(|| format!("{flag} {address:?} is not host:port"))?;
    let address: SocketAddr =
        candidates.next().with_context(|| format!("{flag} {address:?} names no address"))?;
    match reload::bind(flag, address).await {
        Ok(listener) => {
            if !address.ip().is_loopback() {
                tracing::warn!(%address, "listening beyond this machine without TLS; anyone who reaches the port may run jobs");
            }
            Ok(listener)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("Port {} is taken. Stop what uses it, or set {flag}.", address.port())
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}; set {flag}")),
    }
}
