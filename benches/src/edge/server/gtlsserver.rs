//! The example server of ngtcp2 with GnuTLS: C, one thread, nothing but HTTP/3. Its defaults, quiet.

use std::path::Path;
use std::process::Command;

use super::{Server, Site, wait_for_udp};

pub fn files(program: &Path, contents: &[Vec<u8>]) -> anyhow::Result<Option<Server>> {
    let Some(site) = Site::for_program(program, contents)? else { return Ok(None) };
    let root = site.folder.path();
    let mut command = Command::new(program);
    command
        .args(["--quiet", "--no-quic-dump", "--no-http-dump", "--timeout", "120s", "--htdocs"])
        .arg(root.join("files"))
        .arg(site.address.ip().to_string())
        .arg(site.address.port().to_string())
        .arg(root.join("key.pem"))
        .arg(root.join("certificate.pem"));
    let server = site.run("gtlsserver", command)?;
    wait_for_udp(&server)?;
    Ok(Some(server))
}
