//! Varnish with its defaults, which pass on what is being fetched to all who ask for it. It has no TLS: nginx is in front of it,
//! over HTTP/2, on the same core. Threads for a crowd are there before it comes.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use reelmill_benches::origin::BUCKET;

use super::process::{Process, wait_for};
use super::{Server, Site, is_here, nginx};

/// How it compiles its configuration; its package names the compiler of the distribution's that it was made for.
const COMPILER: &str = "cc_command=exec cc -O2 -pthread -fpic -shared -Wl,-x -o %o %s";

/// Varnish, and nginx for TLS.
pub fn before(origin: SocketAddr, program: &Path, tls: &Path) -> anyhow::Result<Option<Server>> {
    if !is_here(tls) {
        return Ok(None);
    }
    let Some(site) = Site::for_program(program, &[])? else { return Ok(None) };
    let root = site.folder.path();
    let (config, socket) = (root.join("origin.vcl"), root.join("varnish.sock"));
    let (host, port) = (origin.ip(), origin.port());
    fs::write(
        &config,
        format!(
            "vcl 4.1;\nbackend origin {{ .host = \"{host}\"; .port = \"{port}\"; }}\n\
             sub vcl_backend_fetch {{ set bereq.url = \"/{BUCKET}\" + bereq.url; }}\n"
        ),
    )?;
    let mut command = Command::new(program);
    command.args(["-F", "-j", "none", "-s", "malloc,1g", "-p", "thread_pool_min=500", "-p", COMPILER]);
    command.arg("-n").arg(root.join("varnish")).arg("-a").arg(&socket).arg("-f").arg(&config);
    let varnish = Process::spawn(command)?;
    wait_for("varnish", || UnixStream::connect(&socket).ok())?;
    let server = nginx::tls_for(&socket, tls, site)?;
    Ok(Some(Server { name: "varnish", _behind: Some(varnish), ..server }))
}
