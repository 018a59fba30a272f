//! An HTTP/3 client made of other people's parts, which takes no packet above 1,452 bytes.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::ensure;
use bytes::{Buf, Bytes};
use http::{Request, Response};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime, TransportConfig};
use rustls_pki_types::CertificateDer;
use socket2::SockRef;

use crate::tls;

/// Largest UDP payload, in bytes: an Ethernet frame's. Loopback would take packets of 64 KiB and flatter everybody.
pub const UDP_PAYLOAD_BYTES: u16 = 1452;

/// Room for what arrives, in bytes, as far as the machine allows it: one socket takes what many viewers' sockets would.
const RECEIVE_BYTES: usize = 4 << 20;

/// What is left to be read of an answer.
pub type Answer = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// A connection; dropped with all its answers, it is closed.
pub struct Connection {
    /// What carries it.
    pub quic: quinn::Connection,
    requests: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
}

/// A UDP socket for connections that trust one certificate.
pub fn endpoint(
    from: Ipv4Addr,
    certificate: &CertificateDer<'static>,
    transport: TransportConfig,
) -> anyhow::Result<Endpoint> {
    let tls = tls::client(certificate, b"h3")?;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    let mut limits = EndpointConfig::default();
    limits.max_udp_payload_size(UDP_PAYLOAD_BYTES)?;
    let socket = UdpSocket::bind((from, 0))?;
    SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BYTES)?;
    let mut endpoint = Endpoint::new(limits, None, socket, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

impl Connection {
    /// Shakes hands.
    pub async fn open(endpoint: &Endpoint, to: SocketAddr) -> anyhow::Result<Self> {
        let quic = endpoint.connect(to, "localhost")?.await?;
        let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(quic.clone())).await?;
        tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Self { quic, requests })
    }

    /// Asks; gives the status and what is left to be read.
    pub async fn ask(&self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<(u16, Answer)> {
        let (head, answer) = self.ask_for_head(path, fields).await?;
        Ok((head.status().as_u16(), answer))
    }

    /// Asks; gives the head of the answer and what is left to be read.
    pub async fn ask_for_head(
        &self,
        path: &str,
        fields: &[(&str, &str)],
    ) -> anyhow::Result<(Response<()>, Answer)> {
        let port = self.quic.remote_address().port();
        let mut request = Request::get(format!("https://localhost:{port}{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut stream = self.requests.clone().send_request(request.body(())?).await?;
        stream.finish().await?;
        let response = stream.recv_response().await?;
        Ok((response, stream))
    }

    /// Asks for what is there.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let (status, answer) = self.ask(path, &[]).await?;
        ensure!(status == 200, "{status} for {path}");
        Ok(answer)
    }

    /// Fetches all of something.
    pub async fn fetch(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let (mut answer, mut body) = (self.get(path).await?, Vec::new());
        while let Some(mut piece) = answer.recv_data().await? {
            body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        Ok(body)
    }
}
