//! Listens for the cluster.

use std::net::SocketAddr;
use std::sync::Arc;

use berth_api::v1::cluster_service_server::ClusterServiceServer;
use berth_api::v1::job_service_server::JobServiceServer;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use super::state::Cluster;

/// Serves a cluster on a free port until the test's runtime ends.
pub async fn serve(cluster: &Arc<Cluster>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let address = listener.local_addr().expect("is bound");
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let server = tonic::transport::Server::builder()
        .add_service(health)
        .add_service(JobServiceServer::from_arc(cluster.clone()))
        .add_service(ClusterServiceServer::from_arc(cluster.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// Gives an address at which nothing listens.
pub async fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    listener.local_addr().expect("is bound")
}
