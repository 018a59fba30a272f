//! The servers, each with the same objects, held in memory or in the kernel's page cache.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tempfile::TempDir;

/// A server takes less to start.
const START: Duration = Duration::from_secs(20);

/// A running server, ended with this value.
pub struct Server {
    pub name: &'static str,
    pub address: SocketAddr,
    pub certificate: CertificateDer<'static>,
    /// Where each object is found, and its hash.
    pub paths: Vec<String>,
    pub hashes: Vec<BlobHash>,
    process: Child,
    _folder: TempDir,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ours, as it comes: every byte was proven, all counters and limits are on. Loopback is not limited per client.
pub fn edge(binaries: &Path, objects: &[Vec<u8>]) -> anyhow::Result<Server> {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    let hashes: Vec<BlobHash> = objects.iter().map(|object| BlobHash::of(object)).collect();
    let keys: Vec<String> = hashes.iter().map(|hash| keys::blob(hash, BlobKind::Segment)).collect();
    for (key, object) in keys.iter().zip(objects) {
        put(&root.join("store").join(key), object)?;
    }
    let ready = root.join("ready.json");
    let mut command = Command::new(binaries.join("reelmill-edge"));
    command
        .args(["--store", &format!("file://{}/store", root.display())])
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log", "error"])
        .arg("--state-dir")
        .arg(root.join("state"))
        .arg("--ready-file")
        .arg(&ready);
    let process = start(command)?;
    let text = wait_for(&ready)?;
    let ready: Value = serde_json::from_slice(&text)?;
    let address = ready["listen"].as_str().context("the edge does not say where it listens")?.parse()?;
    let certificate = CertificateDer::from_pem_file(root.join("state/edge-certificate.pem"))?;
    let paths = keys.iter().map(|key| format!("/{key}")).collect();
    Ok(Server { name: "reelmill", address, certificate, paths, hashes, process, _folder: folder })
}

/// Caddy's file server with its own HTTP/3, if it is installed. No access log, no compression, as is its default.
pub fn caddy(objects: &[Vec<u8>]) -> anyhow::Result<Option<Server>> {
    if Command::new("caddy").arg("version").stdout(Stdio::null()).status().is_err() {
        return Ok(None);
    }
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    let names: Vec<String> = (0..objects.len()).map(|number| format!("{number}.m4s")).collect();
    for (name, object) in names.iter().zip(objects) {
        put(&root.join("files").join(name), object)?;
    }
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    fs::write(root.join("certificate.pem"), certificate.pem())?;
    fs::write(root.join("key.pem"), key.serialize_pem())?;
    // Nobody else has it at this moment; if somebody takes it before Caddy does, the bench ends with a message.
    let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let path = root.display();
    let config = format!(
        "{{\n admin off\n auto_https off\n servers {{\n  protocols h1 h2 h3\n }}\n}}\n\
         https://localhost:{port} {{\n bind 127.0.0.1\n tls {path}/certificate.pem {path}/key.pem\n root * {path}/files\n file_server\n}}\n",
        port = address.port()
    );
    fs::write(root.join("Caddyfile"), config)?;
    let mut command = Command::new("caddy");
    command.arg("run").arg("--config").arg(root.join("Caddyfile")).env("HOME", root).env("GOMAXPROCS", "1");
    let process = start(command)?;
    let server = Server {
        name: "caddy",
        address,
        certificate: certificate.der().clone(),
        paths: names.iter().map(|name| format!("/{name}")).collect(),
        hashes: objects.iter().map(|object| BlobHash::of(object)).collect(),
        process,
        _folder: folder,
    };
    let begun = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        if begun.elapsed() > START {
            bail!("caddy does not start");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Some(server))
}

fn put(path: &PathBuf, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, bytes)?)
}

/// Starts a server on the first core.
fn start(program: Command) -> anyhow::Result<Child> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let name = program.get_program().display().to_string();
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    started.with_context(|| format!("cannot start {name} by taskset"))
}

fn wait_for(file: &Path) -> anyhow::Result<Vec<u8>> {
    let begun = Instant::now();
    loop {
        if let Ok(text) = fs::read(file) {
            return Ok(text);
        }
        if begun.elapsed() > START {
            bail!("{} does not appear", file.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
