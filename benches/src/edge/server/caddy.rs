//! Caddy with its own HTTP/3. No access log, no compression, as is its default; one processor, as it has one.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use reelmill_benches::origin::BUCKET;

use super::{Server, Site, wait_for_tcp};

/// Its file server.
pub fn files(program: &Path, contents: &[Vec<u8>]) -> anyhow::Result<Option<Server>> {
    let Some(site) = Site::for_program(program, contents)? else { return Ok(None) };
    let root = format!("root * {}/files\n file_server", site.folder.path().display());
    run(program, site, &root).map(Some)
}

/// Its reverse proxy, which keeps nothing: Caddy has no cache of its own.
pub fn before(origin: SocketAddr, program: &Path) -> anyhow::Result<Option<Server>> {
    let Some(site) = Site::for_program(program, &[])? else { return Ok(None) };
    run(program, site, &format!("rewrite * /{BUCKET}{{uri}}\n reverse_proxy {origin}")).map(Some)
}

fn run(program: &Path, site: Site, directives: &str) -> anyhow::Result<Server> {
    let (root, path) = (site.folder.path(), site.folder.path().display());
    let config = format!(
        "{{\n admin off\n auto_https off\n servers {{\n  protocols h1 h2 h3\n }}\n}}\n\
         https://localhost:{port} {{\n bind 127.0.0.1\n tls {path}/certificate.pem {path}/key.pem\n {directives}\n}}\n",
        port = site.address.port()
    );
    fs::write(root.join("Caddyfile"), config)?;
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(root.join("Caddyfile")).env("HOME", root).env("GOMAXPROCS", "1");
    let server = site.run("caddy", command)?;
    wait_for_tcp(&server)?;
    Ok(server)
}
