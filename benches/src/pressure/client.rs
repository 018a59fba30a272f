//! A client at an address of its own.

use std::net::{Ipv4Addr, SocketAddr};

use quinn::{Endpoint, TransportConfig};
use reelmill_benches::http3::{self, Connection};
use rustls_pki_types::CertificateDer;

/// Receive window of a stream, in bytes, of who reads as usual.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// Opens a UDP socket for QUIC.
pub fn endpoint(
    from: Ipv4Addr,
    certificate: &CertificateDer<'static>,
    window: u32,
) -> anyhow::Result<Endpoint> {
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(window.into()).max_idle_timeout(None);
    http3::endpoint(from, certificate, transport)
}

/// Opens a socket and a connection.
pub async fn connect(
    from: Ipv4Addr,
    to: SocketAddr,
    certificate: &CertificateDer<'static>,
    window: u32,
) -> anyhow::Result<Connection> {
    Connection::open(&endpoint(from, certificate, window)?, to).await
}
