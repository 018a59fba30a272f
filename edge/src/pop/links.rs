//! Connections to peers: one each, made when needed, known to be dead within seconds.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, Response, StatusCode};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::PopError;
use crate::limits::{
    PEER_CONNECT_DEADLINE, PEER_DOWN_FOR, PEER_HEAD_DEADLINE, PEER_KEEP_ALIVE, PEER_RECEIVE_WINDOW,
    PEER_SILENCE, PEER_STALL, PEER_STREAM_RECEIVE_WINDOW,
};
use crate::listener::socket::bind_udp;
use crate::outage::Outage;

/// The name in the TLS handshake. It decides nothing: the key does.
const SERVER_NAME: &str = "peer";

type Requests = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;
type Stream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// Why a peer did not answer. The next source is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("it is known to be down")]
    KnownDown,
    #[error("it took longer than {} ms", .0.as_millis())]
    Deadline(Duration),
    #[error("no connection: {0}")]
    Connect(String),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("its answer makes no sense")]
    Nonsense,
}

/// All connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Links {
    endpoint: Endpoint,
    links: Arc<Mutex<HashMap<SocketAddr, Arc<Link>>>>,
    /// Owns what drives the connections.
    tasks: TaskTracker,
    end: CancellationToken,
}

#[derive(Debug, Default)]
struct Link {
    open: tokio::sync::Mutex<Option<Open>>,
    down: Outage,
}

struct Open {
    quic: quinn::Connection,
    requests: Requests,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.quic.fmt(f)
    }
}

impl Links {
    pub(super) fn new(
        tls: rustls::ClientConfig,
        tasks: TaskTracker,
        end: CancellationToken,
    ) -> Result<Self, PopError> {
        let mut transport = TransportConfig::default();
        transport
            .keep_alive_interval(Some(PEER_KEEP_ALIVE))
            .max_idle_timeout(Some(PEER_SILENCE.try_into()?))
            .max_concurrent_bidi_streams(0u8.into())
            .stream_receive_window(PEER_STREAM_RECEIVE_WINDOW.into())
            .receive_window(PEER_RECEIVE_WINDOW.into())
            .datagram_receive_buffer_size(None);
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(Arc::new(transport));
        // One socket for both families; where there is no IPv6, the other one alone.
        let any = [(Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::UNSPECIFIED, 0).into()];
        let socket = bind_udp(any[0]).or_else(|_| bind_udp(any[1]));
        let mut endpoint = Endpoint::new(EndpointConfig::default(), None, socket?, Arc::new(TokioRuntime))?;
        endpoint.set_default_client_config(config);
        let links = Self { endpoint: endpoint.clone(), links: Arc::default(), tasks, end: end.clone() };
        links.tasks.spawn(async move {
            end.cancelled().await;
            endpoint.close(VarInt::from_u32(0), b"");
        });
        Ok(links)
    }

    /// Whether a peer failed a moment ago.
    pub(super) fn is_down(&self, address: SocketAddr) -> bool {
        self.link(address).down.is_on()
    }

    /// Asks a peer; returns with the head of its answer.
    pub(super) async fn get(
        &self,
        address: SocketAddr,
        path: &str,
        headers: HeaderMap,
    ) -> Result<(Response<()>, Reply), LinkError> {
        let mut requests = self.requests(address).await?;
        let mut request = Request::new(());
        *request.uri_mut() =
            format!("https://{SERVER_NAME}/{path}").parse().map_err(|_| LinkError::Nonsense)?;
        *request.headers_mut() = headers;
        let asking = async {
            let mut stream = requests.send_request(request).await.map_err(broken)?;
            stream.finish().await.map_err(broken)?;
            let response = stream.recv_response().await.map_err(broken)?;
            Ok((response, Reply { stream }))
        };
        match timeout(PEER_HEAD_DEADLINE, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(LinkError::Deadline(PEER_HEAD_DEADLINE)),
        }
    }

    fn link(&self, address: SocketAddr) -> Arc<Link> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default().clone()
    }

    async fn requests(&self, address: SocketAddr) -> Result<Requests, LinkError> {
        let link = self.link(address);
        if self.is_down(address) {
            return Err(LinkError::KnownDown);
        }
        let mut open = link.open.lock().await;
        if let Some(open) = open.as_ref().filter(|open| open.quic.close_reason().is_none()) {
            return Ok(open.requests.clone());
        }
        // Those who waited for the lock do not try again what has just failed.
        if self.is_down(address) {
            return Err(LinkError::KnownDown);
        }
        *open = None;
        match timeout(PEER_CONNECT_DEADLINE, self.connect(address)).await {
            Ok(Ok(fresh)) => Ok(open.insert(fresh).requests.clone()),
            Ok(Err(error)) => {
                link.down.begin(PEER_DOWN_FOR);
                Err(error)
            }
            Err(_) => {
                link.down.begin(PEER_DOWN_FOR);
                Err(LinkError::Deadline(PEER_CONNECT_DEADLINE))
            }
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<Open, LinkError> {
        let failed = |error: &dyn std::fmt::Display| LinkError::Connect(error.to_string());
        let mapped = match (address, self.endpoint.local_addr()) {
            (SocketAddr::V4(v4), Ok(SocketAddr::V6(_))) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            (SocketAddr::V4(_) | SocketAddr::V6(_), _) => address,
        };
        let connecting = self.endpoint.connect(mapped, SERVER_NAME).map_err(|error| failed(&error))?;
        let quic = connecting.await.map_err(|error| failed(&error))?;
        let mut builder = h3::client::builder();
        builder.send_grease(false).max_field_section_size(crate::limits::HEADER_SECTION_BYTES.into());
        let (mut driver, requests) =
            builder.build(h3_quinn::Connection::new(quic.clone())).await.map_err(|error| failed(&error))?;
        let end = self.end.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                closed = poll_fn(|cx| driver.poll_close(cx)) => {
                    tracing::debug!(%address, %closed, "connection to a peer closed");
                }
                () = end.cancelled() => {}
            }
        });
        tracing::info!(%address, "connected to a peer");
        Ok(Open { quic, requests })
    }
}

fn broken(error: h3::error::StreamError) -> LinkError {
    LinkError::Broken(error.to_string())
}

/// The body of an answer.
pub(crate) struct Reply {
    stream: Stream,
}

impl Reply {
    /// The next bytes, in pieces of no particular size; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LinkError> {
        match timeout(PEER_STALL, self.stream.recv_data()).await {
            // Made of one piece, so nothing is copied.
            Ok(Ok(piece)) => Ok(piece.map(|mut piece| piece.copy_to_bytes(piece.remaining()))),
            Ok(Err(error)) => Err(broken(error)),
            Err(_) => Err(LinkError::Deadline(PEER_STALL)),
        }
    }

    /// All of it, if it is no longer than `limit` bytes.
    pub(super) async fn all(&mut self, limit: u64) -> Result<Bytes, LinkError> {
        let mut all = bytes::BytesMut::new();
        while let Some(piece) = self.next().await? {
            if (all.len() + piece.len()) as u64 > limit {
                return Err(LinkError::Nonsense);
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

/// Whether an answer is one.
pub(super) fn is_success(response: &Response<()>) -> bool {
    response.status() == StatusCode::OK
}
