//! An HTTP/3 client made of other people's parts, that takes no packet above 1,452 bytes and looks at what it gets.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use bytes::{Buf, Bytes};
use futures_util::future::try_join_all;
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime, TransportConfig};
use reelmill_media::ids::BlobHash;
use rustls::client::Resumption;

use crate::server::{Object, Server};

/// Largest UDP payload, in bytes: an Ethernet frame's. Loopback would take packets of 64 KiB and flatter everybody.
const UDP_PAYLOAD_BYTES: u16 = 1452;

/// Receive windows of a stream and a connection, in bytes, about as browsers have them.
const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;

/// A client of one server.
pub struct Client<'a> {
    server: &'a Server,
    endpoint: Endpoint,
}

/// A connection; dropped, it is closed.
pub struct Connection {
    quic: quinn::Connection,
    requests: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
}

/// An answer of which nothing is read any more.
pub type Unread = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// What came.
pub struct Delivered {
    pub bytes: u64,
    /// Mean size of the datagrams of the connection with the largest ones.
    pub datagram_bytes: f64,
}

impl<'a> Client<'a> {
    pub fn new(server: &'a Server) -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(server.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        // Every handshake is a full one.
        tls.resumption = Resumption::disabled();
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(STREAM_WINDOW.into()).receive_window(CONNECTION_WINDOW.into());
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(Arc::new(transport));
        let mut limits = EndpointConfig::default();
        limits.max_udp_payload_size(UDP_PAYLOAD_BYTES)?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let mut endpoint = Endpoint::new(limits, None, socket, Arc::new(TokioRuntime))?;
        endpoint.set_default_client_config(config);
        Ok(Self { server, endpoint })
    }

    /// Fetches an object over and over, one request at a time on each of `connections`, `times` in all.
    pub async fn fetch(&self, object: &Object, connections: usize, times: u64) -> anyhow::Result<Delivered> {
        let connections = try_join_all((0..connections).map(|_| self.connect())).await?;
        // Requests still to be made; whoever finds none is done.
        let left = AtomicU64::new(times);
        let fetching = connections.into_iter().map(|connection| self.fetch_while(connection, object, &left));
        let counts = try_join_all(fetching).await?;
        Ok(Delivered {
            bytes: counts.iter().map(|(bytes, _)| bytes).sum(),
            datagram_bytes: counts.iter().map(|(_, mean)| *mean).fold(0.0, f64::max),
        })
    }

    /// Opens and closes so many connections, one after the other.
    pub async fn shake_hands(&self, times: u64) -> anyhow::Result<()> {
        for _ in 0..times {
            self.endpoint.connect(self.server.address, "localhost")?.await?.close(0u32.into(), b"");
        }
        Ok(())
    }

    /// A connection that has asked for an object and has its answer.
    pub async fn rest(&self, object: &Object) -> anyhow::Result<Connection> {
        let mut connection = self.connect().await?;
        let mut stream = self.ask(&mut connection, object).await?;
        while stream.recv_data().await?.is_some() {}
        Ok(connection)
    }

    /// A connection that has asked for an object and does not read the answer.
    pub async fn hold(&self, object: &Object) -> anyhow::Result<(Connection, Unread)> {
        let mut connection = self.connect().await?;
        let stream = self.ask(&mut connection, object).await?;
        Ok((connection, stream))
    }

    /// Says goodbye on all connections.
    pub async fn close(self) {
        self.endpoint.close(0u32.into(), b"");
        self.endpoint.wait_idle().await;
    }

    /// A connection that has asked for nothing yet.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let quic = self.endpoint.connect(self.server.address, "localhost")?.await?;
        let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(quic.clone())).await?;
        tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Connection { quic, requests })
    }

    /// Asks for an object; gives the answer as soon as its head is there.
    pub async fn ask(&self, connection: &mut Connection, object: &Object) -> anyhow::Result<Unread> {
        let address = format!("https://localhost:{}{}", self.server.address.port(), object.path);
        let mut stream = connection.requests.send_request(Request::get(&address).body(())?).await?;
        stream.finish().await?;
        let response = stream.recv_response().await?;
        ensure!(response.status() == 200, "{} for {address}", response.status());
        Ok(stream)
    }

    async fn fetch_while(
        &self,
        mut connection: Connection,
        object: &Object,
        left: &AtomicU64,
    ) -> anyhow::Result<(u64, f64)> {
        let (mut bytes, mut first) = (0, true);
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let mut stream = self.ask(&mut connection, object).await?;
            let (mut body, mut length) = (Vec::new(), 0);
            while let Some(mut piece) = stream.recv_data().await? {
                length += piece.remaining();
                if first {
                    body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
                }
            }
            ensure!(length == object.bytes, "{length} bytes instead of {}", object.bytes);
            ensure!(!first || BlobHash::of(&body) == object.hash, "wrong bytes");
            first = false;
            bytes += length as u64;
        }
        let received = connection.quic.stats().udp_rx;
        let mean = received.bytes as f64 / (received.datagrams.max(1)) as f64;
        ensure!(mean <= f64::from(UDP_PAYLOAD_BYTES), "datagrams of {mean:.0} bytes on average");
        Ok((bytes, mean))
    }
}
