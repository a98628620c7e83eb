//! Turns the address of a scheduler into a channel. A simulation brings its own network.

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tonic::transport::{Channel, Endpoint};

/// Says why a scheduler could not be reached.
#[derive(Debug, Error)]
#[error("scheduler {address} cannot be reached: {message}")]
pub struct ConnectError {
    /// The address, host:port.
    pub address: String,
    /// What went wrong.
    pub message: String,
}

impl ConnectError {
    /// Names the address, and the innermost cause, which alone says what happened.
    pub fn new(address: &str, error: &dyn std::error::Error) -> Self {
        let mut cause = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Self { address: address.to_owned(), message: cause.to_string() }
    }
}

/// Opens channels to schedulers.
#[async_trait]
pub trait Connect: Send + Sync {
    /// Opens a channel to host:port.
    ///
    /// # Errors
    /// Fails when nothing answers there in time; trying again is safe.
    async fn connect(&self, address: &str) -> Result<Channel, ConnectError>;
}

/// Connects over TCP, without TLS.
#[derive(Debug, Clone, Default)]
pub struct TcpConnect;

/// Sets the timeouts and keepalives every connection needs: without them a half-open connection
/// looks alive for ever.
///
/// # Errors
/// Fails when the address is no host:port.
pub fn endpoint(address: &str) -> Result<Endpoint, ConnectError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| ConnectError::new(address, &error))?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(true))
}

#[async_trait]
impl Connect for TcpConnect {
    async fn connect(&self, address: &str) -> Result<Channel, ConnectError> {
        endpoint(address)?.connect().await.map_err(|error| ConnectError::new(address, &error))
    }
}
