//! Ours, as it comes: every byte was proven, all counters and limits are on. Loopback is not limited per client.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use super::{Contents, Object, Server, put, spawn, wait_for};

pub fn start(binaries: &Path, contents: &Contents) -> anyhow::Result<Server> {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    let path = |content: &Vec<u8>| format!("/{}", keys::blob(&BlobHash::of(content), BlobKind::Segment));
    let stored = |contents: &[Vec<u8>]| -> anyhow::Result<Vec<Object>> {
        let objects = contents.iter().map(|content| {
            let object = Object::new(path(content), content);
            put(&root.join("store").join(&object.path[1..]), content)?;
            Ok(object)
        });
        objects.collect()
    };
    let (objects, cold) = (stored(&contents.hot)?, stored(&contents.cold)?);
    let ready = root.join("ready.json");
    let mut command = Command::new(binaries.join("reelmill-edge"));
    command
        .args(["--store", &format!("file://{}/store", root.display())])
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log", "error"])
        .arg("--state-dir")
        .arg(root.join("state"))
        .arg("--ready-file")
        .arg(&ready);
    let process = spawn(command)?;
    let text = wait_for("reelmill-edge", || fs::read(&ready).ok())?;
    let ready: Value = serde_json::from_slice(&text)?;
    let address = ready["listen"].as_str().context("the edge does not say where it listens")?.parse()?;
    let certificate = CertificateDer::from_pem_file(root.join("state/edge-certificate.pem"))?;
    Ok(Server { name: "reelmill", address, certificate, objects, cold, process, _folder: folder })
}
