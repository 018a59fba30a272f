//! SIGHUP: settings and certificate change under connections that go on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::{quic_client_with, tls_client};

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    fn hang_up(&self) {
        assert!(Command::new("kill").args(["-HUP", &self.0.id().to_string()]).status().unwrap().success());
    }
}

fn start(folder: &Path) -> (Program, Value) {
    let ready = folder.join("ready.json");
    let child = Command::new(env!("CARGO_BIN_EXE_reelmill-edge"))
        .args(["--store", &format!("file://{}/store", folder.display())])
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .arg("--state-dir")
        .arg(folder.join("state"))
        .arg("--changeable")
        .arg(folder.join("changeable.json"))
        .arg("--ready-file")
        .arg(&ready)
        .stderr(File::create(folder.join("log")).unwrap())
        .stdout(Stdio::null())
        .spawn();
    let program = Program(child.unwrap());
    let begun = Instant::now();
    while !ready.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "not ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    let ready = std::fs::read(&ready).unwrap();
    (program, serde_json::from_slice(&ready).unwrap())
}

/// Makes a certificate in files of this name.
fn certificate(folder: &Path, name: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["edge.test".to_owned()]).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), made.cert.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).unwrap()
}

/// A client that trusts the certificates of these names.
fn client(folder: &Path, trusted: [&str; 2], alpn: &[u8]) -> rustls::ClientConfig {
    let pems = trusted.map(|name| folder.join(format!("{name}.pem")));
    let mut config = tls_client(&pems.each_ref().map(PathBuf::as_path), alpn);
    // A resumed session shows no certificate.
    config.resumption = rustls::client::Resumption::disabled();
    config
}

async fn over_tcp(address: &str, config: &rustls::ClientConfig) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("edge.test").unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config.clone())).connect(name, tcp).await.unwrap()
}

async fn over_quic(address: &str, config: &rustls::ClientConfig) -> quinn::Connection {
    let endpoint = quic_client_with(config.clone(), quinn::TransportConfig::default());
    endpoint.connect(address.parse().unwrap(), "edge.test").unwrap().await.unwrap()
}

fn shown(connection: &quinn::Connection) -> CertificateDer<'static> {
    let shown = connection.peer_identity().unwrap().downcast::<Vec<CertificateDer>>().unwrap();
    shown[0].clone().into_owned()
}

/// Asks for the icon and reads the answer, so that the connection can be used again.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /player/icon.svg HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"</svg>\n") && !answer.ends_with(b"</svg>") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    String::from_utf8(answer).unwrap()
}

async fn ask_h3(requests: &h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>) -> u16 {
    let request = http::Request::get("https://edge.test/player/icon.svg").body(()).unwrap();
    let mut stream = requests.clone().send_request(request).await.unwrap();
    stream.finish().await.unwrap();
    stream.recv_response().await.unwrap().status().as_u16()
}

async fn until(what: &str, mut seen: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !seen().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} does not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_changes_all_or_nothing_and_ends_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (old, new) = (certificate(folder.path(), "old"), certificate(folder.path(), "new"));
    let write = |settings: Value| std::fs::write(path("changeable.json"), settings.to_string()).unwrap();
    write(json!({ "certificate": path("old.pem"), "key": path("old.key"), "client_requests": 500 }));
    let (program, ready) = start(folder.path());
    let address = ready["listen"].as_str().unwrap();
    let [h1, h3] = [&b"http/1.1"[..], b"h3"].map(|alpn| client(folder.path(), ["old", "new"], alpn));
    let mut tcp = over_tcp(address, &h1).await;
    let quic = over_quic(address, &h3).await;
    assert_eq!(shown(&quic), old);
    let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(quic.clone())).await.unwrap();
    tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
    assert_eq!(ask_h3(&requests).await, 200);
    assert!(ask(&mut tcp).await.starts_with("HTTP/1.1 200"));

    write(json!({ "certificate": path("new.pem"), "key": path("new.key") }));
    program.hang_up();
    until("the new certificate", async || shown(&over_quic(address, &h3).await) == new).await;
    let another = over_tcp(address, &h1).await;
    assert_eq!(another.get_ref().1.peer_certificates().unwrap()[0], new);
    // Those that were there go on.
    assert!(ask(&mut tcp).await.starts_with("HTTP/1.1 200"));
    assert_eq!(ask_h3(&requests).await, 200);

    let log = || std::fs::read_to_string(path("log")).unwrap();
    write(json!({ "certificate": path("old.pem"), "client_connections": "many", "client_request": 1 }));
    program.hang_up();
    until("the mistakes", async || log().contains("nothing is changed")).await;
    for mistake in ["client_connections: ", "client_request: there is no such", "certificate and key: "] {
        assert!(log().contains(mistake), "{}", log());
    }
    // Well-formed, and still of no use: both files are named.
    write(json!({ "certificate": path("old.pem"), "key": path("new.key"), "geoip": path("none.mmdb") }));
    program.hang_up();
    until("both mistakes", async || log().contains("none.mmdb")).await;
    assert!(log().contains("cannot be used together"), "{}", log());
    assert_eq!(shown(&over_quic(address, &h3).await), new);
    assert!(ask(&mut tcp).await.starts_with("HTTP/1.1 200"));
}
