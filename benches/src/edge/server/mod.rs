//! The servers, each with the same objects, held in memory or in the kernel's page cache, on one core.

mod caddy;
mod gtlsserver;
mod nginx;
mod reelmill;

use std::fs;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reelmill_media::ids::BlobHash;
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

/// A server takes less to start.
const START: Duration = Duration::from_secs(20);

/// A running server, ended with this value.
pub struct Server {
    pub name: &'static str,
    pub address: SocketAddr,
    pub certificate: CertificateDer<'static>,
    /// In the order in which they were given.
    pub objects: Vec<Object>,
    /// Those that it has to fetch first, in their order; nothing of a server that fetches nothing.
    pub cold: Vec<Object>,
    process: Child,
    _folder: TempDir,
}

/// Something that can be fetched.
pub struct Object {
    pub path: String,
    pub bytes: usize,
    pub hash: BlobHash,
}

/// What servers hand out.
pub struct Contents {
    /// What they have, in memory or in the kernel's page cache.
    pub hot: Vec<Vec<u8>>,
    /// What they have to fetch first.
    pub cold: Vec<Vec<u8>>,
}

impl Object {
    fn new(path: String, content: &[u8]) -> Self {
        Self { path, bytes: content.len(), hash: BlobHash::of(content) }
    }
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

/// Ours, and those peers that are there: `tools` is a folder with programs that speak HTTP/3.
pub fn all(binaries: &Path, tools: &Path, contents: &Contents) -> anyhow::Result<Vec<Server>> {
    let mut servers = vec![reelmill::start(binaries, contents)?];
    servers.extend(nginx::start(&tools.join("nginx"), &contents.hot)?);
    servers.extend(gtlsserver::start(&tools.join("gtlsserver"), &contents.hot)?);
    servers.extend(caddy::start(Path::new("caddy"), &contents.hot)?);
    Ok(servers)
}

/// What a peer is made of: a folder with the objects as files and a certificate, and a port that nobody has.
struct Site {
    folder: TempDir,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    objects: Vec<Object>,
}

impl Site {
    /// A site in `files/`, `certificate.pem` and `key.pem`; nothing where the peer's program is not.
    fn for_program(program: &Path, contents: &[Vec<u8>]) -> anyhow::Result<Option<Self>> {
        let mut look = Command::new(program);
        if look.arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let root = folder.path();
        let objects: Vec<Object> = (0..)
            .zip(contents)
            .map(|(number, content)| Object::new(format!("/{number}.m4s"), content))
            .collect();
        for (object, content) in objects.iter().zip(contents) {
            put(&root.join("files").join(&object.path[1..]), content)?;
        }
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
        fs::write(root.join("certificate.pem"), certificate.pem())?;
        fs::write(root.join("key.pem"), key.serialize_pem())?;
        // Nobody else has it at this moment; if somebody takes it before the peer does, the bench ends with a message.
        let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        Ok(Some(Self { address, certificate: certificate.der().clone(), objects, folder }))
    }

    /// Runs the peer until the server is dropped.
    fn run(self, name: &'static str, command: Command) -> anyhow::Result<Server> {
        let process = spawn(command)?;
        Ok(Server {
            name,
            address: self.address,
            certificate: self.certificate,
            objects: self.objects,
            cold: Vec::new(),
            process,
            _folder: self.folder,
        })
    }
}

fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, bytes)?)
}

/// Starts a server on the first core.
fn spawn(program: Command) -> anyhow::Result<Child> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let name = program.get_program().display().to_string();
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    started.with_context(|| format!("cannot start {name} by taskset"))
}

/// Waits until there is something.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if begun.elapsed() > START {
            bail!("{what} does not start");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the server's TCP port, opened after its UDP port, takes connections.
fn wait_for_tcp(server: &Server) -> anyhow::Result<()> {
    wait_for(server.name, || TcpStream::connect(server.address).ok())?;
    Ok(())
}

/// Waits until the server has its UDP port.
fn wait_for_udp(server: &Server) -> anyhow::Result<()> {
    wait_for(server.name, || UdpSocket::bind(server.address).is_err().then_some(()))
}
