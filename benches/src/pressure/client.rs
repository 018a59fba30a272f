//! An HTTP/3 client with an address of its own, made of other people's parts.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::ensure;
use bytes::{Buf, Bytes};
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime, TransportConfig};
use rustls::client::Resumption;
use rustls_pki_types::CertificateDer;

/// Largest UDP payload, in bytes: an Ethernet frame's. Loopback would take packets of 64 KiB.
const UDP_PAYLOAD_BYTES: u16 = 1452;

/// Receive window of a stream, in bytes, of who reads as usual.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// An answer on its way.
pub type Answer = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// One connection; it ends when it is dropped.
pub struct Client {
    requests: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    pub quic: quinn::Connection,
    _endpoint: Endpoint,
}

/// Opens a UDP socket for QUIC.
pub fn endpoint(
    from: Ipv4Addr,
    certificate: &CertificateDer<'static>,
    window: u32,
) -> anyhow::Result<Endpoint> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    // Every handshake is a full one.
    tls.resumption = Resumption::disabled();
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(window.into()).max_idle_timeout(None);
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    let mut limits = EndpointConfig::default();
    limits.max_udp_payload_size(UDP_PAYLOAD_BYTES)?;
    let socket = UdpSocket::bind((from, 0))?;
    let mut endpoint = Endpoint::new(limits, None, socket, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

impl Client {
    pub async fn connect(
        from: Ipv4Addr,
        to: SocketAddr,
        certificate: &CertificateDer<'static>,
        window: u32,
    ) -> anyhow::Result<Self> {
        let endpoint = endpoint(from, certificate, window)?;
        let quic = endpoint.connect(to, "localhost")?.await?;
        let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(quic.clone())).await?;
        tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Self { requests, quic, _endpoint: endpoint })
    }

    /// Asks; gives the status and what is left to be read.
    pub async fn ask(&self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<(u16, Answer)> {
        let mut request = Request::get(format!("https://localhost{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut stream = self.requests.clone().send_request(request.body(())?).await?;
        stream.finish().await?;
        let response = stream.recv_response().await?;
        Ok((response.status().as_u16(), stream))
    }

    /// Fetches all of something.
    pub async fn fetch(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let (status, mut answer) = self.ask(path, &[]).await?;
        ensure!(status == 200, "{status} for {path}");
        let mut body = Vec::new();
        while let Some(mut piece) = answer.recv_data().await? {
            body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        Ok(body)
    }
}
