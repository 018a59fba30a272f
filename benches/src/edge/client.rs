//! A client of one server, which looks at what it gets.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use bytes::Buf;
use futures_util::future::try_join_all;
use quinn::{Endpoint, TransportConfig};
use reelmill_benches::http3::{self, Answer, Connection, UDP_PAYLOAD_BYTES};
use reelmill_media::ids::BlobHash;

use crate::server::{Object, Server};

/// Receive windows of a stream and a connection, in bytes, about as browsers have them.
pub const STREAM_WINDOW: u32 = 6 << 20;
pub const CONNECTION_WINDOW: u32 = 15 << 20;

/// A client of one server.
pub struct Client<'a> {
    server: &'a Server,
    endpoint: Endpoint,
}

/// What came.
pub struct Delivered {
    pub bytes: u64,
    /// Mean size of the datagrams of the connection with the largest ones.
    pub datagram_bytes: f64,
}

impl<'a> Client<'a> {
    pub fn new(server: &'a Server) -> anyhow::Result<Self> {
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(STREAM_WINDOW.into()).receive_window(CONNECTION_WINDOW.into());
        let endpoint = http3::endpoint(Ipv4Addr::LOCALHOST, &server.certificate, transport)?;
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
        let connection = self.connect().await?;
        connection.fetch(&object.path).await?;
        Ok(connection)
    }

    /// A connection that has asked for an object and does not read the answer.
    pub async fn hold(&self, object: &Object) -> anyhow::Result<(Connection, Answer)> {
        let connection = self.connect().await?;
        let answer = connection.get(&object.path).await?;
        Ok((connection, answer))
    }

    /// Says goodbye on all connections.
    pub async fn close(self) {
        self.endpoint.close(0u32.into(), b"");
        self.endpoint.wait_idle().await;
    }

    /// A connection that has asked for nothing yet.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.endpoint, self.server.address).await
    }

    async fn fetch_while(
        &self,
        connection: Connection,
        object: &Object,
        left: &AtomicU64,
    ) -> anyhow::Result<(u64, f64)> {
        let (mut bytes, mut first) = (0, true);
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let mut answer = connection.get(&object.path).await?;
            let (mut body, mut length) = (Vec::new(), 0);
            while let Some(mut piece) = answer.recv_data().await? {
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
