//! SIGUSR2: a newer process takes over, and viewers see nothing of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::join_all;
use h3::error::{Code, StreamError};
use http::{HeaderMap, Method};
use quinn::{ConnectionError, TransportErrorCode};
use reelmill_media::keys::BlobKind;
use reelmill_platform::store::Store;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::process::{Program, start};
use crate::world::{H3Client, certificate_in, noise, path_of, quic_client, read_rest, times};

const VIEWERS: usize = 200;
const ICON: &str = "/player/icon.svg";

/// An edge that changes its processes; the last is ended with the test.
struct Service {
    folder: PathBuf,
    first: Program,
    /// What the newest process says.
    ready: Value,
    /// Ids of those that it took over from.
    older: Vec<Value>,
}

impl Service {
    fn start(folder: &Path, more: &[&str]) -> Service {
        std::fs::create_dir_all(folder).unwrap();
        // Whatever was here before is not ready.
        let _ = std::fs::remove_file(folder.join("ready.json"));
        let (first, ready) = start(folder, more);
        Service { folder: folder.to_owned(), first, ready, older: Vec::new() }
    }

    fn address(&self) -> SocketAddr {
        self.ready["listen"].as_str().unwrap().parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let newest = self.ready["process"].to_string();
        assert!(Command::new("kill").args([name, &newest]).status().unwrap().success());
    }

    fn is_running(process: &Value) -> bool {
        // A child that nobody has waited for yet is there, and has ended.
        let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    }

    /// Has a newer process take over.
    async fn upgrade(&mut self) {
        self.signal("-USR2");
        let older = self.ready["process"].clone();
        until("a newer process", || {
            let text = std::fs::read(self.folder.join("ready.json")).unwrap();
            self.ready = serde_json::from_slice(&text).unwrap();
            self.ready["process"] != older
        })
        .await;
        self.older.push(older);
    }

    /// Waits until those that drain have nothing left to do.
    async fn older_ended(&self) {
        until("the end of the older ones", || !self.older.iter().any(Self::is_running)).await;
    }

    async fn drain(self) {
        self.signal("-TERM");
        until("the end of the drain", || !Self::is_running(&self.ready["process"])).await;
        self.older_ended().await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.ready["process"] != self.first.0.id() && Self::is_running(&self.ready["process"]) {
            self.signal("-KILL");
        }
    }
}

async fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} does not come about");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A store in `folder` with a blob.
async fn stored(folder: &Path, length: usize) -> (String, Bytes) {
    let store = Store::open(&format!("file://{}/store", folder.display())).unwrap();
    let bytes = noise(length, 1);
    let hash = store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    (path_of(&hash, BlobKind::Segment), bytes)
}

/// Two hundred viewers from eight places, each in the middle of a download: what they send comes to the process and the endpoint
/// that have their connection, over three generations of processes.
#[tokio::test(flavor = "multi_thread")]
async fn downloads_in_flight_are_finished_by_the_process_that_began_them() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = stored(folder.path(), 2 << 20).await;
    let disk = folder.path().join("cache").display().to_string();
    let disk = ["--disk-cache-dir", &disk, "--disk-cache-bytes", "100000000"];
    let flags = [&["--grace-s", "300", "--endpoints", "4"][..], &disk].concat();
    let mut service = Service::start(folder.path(), &flags);
    let address = service.address();
    let places: Vec<_> = (0..8).map(|_| quic_client(&[&certificate_in(folder.path())])).collect();
    let connect = async |viewer: usize| {
        let connecting = places[viewer % places.len()].connect(address, "edge.test").unwrap();
        H3Client::over(connecting.await.unwrap()).await
    };
    let begin = async |viewer| {
        let client = connect(viewer).await;
        let mut stream = client.begin(Method::GET, &path, HeaderMap::new()).await.unwrap();
        assert_eq!(stream.recv_response().await.unwrap().status(), 200);
        let mut got = BytesMut::new();
        let mut piece = stream.recv_data().await.unwrap().unwrap();
        got.extend(piece.copy_to_bytes(piece.remaining()));
        (client, stream, got)
    };
    let mut downloads = Vec::new();
    for _ in 0..2 {
        downloads.extend(join_all((0..VIEWERS / 2).map(begin)).await);
        service.upgrade().await;
        assert_eq!(service.address(), address);
        // The newer one serves, over TCP too, and the older ones still have theirs.
        let response = connect(0).await.send(Method::GET, ICON, HeaderMap::new()).await.unwrap();
        assert_eq!(response.status(), 200);
        let plain = service.ready["plain_listen"].as_str().unwrap();
        assert_eq!(reqwest::get(format!("http://{plain}{ICON}")).await.unwrap().status(), 200);
        let admin = service.ready["admin"].as_str().unwrap();
        assert_eq!(reqwest::get(format!("http://{admin}/readyz")).await.unwrap().status(), 200);
        assert!(service.older.iter().all(Service::is_running));
    }
    let finished = downloads.into_iter().map(|(client, mut stream, mut got)| async move {
        got.extend(read_rest(&mut stream).await.unwrap());
        drop(client);
        got
    });
    for got in timeout(Duration::from_secs(200), join_all(finished)).await.unwrap() {
        assert!(got == bytes);
    }
    service.older_ended().await;
    TcpStream::connect(address).await.unwrap();
    service.drain().await;
    assert!(TcpStream::connect(address).await.is_err(), "the last one leaves nothing open");
}

/// A program that cannot begin leaves everything as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_process_that_does_not_start_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let changeable = folder.path().join("changeable.json");
    std::fs::write(&changeable, "{}").unwrap();
    let service = Service::start(folder.path(), &["--changeable", changeable.to_str().unwrap()]);
    let endpoint = quic_client(&[&certificate_in(folder.path())]);
    let client =
        H3Client::over(endpoint.connect(service.address(), "edge.test").unwrap().await.unwrap()).await;
    // The newer one reads its settings from a pipe, so that it is known when it is there.
    std::fs::remove_file(&changeable).unwrap();
    assert!(Command::new("mkfifo").arg(&changeable).status().unwrap().success());
    service.signal("-USR2");
    tokio::fs::write(&changeable, "{ \"no_such_setting\": 1 }").await.unwrap();
    let children = format!("/proc/{0}/task/{0}/children", service.ready["process"]);
    let has_child = || std::fs::read_to_string(&children).is_ok_and(|text| !text.trim().is_empty());
    until("its end", || !has_child()).await;
    assert!(Service::is_running(&service.ready["process"]));
    assert_eq!(client.send(Method::GET, ICON, HeaderMap::new()).await.unwrap().status(), 200);
    let another = endpoint.connect(service.address(), "edge.test").unwrap().await.unwrap();
    assert_eq!(
        H3Client::over(another).await.send(Method::GET, ICON, HeaderMap::new()).await.unwrap().status(),
        200
    );
    service.drain().await;
}

/// Where viewers go, and what they have had there.
struct Audience {
    address: Mutex<SocketAddr>,
    /// One for each, or the kernel has no room for what they are all sent when they all come at once.
    endpoints: Vec<quinn::Endpoint>,
    path: String,
    bytes: Bytes,
    served: AtomicU64,
    moved: AtomicU64,
    over: AtomicBool,
}

impl Audience {
    /// Watches on, as a browser does: who is told that a request was not processed asks again over a new connection, and
    /// everything else that goes wrong is a failure.
    async fn watch(self: Arc<Self>, viewer: usize) -> Result<(), String> {
        while !self.over.load(Ordering::Relaxed) {
            let address = *self.address.lock().unwrap();
            let begun = Instant::now();
            let connecting = self.endpoints[viewer].connect(address, "edge.test");
            let connection = match connecting.unwrap().await {
                Ok(connection) => connection,
                // It had just been told where to go when that place began to drain.
                Err(ConnectionError::ConnectionClosed(close))
                    if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
                {
                    continue;
                }
                Err(error) => return Err(format!("no connection after {:?}: {error}", begun.elapsed())),
            };
            let client = H3Client::over(connection).await;
            while !self.over.load(Ordering::Relaxed) {
                match self.ask(&client, viewer).await {
                    Ok(()) => self.served.fetch_add(1, Ordering::Relaxed),
                    Err(Unserved::Moved) => {
                        self.moved.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Err(Unserved::Failed(reason)) => return Err(reason),
                };
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    async fn ask(&self, client: &H3Client, viewer: usize) -> Result<(), Unserved> {
        let path = if viewer.is_multiple_of(4) { &self.path } else { ICON };
        let begun = async {
            let mut stream = client.try_begin(Method::GET, path, HeaderMap::new()).await?;
            let status = stream.recv_response().await?.status();
            Ok((stream, status))
        };
        let (mut stream, status) = begun.await.map_err(|error: StreamError| match error {
            StreamError::RemoteClosing { .. } => Unserved::Moved,
            StreamError::RemoteTerminate { code: Code::H3_REQUEST_REJECTED, .. } => Unserved::Moved,
            error if error.is_h3_no_error() => Unserved::Moved,
            other => Unserved::Failed(format!("no answer: {other}")),
        })?;
        let body =
            read_rest(&mut stream).await.map_err(|error| Unserved::Failed(format!("cut off: {error}")))?;
        if status != 200 || (path == self.path && body != self.bytes) {
            return Err(Unserved::Failed(format!("{status}, {} bytes", body.len())));
        }
        Ok(())
    }
}

enum Unserved {
    Moved,
    Failed(String),
}

/// Settings, certificate, program and place change in turn, ten times or as often as `REELMILL_CHANGES` says.
#[tokio::test(flavor = "multi_thread")]
async fn changes_under_two_hundred_viewers_lose_no_request() {
    let cycles = times("REELMILL_CHANGES", 10) as usize;
    let shared = tempfile::tempdir().unwrap();
    let at = |name: &str| shared.path().join(name);
    let (path, bytes) = stored(shared.path(), 300_000).await;
    let certificates = ["one", "two"].map(|name| {
        let made = rcgen::generate_simple_self_signed(vec!["edge.test".to_owned()]).unwrap();
        std::fs::write(at(&format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(at(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        at(&format!("{name}.pem"))
    });
    let configure = |certificate: usize, requests: usize| {
        let (pem, key) =
            (&certificates[certificate % 2], certificates[certificate % 2].with_extension("key"));
        let settings = json!({ "certificate": pem, "key": key, "client_requests": requests });
        std::fs::write(at("changeable.json"), settings.to_string()).unwrap();
    };
    configure(0, 1000);
    let changeable = at("changeable.json");
    let flags = ["--changeable", changeable.to_str().unwrap(), "--grace-s", "60"];
    let open = |name: &str| {
        std::fs::create_dir_all(at(name)).unwrap();
        // Both have the same store.
        let _ = std::os::unix::fs::symlink(at("store"), at(name).join("store"));
        Service::start(&at(name), &flags)
    };
    let mut services = [open("a"), open("b")];
    let trusted = certificates.each_ref().map(PathBuf::as_path);
    let audience = Arc::new(Audience {
        address: Mutex::new(services[0].address()),
        endpoints: (0..VIEWERS).map(|_| quic_client(&trusted)).collect(),
        path,
        bytes,
        served: AtomicU64::new(0),
        moved: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let viewers: Vec<_> = (0..VIEWERS).map(|viewer| tokio::spawn(audience.clone().watch(viewer))).collect();
    let mut served = 0;
    for cycle in 0..cycles {
        // Each change meets viewers who have all been served since the one before, about.
        until("an audience", || audience.served.load(Ordering::Relaxed) >= served + VIEWERS as u64).await;
        served = audience.served.load(Ordering::Relaxed);
        match cycle % 4 {
            0 => services[0].upgrade().await,
            1 => {
                configure(0, 900 + cycle);
                services[0].signal("-HUP");
            }
            2 => {
                configure(cycle / 4 + 1, 1000);
                services[0].signal("-HUP");
            }
            _ => {
                let [left, stays] = services;
                *audience.address.lock().unwrap() = stays.address();
                let name = if left.folder == at("a") { "a" } else { "b" };
                left.drain().await;
                services = [stays, open(name)];
            }
        }
    }
    audience.over.store(true, Ordering::Relaxed);
    let outcomes = join_all(viewers).await;
    let failures: Vec<String> = outcomes.into_iter().filter_map(|outcome| outcome.unwrap().err()).collect();
    let (served, moved) = (audience.served.load(Ordering::Relaxed), audience.moved.load(Ordering::Relaxed));
    println!("{cycles} changes, {served} requests, {moved} times to another process, {failures:?}");
    assert!(failures.is_empty(), "{} of {served} failed: {failures:?}", failures.len());
    assert!(moved >= VIEWERS as u64);
}
