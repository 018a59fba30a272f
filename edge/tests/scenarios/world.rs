//! One edge over one folder, and clients of every protocol.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h3::error::StreamError;
use http::{HeaderMap, HeaderName, Method, Request, Response, Version, header};
use prometheus::Registry;
use quinn::crypto::rustls::QuicClientConfig;
use reelmill_edge::certificate::Source;
use reelmill_edge::clients::ClientLimits;
use reelmill_edge::process::{self, Addresses, Congestion, Running, Settings};
use reelmill_edge::traces::TraceWish;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::store::Store;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// How a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Http3,
    Http2,
    Http1,
    Plain,
}

impl Via {
    pub const ALL: [Via; 4] = [Via::Http3, Via::Http2, Via::Http1, Via::Plain];

    fn version(self) -> Version {
        match self {
            Via::Http3 => Version::HTTP_3,
            Via::Http2 => Version::HTTP_2,
            Via::Http1 | Via::Plain => Version::HTTP_11,
        }
    }
}

/// Limits that no honest test meets.
pub const CLIENT: ClientLimits = ClientLimits {
    connections: 1000,
    requests_per_second: 100_000,
    handshakes_per_second: 10_000,
    resets_per_second: 1000,
    least_bytes_per_second: 1,
    slow_for: Duration::from_secs(60),
    loopback_too: true,
};

pub struct World {
    pub folder: TempDir,
    pub settings: Settings,
    pub store: Store,
    pub registry: Registry,
    pub drain: CancellationToken,
    pub addresses: Addresses,
    running: Option<Running>,
    http1: reqwest::Client,
    http2: reqwest::Client,
    h3: tokio::sync::OnceCell<H3Client>,
}

impl World {
    pub fn new() -> World {
        Self::with(None, |_, _| {})
    }

    pub fn with_grace(grace: Duration) -> World {
        Self::with(None, |settings, _| settings.grace = grace)
    }

    /// An edge over a store of its own making, or a folder; `change` may change the settings, and knows the folder.
    pub fn with(store: Option<Store>, change: impl FnOnce(&mut Settings, &Path)) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = store
            .unwrap_or_else(|| Store::open(&format!("file://{}/store", folder.path().display())).unwrap());
        let (registry, drain) = (Registry::new(), CancellationToken::new());
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut settings = Settings {
            listen: any,
            endpoints: 2,
            plain_listen: Some(any),
            certificate: Source::SelfMade { folder: folder.path().join("state"), names: vec![] },
            state_dir: folder.path().join("state"),
            cache_bytes: 256 << 20,
            in_flight_bytes: 256 << 20,
            memory_bytes: u64::MAX,
            disk: None,
            max_connections: 200,
            grace: Duration::from_secs(20),
            client: CLIENT,
            bus: None,
            access_log: None,
            geoip: None,
            qlog_dir: None,
            traces: TraceWish::default(),
            name: "test-edge".into(),
            pop: None,
            congestion: Congestion::Cubic,
        };
        change(&mut settings, folder.path());
        let running = process::start(settings.clone(), store.clone(), &registry, drain.clone()).unwrap();
        let root = std::fs::read(certificate_in(folder.path())).unwrap();
        let client = || {
            reqwest::Client::builder()
                .tls_certs_only([reqwest::Certificate::from_pem(&root).unwrap()])
                .no_proxy()
        };
        World {
            settings,
            store,
            registry,
            drain,
            addresses: running.addresses.clone(),
            running: Some(running),
            http1: client().http1_only().build().unwrap(),
            http2: client().http2_prior_knowledge().build().unwrap(),
            h3: tokio::sync::OnceCell::new(),
            folder,
        }
    }

    /// Begins the drain and gives what completes when it is over.
    pub fn begin_drain(&mut self) -> impl Future<Output = ()> + use<> {
        self.drain.cancel();
        self.running.take().unwrap().finished()
    }

    /// The certificate that it made itself.
    pub fn certificate(&self) -> PathBuf {
        certificate_in(self.folder.path())
    }

    pub fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join("store").join(key)
    }

    pub async fn h3(&self) -> H3Client {
        self.h3.get_or_init(|| H3Client::connect(self)).await.clone()
    }

    pub async fn get(&self, via: Via, path: &str) -> Response<Bytes> {
        self.send(via, Method::GET, path, &[]).await
    }

    pub async fn send(
        &self,
        via: Via,
        method: Method,
        path: &str,
        fields: &[(HeaderName, &str)],
    ) -> Response<Bytes> {
        let headers: HeaderMap =
            fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let response = match via {
            Via::Http3 => self.h3().await.send(method, path, headers).await.unwrap(),
            Via::Http2 | Via::Http1 | Via::Plain => {
                let client = if via == Via::Http2 { &self.http2 } else { &self.http1 };
                let base = match via {
                    Via::Plain => format!("http://{}", self.addresses.plain_listen.unwrap()),
                    Via::Http3 | Via::Http2 | Via::Http1 => format!("https://{}", self.addresses.listen),
                };
                let answer =
                    client.request(method, format!("{base}{path}")).headers(headers).send().await.unwrap();
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = answer.status();
                *response.version_mut() = answer.version();
                *response.headers_mut() = answer.headers().clone();
                *response.body_mut() = answer.bytes().await.unwrap();
                response
            }
        };
        assert_eq!(response.version(), via.version());
        response
    }

    /// A running download over HTTP/2, not yet read.
    pub async fn download_h2(&self, path: &str) -> reqwest::Response {
        self.http2.get(format!("https://{}{path}", self.addresses.listen)).send().await.unwrap()
    }

    /// Waits until a counter has a value.
    pub async fn until_metric(&self, name: &str, labels: &[(&str, &str)], value: u64) {
        let begun = std::time::Instant::now();
        while self.metric(name, labels) != value {
            let now = self.metric(name, labels);
            assert!(begun.elapsed() < Duration::from_secs(10), "{name} is {now}, not {value}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The sum of a counter over all label sets that have these labels.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == format!("reelmill_edge_{name}"));
        let metrics = family.map(|f| f.get_metric().to_vec()).unwrap_or_default();
        let matching = metrics.iter().filter(|m| {
            labels.iter().all(|(k, v)| m.get_label().iter().any(|l| l.name() == *k && l.value() == *v))
        });
        matching.map(|m| m.get_counter().get_value() as u64 + m.get_gauge().get_value() as u64).sum()
    }
}

/// An HTTP/3 client made of the HTTP/3 project's own parts, so that our stream layer is judged by another's.
#[derive(Clone)]
pub struct H3Client {
    pub connection: quinn::Connection,
    requests: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    authority: String,
}

pub type H3Stream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// The certificate that an edge makes itself in a folder.
pub fn certificate_in(folder: &Path) -> PathBuf {
    folder.join("state/edge-certificate.pem")
}

/// A bare QUIC connection to the edge.
pub async fn quic(world: &World) -> quinn::Connection {
    quic_client(&[&world.certificate()]).connect(world.addresses.listen, "edge.test").unwrap().await.unwrap()
}

/// A QUIC client that trusts these certificates, in PEM.
pub fn quic_client(trusted: &[&Path]) -> quinn::Endpoint {
    // A browser's size of window, not quinn's: a download must be in flight to be drained.
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window((512 * 1024u32).into());
    quic_client_with(tls_client(trusted, b"h3"), transport)
}

/// A QUIC client of these settings.
pub fn quic_client_with(tls: rustls::ClientConfig, transport: quinn::TransportConfig) -> quinn::Endpoint {
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport));
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(config);
    endpoint
}

/// TLS of a client that trusts these certificates, in PEM, and speaks this protocol.
pub fn tls_client(trusted: &[&Path], alpn: &[u8]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for pem in trusted {
        roots.add(CertificateDer::from_pem_file(pem).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls
}

impl H3Client {
    pub async fn connect(world: &World) -> H3Client {
        Self::over(quic(world).await).await
    }

    pub async fn over(connection: quinn::Connection) -> H3Client {
        let authority = format!("edge.test:{}", connection.remote_address().port());
        let (mut driver, requests) =
            h3::client::new(h3_quinn::Connection::new(connection.clone())).await.unwrap();
        tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        H3Client { connection, requests, authority }
    }

    pub async fn begin(&self, method: Method, path: &str, headers: HeaderMap) -> Result<H3Stream, String> {
        self.try_begin(method, path, headers).await.map_err(|error| error.to_string())
    }

    pub async fn try_begin(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<H3Stream, StreamError> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = format!("https://{}{path}", self.authority).parse().unwrap();
        *request.headers_mut() = headers;
        let mut stream = self.requests.clone().send_request(request).await?;
        stream.finish().await?;
        Ok(stream)
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Bytes>, String> {
        let mut stream = self.begin(method, path, headers).await?;
        let (mut head, ()) = stream.recv_response().await.map_err(|e| e.to_string())?.into_parts();
        head.version = Version::HTTP_3;
        Ok(Response::from_parts(head, read_rest(&mut stream).await?))
    }
}

pub async fn read_rest(stream: &mut H3Stream) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    while let Some(mut piece) = stream.recv_data().await.map_err(|e| e.to_string())? {
        body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
    }
    Ok(body.freeze())
}

/// How often a test does what it does: as an environment variable says, or as usual.
pub fn times(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}

/// Bytes that look like nothing and are the same each time.
pub fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(length / 8 + 1)
    .flatten()
    .take(length)
    .collect();
    bytes.into()
}

pub fn path_of(hash: &BlobHash, kind: BlobKind) -> String {
    format!("/{}", keys::blob(hash, kind))
}

pub fn asset() -> AssetId {
    AssetId::from_parts(1_700_000_000_000, 42)
}

pub fn field(response: &Response<Bytes>, name: HeaderName) -> &str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Checks that an error is one sentence of problem+json with this status.
pub fn assert_problem(response: &Response<Bytes>, status: u16) {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(field(response, header::CONTENT_TYPE), "application/problem+json");
    assert_eq!(field(response, header::CACHE_CONTROL), "no-store");
    let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().unwrap().ends_with('.'), "{problem}");
}
