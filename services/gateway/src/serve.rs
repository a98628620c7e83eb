//! The HTTP server: bounded connections, bounded headers, and an end that lets answers finish.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::gateway::Shutdown;

/// Connections served at once, streams among them; more wait in the system's backlog.
const MAX_CONNECTIONS: usize = 4_096;
/// The most that a request's line and headers may take, in bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// How long a client may take to send its headers, or keep an idle connection.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
const MAX_STREAMS: u32 = 256;
/// How long answers may take to finish once the server goes down.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait when the system has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a router until `shutdown`, then lets answers finish for at most 10 s; streams end at once with an
/// error that says so.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let kill = CancellationToken::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            Some((listener.accept().await, permit))
        };
        let (stream, permit) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accepted => match accepted {
                Some((Ok((stream, _)), permit)) => (stream, permit),
                Some((Err(error), _)) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
                None => break,
            },
        };
        let (router, shutdown, kill) = (router.clone(), shutdown.clone(), kill.clone());
        connections.spawn(async move {
            tokio::select! {
                () = kill.cancelled() => {}
                () = connection(stream, router, shutdown) => {}
            }
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections cut at shutdown");
        kill.cancel();
        connections.wait().await;
    }
}

async fn connection(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    // Answers are written whole; waiting for more only delays them.
    let _ = stream.set_nodelay(true);
    let http2 = match tokio::time::timeout(HEADER_LIMIT, begins_http2(&stream)).await {
        Ok(Ok(http2)) => http2,
        // It left or said nothing.
        Ok(Err(_)) | Err(_) => return,
    };
    let token = shutdown.clone();
    let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        let router = router.clone();
        request.extensions_mut().insert(Shutdown(token.clone()));
        async move { router.oneshot(request.map(Body::new)).await.map_err(|never: Infallible| never) }
    });
    let builder = Builder::new(TokioExecutor::new());
    let mut builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_LIMIT)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_concurrent_streams(MAX_STREAMS);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Says whether a client opens with HTTP/2's preface. hyper can tell too, but waits for it without limit.
async fn begins_http2(stream: &TcpStream) -> std::io::Result<bool> {
    const PREFACE: &[u8] = b"PRI";
    /// How long to wait for the rest of three bytes.
    const PAUSE: Duration = Duration::from_millis(10);
    let mut first = [0; PREFACE.len()];
    loop {
        let sent = stream.peek(&mut first).await?;
        match first.get(..sent) {
            None | Some([]) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Some(part) if sent < PREFACE.len() && PREFACE.starts_with(part) => {
                tokio::time::sleep(PAUSE).await
            }
            Some(part) => return Ok(part == PREFACE),
        }
    }
}
