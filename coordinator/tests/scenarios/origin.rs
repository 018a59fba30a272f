//! Somebody else's server, from which uploads are pulled.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use reqwest::StatusCode;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, version};

/// Bytes sent at a time.
const PIECE_BYTES: usize = 100_000;

/// Serves until it is dropped.
pub struct Origin {
    /// Its port on this machine.
    pub port: u16,
    /// The certificate to trust, where it has one.
    pub certificate: PathBuf,
    pub script: Arc<Script>,
    _folder: TempDir,
    task: JoinHandle<()>,
}

/// What it does, and what it saw.
pub struct Script {
    pub content: Mutex<Vec<u8>>,
    /// Names the content; none is sent if empty.
    pub etag: Mutex<String>,
    /// Pieces that may be sent.
    pub pieces: Semaphore,
    /// After so many bytes of an answer the connection breaks.
    pub breaks_after: Mutex<Option<usize>>,
    /// Path and range of each request.
    pub seen: Mutex<Vec<(String, Option<String>)>>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Origin {
    pub async fn start(tls: bool, content: Vec<u8>) -> Origin {
        let script = Arc::new(Script {
            content: Mutex::new(content),
            etag: Mutex::new("\"one\"".into()),
            pieces: Semaphore::new(1_000_000),
            breaks_after: Mutex::new(None),
            seen: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(script.clone());
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().join("origin.pem");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = TowerToHyperService::new(router.clone());
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // Whoever does not trust us, or has seen enough, hangs up.
                    if !tls {
                        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                    } else if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                    }
                });
            }
        });
        Origin { port, certificate, script, _folder: folder, task }
    }

    /// Ranges of the requests so far.
    pub fn ranges(&self) -> Vec<Option<String>> {
        self.script.seen.lock().unwrap().iter().map(|(_, range)| range.clone()).collect()
    }
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> Response {
    let header = |name: &str| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
    let path = request.uri().path().to_owned();
    script.seen.lock().unwrap().push((path.clone(), header("range")));
    if let Some(to) = request.uri().query().and_then(|query| query.strip_prefix("to=")) {
        return (StatusCode::FOUND, [("location", to)]).into_response();
    }
    if let Some(status) = path.strip_prefix("/status/") {
        return StatusCode::from_bytes(status.as_bytes()).unwrap().into_response();
    }
    let etag = script.etag.lock().unwrap().clone();
    let content = script.content.lock().unwrap().clone();
    let length = content.len();
    let from = header("range").filter(|_| header("if-range").as_ref() == Some(&etag));
    let from: Option<usize> = from.map(|range| range[6..range.len() - 1].parse().unwrap());
    let breaks_after = *script.breaks_after.lock().unwrap();
    let rest = content[from.unwrap_or(0)..].to_vec();
    let pieces: Vec<Bytes> = rest.chunks(PIECE_BYTES).map(Bytes::copy_from_slice).collect();
    let paced = stream::iter(pieces.into_iter().enumerate()).then(move |(n, piece)| {
        let script = script.clone();
        async move {
            script.pieces.acquire().await.unwrap().forget();
            let broken = breaks_after.is_some_and(|most| n * PIECE_BYTES >= most);
            if broken { Err(std::io::Error::other("the origin breaks")) } else { Ok(piece) }
        }
    });
    let mut response = Response::new(Body::from_stream(paced));
    let headers = response.headers_mut();
    if !etag.is_empty() {
        headers.insert("etag", etag.parse().unwrap());
    }
    if path != "/without-length" {
        headers.insert("content-length", (length - from.unwrap_or(0)).into());
    }
    if let Some(from) = from {
        headers.insert("content-range", format!("bytes {from}-{}/{length}", length - 1).parse().unwrap());
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}
