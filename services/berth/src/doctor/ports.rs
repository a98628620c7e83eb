//! Judges the listen addresses: free, served by Berth already, or taken by something else.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use berth_api::v1::GetClusterInfoRequest;
use berth_api::v1::cluster_service_client::ClusterServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tonic::transport::Endpoint;

use super::report::Check;

/// How long whoever has the port may take to say who it is.
const LIMIT: Duration = Duration::from_secs(2);
/// The most of a page that is read.
const PAGE_BYTES: u64 = 64 * 1024;

/// What is served at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// gRPC.
    Grpc,
    /// REST.
    Http,
}

impl Kind {
    fn check(self) -> &'static str {
        match self {
            Self::Grpc => "grpc-port",
            Self::Http => "http-port",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Grpc => "--grpc-listen",
            Self::Http => "--http-listen",
        }
    }
}

/// Looks at a listen address.
pub async fn check(kind: Kind, address: &str) -> Check {
    let (name, flag) = (kind.check(), kind.flag());
    let found = lookup_host(address).await.map(|mut found| found.next());
    let Ok(Some(socket)) = found else {
        return Check::fail(
            name,
            format!("{flag} {address} is no address."),
            format!("Set {flag} to HOST:PORT."),
        );
    };
    match TcpListener::bind(socket).await {
        Ok(_) if socket.port() == 0 => Check::ok(name, "A free port will be chosen."),
        Ok(_) => Check::ok(name, format!("Port {} is free.", socket.port())),
        Err(error) if error.kind() == ErrorKind::AddrInUse => taken(kind, socket).await,
        Err(error) => Check::fail(
            name,
            format!("Port {} cannot be listened on at {}: {error}.", socket.port(), socket.ip()),
            format!("Set {flag} to an address of this machine and a port that this user may use."),
        ),
    }
}

async fn taken(kind: Kind, socket: SocketAddr) -> Check {
    let near = reachable(socket);
    let answers = async {
        match kind {
            Kind::Grpc => serves_grpc(near).await,
            Kind::Http => serves_http(near).await,
        }
    };
    let berth = tokio::time::timeout(LIMIT, answers).await.unwrap_or(false);
    let port = socket.port();
    if berth {
        Check::ok(kind.check(), format!("Port {port} is served by Berth already."))
    } else {
        let remedy = format!("Stop what uses it, or set {}.", kind.flag());
        Check::fail(kind.check(), format!("Port {port} is taken."), remedy)
    }
}

/// An address that stands for all of this machine's is reached over its loopback.
fn reachable(socket: SocketAddr) -> SocketAddr {
    let ip = match socket.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, socket.port())
}

async fn serves_grpc(socket: SocketAddr) -> bool {
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{socket}")) else { return false };
    let Ok(channel) = endpoint.connect().await else { return false };
    match ClusterServiceClient::new(channel).get_cluster_info(GetClusterInfoRequest {}).await {
        Ok(_) => true,
        // Berth signs its errors too.
        Err(status) => berth_api::status::reason_of(&status).is_some(),
    }
}

async fn serves_http(socket: SocketAddr) -> bool {
    let page = async {
        let mut stream = TcpStream::connect(socket).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {socket}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut page = Vec::new();
        stream.take(PAGE_BYTES).read_to_end(&mut page).await?;
        std::io::Result::Ok(page)
    };
    page.await.is_ok_and(|page| String::from_utf8_lossy(&page).contains("Berth"))
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[tokio::test]
    async fn a_free_port_is_ok_and_stays_free() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address").to_string();
        drop(listener);
        for _ in 0..2 {
            assert_eq!(check(Kind::Grpc, &address).await.status, Status::Ok);
        }
        assert_eq!(check(Kind::Grpc, "127.0.0.1:0").await.status, Status::Ok);
    }

    #[tokio::test]
    async fn a_port_of_something_else_names_the_flag() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        // Whoever asks is let go without an answer.
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        for kind in [Kind::Grpc, Kind::Http] {
            let found = check(kind, &address.to_string()).await;
            assert_eq!(
                (found.status, found.message),
                (Status::Fail, format!("Port {} is taken.", address.port()))
            );
            assert!(found.remedy.contains(kind.flag()), "{}", found.remedy);
        }
    }

    #[tokio::test]
    async fn an_address_that_is_none_fails_with_the_flag() {
        let found = check(Kind::Http, "nowhere").await;
        assert_eq!(found.status, Status::Fail);
        assert!(found.remedy.contains("--http-listen"), "{}", found.remedy);
        let foreign = check(Kind::Http, "192.0.2.1:80").await;
        assert_eq!(foreign.status, Status::Fail, "{}", foreign.message);
    }
}
