//! The servers, each on one core.
//!
//! *Files*: each has the same objects, in memory or in the kernel's page cache. *Before an origin*: it fetches what it is asked
//! for.

pub mod caddy;
mod gtlsserver;
pub mod nginx;
mod process;
pub mod reelmill;
pub mod varnish;

use std::fs;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use reelmill_media::ids::BlobHash;
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

use process::{Process, wait_for};

/// A running server, ended with this value.
pub struct Server {
    pub name: &'static str,
    pub address: SocketAddr,
    pub certificate: CertificateDer<'static>,
    /// Those that it has, in the order in which they were given.
    pub objects: Vec<Object>,
    process: Process,
    /// What it hands requests on to, ended with it.
    _behind: Option<Process>,
    _folder: TempDir,
}

/// Something that can be fetched.
pub struct Object {
    pub path: String,
    pub bytes: usize,
    pub hash: BlobHash,
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

/// Ours, and those peers that are there, with files: `tools` is a folder with programs that speak HTTP/3.
pub fn all(binaries: &Path, tools: &Path, contents: &[Vec<u8>]) -> anyhow::Result<Vec<Server>> {
    let mut servers = vec![reelmill::files(binaries, contents)?];
    servers.extend(nginx::files(&tools.join("nginx"), contents)?);
    servers.extend(gtlsserver::files(&tools.join("gtlsserver"), contents)?);
    servers.extend(caddy::files(Path::new("caddy"), contents)?);
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
        if !is_here(program) {
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
        let process = Process::spawn(command)?;
        Ok(Server {
            name,
            address: self.address,
            certificate: self.certificate,
            objects: self.objects,
            process,
            _behind: None,
            _folder: self.folder,
        })
    }
}

fn is_here(program: &Path) -> bool {
    Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, bytes)?)
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
