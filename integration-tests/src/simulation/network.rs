//! The simulated network as tonic wants it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use berth_executor::connect::ConnectError;
use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};
use turmoil::net::{TcpListener, TcpStream};

/// A connection that a server accepted.
pub struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Accepts connections.
pub fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Accepted>> {
    futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
        Some((accepted, listener))
    })
}

/// Connects through the simulated network.
#[derive(Clone, Copy)]
pub struct SimulatedConnect;

async fn open(uri: Uri) -> io::Result<TokioIo<TcpStream>> {
    let host = uri.host().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    let port = uri.port_u16().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(TokioIo::new(TcpStream::connect((host.as_str(), port)).await?))
}

/// The settings of a connection, as over TCP.
pub fn endpoint(address: &str) -> Endpoint {
    berth_executor::connect::endpoint(address).expect("simulated addresses are well formed")
}

#[async_trait]
impl berth_executor::connect::Connect for SimulatedConnect {
    async fn connect(&self, address: &str) -> Result<Channel, ConnectError> {
        let connected = endpoint(address).connect_with_connector(tower::service_fn(open)).await;
        connected.map_err(|error| ConnectError::new(address, &error))
    }
}

impl berth_scheduler::Connect for SimulatedConnect {
    fn channel(&self, address: &str) -> Result<Channel, String> {
        Ok(endpoint(address).connect_with_connector_lazy(tower::service_fn(open)))
    }
}
