//! nginx, set up to do well: large buffers, no access log, and no end to the requests of a connection.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use reelmill_benches::origin::BUCKET;

use super::{Server, Site, wait_for_tcp};

/// With its own QUIC, segmentation offload on (it is off by default), and files kept open.
pub fn files(program: &Path, contents: &[Vec<u8>]) -> anyhow::Result<Option<Server>> {
    let Some(site) = Site::for_program(program, contents)? else { return Ok(None) };
    let (address, path) = (site.address, site.folder.path().display());
    let http = "open_file_cache max=100 inactive=1h;\n output_buffers 2 256k;\n\
                quic_gso on;\n http3_stream_buffer_size 256k;\n http3_max_concurrent_streams 128;";
    let server = format!("listen {address} quic;\n root {path}/files;");
    run(program, site, http, &server).map(Some)
}

/// Its cache, over HTTP/2. One request fetches, and the others wait until it has all of it: `proxy_cache_lock` (off by
/// default), which they wait for as long as it takes.
pub fn before(origin: SocketAddr, program: &Path) -> anyhow::Result<Option<Server>> {
    let Some(site) = Site::for_program(program, &[])? else { return Ok(None) };
    let path = site.folder.path().display();
    let http = format!(
        "proxy_cache_path {path}/cache keys_zone=cache:8m max_size=1g use_temp_path=off;\n\
         upstream origin {{ server {origin}; keepalive 64; }}"
    );
    let server = proxy(&format!(
        "http://origin/{BUCKET}/;\n proxy_cache cache;\n proxy_cache_valid 200 1h;\n proxy_cache_lock on;\n\
         proxy_cache_lock_timeout 60s;\n proxy_cache_lock_age 60s"
    ));
    run(program, site, &http, &server).map(Some)
}

/// TLS and HTTP/2 for a server that has neither and listens on a Unix socket; what comes is passed on as it comes.
pub(super) fn tls_for(socket: &Path, program: &Path, site: Site) -> anyhow::Result<Server> {
    let http = format!("upstream socket {{ server unix:{}; keepalive 1024; }}", socket.display());
    run(program, site, &http, &proxy("http://socket;\n proxy_max_temp_file_size 0"))
}

/// Hands requests on over connections that are kept.
fn proxy(to: &str) -> String {
    format!(
        "http2 on;\n location / {{\n proxy_http_version 1.1;\n proxy_set_header Connection \"\";\n\
         proxy_buffers 8 64k;\n proxy_busy_buffers_size 128k;\n proxy_pass {to};\n }}"
    )
}

fn run(program: &Path, site: Site, http: &str, server: &str) -> anyhow::Result<Server> {
    let (root, path, address) = (site.folder.path(), site.folder.path().display(), site.address);
    let config = format!(
        "daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log {path}/errors crit;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n access_log off;\n server_tokens off;\n\
         keepalive_requests 1000000000;\n keepalive_timeout 120s;\n\
         client_body_temp_path {path}/body;\n proxy_temp_path {path}/proxy;\n fastcgi_temp_path {path}/fastcgi;\n\
         uwsgi_temp_path {path}/uwsgi;\n scgi_temp_path {path}/scgi;\n {http}\n\
         server {{\n listen {address} ssl;\n {server}\n\
         ssl_certificate {path}/certificate.pem;\n ssl_certificate_key {path}/key.pem;\n ssl_protocols TLSv1.3;\n }}\n}}\n",
    );
    fs::write(root.join("nginx.conf"), config)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(root).arg("-c").arg(root.join("nginx.conf")).arg("-e").arg(root.join("errors"));
    let server = site.run("nginx", command)?;
    wait_for_tcp(&server)?;
    Ok(server)
}
