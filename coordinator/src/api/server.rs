//! Connections: bounded in number, in time and in the size of what they say before a handler looks at it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use reelmill_platform::lingering::Lingering;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 4096;
/// A request's head comes within this.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
/// A request's head is no longer than this, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// A request has no more headers than this.
const MAX_HEADERS: usize = 64;
/// Requests at once on an HTTP/2 connection.
const MAX_STREAMS: u32 = 64;
/// Silent HTTP/2 connections are asked this often whether they live.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Whoever is refused in the middle of a body may take so long to read why.
const LINGER: Duration = Duration::from_secs(2);
/// After a failed accept (no file descriptors, say) the next one waits.
const FAILED_ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `stop`, then lets those that are open finish their requests. Returns when all are closed.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = stop.cancelled() => break,
        };
        let Some((stream, permit)) = accepted else {
            tokio::time::sleep(FAILED_ACCEPT_PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection =
            builder.serve_connection(TokioIo::new(Lingering::new(stream, LINGER)), service).into_owned();
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            let _permit = permit;
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection broke");
            }
        });
    }
    drop(listener);
    connections.close();
    graceful.shutdown().await;
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Events are small and must not wait for more.
            let _ = stream.set_nodelay(true);
            Some((stream, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            None
        }
    }
}
