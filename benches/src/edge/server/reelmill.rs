//! Ours, as it comes: every byte was proven, all counters and limits are on. Loopback is not limited per client.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use reelmill_benches::origin::BUCKET;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, wait_for};
use super::{Object, Server, put};

/// With a folder as its store.
pub fn files(binaries: &Path, contents: &[Vec<u8>]) -> anyhow::Result<Server> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("store");
    let mut objects = Vec::new();
    for content in contents {
        let path = format!("/{}", keys::blob(&BlobHash::of(content), BlobKind::Segment));
        put(&store.join(&path[1..]), content)?;
        objects.push(Object::new(path, content));
    }
    let mut command = Command::new(binaries.join("reelmill-edge"));
    command.args(["--store", &format!("file://{}", store.display())]);
    Ok(Server { objects, ..run(command, folder)? })
}

/// With the origin's bucket as its store.
pub fn before(origin: SocketAddr, binaries: &Path) -> anyhow::Result<Server> {
    let mut command = Command::new(binaries.join("reelmill-edge"));
    command
        .args(["--store", &format!("s3://{BUCKET}")])
        .env("AWS_ENDPOINT", format!("http://{origin}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_SKIP_SIGNATURE", "true");
    run(command, tempfile::tempdir()?)
}

fn run(mut command: Command, folder: TempDir) -> anyhow::Result<Server> {
    let root = folder.path();
    let ready = root.join("ready.json");
    command
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log", "error"])
        .arg("--state-dir")
        .arg(root.join("state"))
        .arg("--ready-file")
        .arg(&ready);
    let process = Process::spawn(command)?;
    let text = wait_for("reelmill-edge", || fs::read(&ready).ok())?;
    let ready: Value = serde_json::from_slice(&text)?;
    let address = ready["listen"].as_str().context("the edge does not say where it listens")?.parse()?;
    let certificate = CertificateDer::from_pem_file(root.join("state/edge-certificate.pem"))?;
    Ok(Server {
        name: "reelmill",
        address,
        certificate,
        objects: Vec::new(),
        process,
        _behind: None,
        _folder: folder,
    })
}
