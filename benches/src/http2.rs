//! An HTTP/2 client that opens each connection when it is told to.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::Request;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls;

/// A connection; dropped with all its answers, it is closed.
pub struct Connection {
    requests: SendRequest<Bytes>,
    port: u16,
}

/// TLS for connections that trust one certificate.
pub fn connector(certificate: &CertificateDer<'static>) -> anyhow::Result<TlsConnector> {
    Ok(Arc::new(tls::client(certificate, b"h2")?).into())
}

impl Connection {
    /// Shakes hands.
    pub async fn open(tls: &TlsConnector, settings: &Builder, to: SocketAddr) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        let stream = tls.connect(ServerName::try_from("localhost")?, tcp).await?;
        let (requests, connection) = settings.handshake(stream).await?;
        // It ends with the connection, whose errors come to light in its answers.
        tokio::spawn(connection);
        Ok(Self { requests, port: to.port() })
    }

    /// Asks for what is there; gives its body.
    pub async fn get(&self, path: &str) -> anyhow::Result<RecvStream> {
        let request = Request::get(format!("https://localhost:{}{path}", self.port)).body(())?;
        let (response, _) = self.requests.clone().ready().await?.send_request(request, true)?;
        let response = response.await?;
        ensure!(response.status() == 200, "{} for {path}", response.status());
        Ok(response.into_body())
    }
}
