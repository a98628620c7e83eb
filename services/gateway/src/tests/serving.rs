//! The server on a real socket: limits and its end.

use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Rest;

async fn start() -> (std::net::SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(crate::serve(listener, Rest::new().router, shutdown.clone()));
    (address, shutdown, server)
}

async fn exchange(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request).await.expect("it reads");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
    // A server that refuses a request may reset the connection after its answer.
    let _ = read.await.expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_are_answered_and_oversized_headers_are_not() {
    let (address, shutdown, server) = start().await;
    let answer = exchange(address, b"GET /jobs/j1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.to_lowercase().contains("\r\nserver:"), "{answer}");
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = exchange(address, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let bytes = b"POST /jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n{";
    assert!(exchange(address, bytes).await.starts_with("HTTP/1.1 413"));
    shutdown.cancel();
    server.await.expect("it ends");
}

#[tokio::test]
async fn a_stream_is_told_of_the_servers_end() {
    let (address, shutdown, server) = start().await;
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = b"GET /v1/jobs:watch?resume_token=endless HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request).await.expect("it reads");
    let mut buffer = [0; 256];
    let read = stream.read(&mut buffer).await.expect("the first line comes at once");
    assert!(read > 0, "the stream is open");
    shutdown.cancel();
    let mut rest = String::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut rest))
        .await
        .expect("it ends")
        .expect("it is text");
    assert!(rest.contains("SHUTTING_DOWN"), "{rest}");
    server.await.expect("it ends");
    assert!(TcpStream::connect(address).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn http2_without_tls_is_served_too() {
    let (address, shutdown, server) = start().await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request =
        http::Request::post(format!("http://{address}/jobs")).body("{\"image\":\"busybox\"}".to_owned());
    let answer = client.request(request.expect("it is a request")).await.expect("it answers");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    drop((answer, client));
    shutdown.cancel();
    server.await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_let_go() {
    let (address, shutdown, server) = start().await;
    for opening in [&b""[..], b"P", b"GET / HTTP/1.1\r\nhost"] {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(opening).await.expect("it reads");
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(90), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{opening:?} keeps its connection for ever");
    }
    shutdown.cancel();
    server.await.expect("it ends");
}
