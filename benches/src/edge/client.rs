//! An HTTP/3 client made of other people's parts, that takes no packet above 1,452 bytes and looks at what it gets.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::ensure;
use bytes::Buf;
use futures_util::future::try_join_all;
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime, TransportConfig};
use reelmill_media::ids::BlobHash;

use crate::server::Server;

/// Largest UDP payload, in bytes: an Ethernet frame's. Loopback would take packets of 64 KiB and flatter everybody.
const UDP_PAYLOAD_BYTES: u16 = 1452;

/// Receive windows of a stream and a connection, in bytes, about as browsers have them.
const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;

/// What is asked for.
pub struct Load<'a> {
    pub server: &'a Server,
    pub path: &'a str,
    pub hash: BlobHash,
    pub object_bytes: usize,
    pub connections: usize,
    /// In all, at least.
    pub bytes: u64,
}

/// What came.
pub struct Delivered {
    pub bytes: u64,
    pub seconds: f64,
    /// Mean size of the datagrams of the connection with the largest ones.
    pub datagram_bytes: f64,
}

/// Fetches the object over and over on all connections.
pub async fn run(load: &Load<'_>) -> anyhow::Result<Delivered> {
    let endpoint = endpoint(load.server)?;
    let connections = try_join_all((0..load.connections).map(|_| connect(&endpoint, load.server))).await?;
    // Bytes still to be asked for; whoever finds none is done.
    let left = AtomicU64::new(load.bytes.div_ceil(load.object_bytes as u64));
    let started = Instant::now();
    let counts =
        try_join_all(connections.into_iter().map(|connection| fetch(load, connection, &left))).await?;
    let seconds = started.elapsed().as_secs_f64();
    endpoint.close(0u32.into(), b"");
    endpoint.wait_idle().await;
    Ok(Delivered {
        bytes: counts.iter().map(|(bytes, _)| bytes).sum(),
        seconds,
        datagram_bytes: counts.iter().map(|(_, mean)| *mean).fold(0.0, f64::max),
    })
}

fn endpoint(server: &Server) -> anyhow::Result<Endpoint> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.certificate.clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(STREAM_WINDOW.into()).receive_window(CONNECTION_WINDOW.into());
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    let mut limits = EndpointConfig::default();
    limits.max_udp_payload_size(UDP_PAYLOAD_BYTES)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let mut endpoint = Endpoint::new(limits, None, socket, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

type Requests = h3::client::SendRequest<h3_quinn::OpenStreams, bytes::Bytes>;

async fn connect(endpoint: &Endpoint, server: &Server) -> anyhow::Result<(quinn::Connection, Requests)> {
    let quic = endpoint.connect(server.address, "localhost")?.await?;
    let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(quic.clone())).await?;
    tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
    Ok((quic, requests))
}

async fn fetch(
    load: &Load<'_>,
    (quic, mut requests): (quinn::Connection, Requests),
    left: &AtomicU64,
) -> anyhow::Result<(u64, f64)> {
    let address = format!("https://localhost:{}{}", load.server.address.port(), load.path);
    let (mut bytes, mut first) = (0, true);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let mut stream = requests.send_request(Request::get(&address).body(())?).await?;
        stream.finish().await?;
        let response = stream.recv_response().await?;
        ensure!(response.status() == 200, "{} for {address}", response.status());
        let (mut body, mut length) = (Vec::new(), 0);
        while let Some(mut piece) = stream.recv_data().await? {
            length += piece.remaining();
            if first {
                body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
            }
        }
        ensure!(length == load.object_bytes, "{length} bytes instead of {}", load.object_bytes);
        ensure!(!first || BlobHash::of(&body) == load.hash, "wrong bytes");
        first = false;
        bytes += length as u64;
    }
    let received = quic.stats().udp_rx;
    let mean = received.bytes as f64 / (received.datagrams.max(1)) as f64;
    ensure!(mean <= f64::from(UDP_PAYLOAD_BYTES), "datagrams of {mean:.0} bytes on average");
    Ok((bytes, mean))
}
