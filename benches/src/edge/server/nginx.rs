//! nginx with its own QUIC, set up to do well: segmentation offload on (it is off by default), open files kept, large
//! buffers, no access log, and no end to the requests of a connection.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Server, Site, wait_for_tcp};

pub fn start(program: &Path, contents: &[Vec<u8>]) -> anyhow::Result<Option<Server>> {
    let Some(site) = Site::for_program(program, contents)? else { return Ok(None) };
    let (root, path, address) = (site.folder.path(), site.folder.path().display(), site.address);
    let config = format!(
        "daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log {path}/errors crit;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n access_log off;\n server_tokens off;\n open_file_cache max=100 inactive=1h;\n\
         keepalive_requests 1000000000;\n keepalive_timeout 120s;\n output_buffers 2 256k;\n\
         client_body_temp_path {path}/body;\n proxy_temp_path {path}/proxy;\n fastcgi_temp_path {path}/fastcgi;\n\
         uwsgi_temp_path {path}/uwsgi;\n scgi_temp_path {path}/scgi;\n\
         quic_gso on;\n http3_stream_buffer_size 256k;\n http3_max_concurrent_streams 128;\n\
         server {{\n listen {address} quic;\n listen {address} ssl;\n root {path}/files;\n\
         ssl_certificate {path}/certificate.pem;\n ssl_certificate_key {path}/key.pem;\n ssl_protocols TLSv1.3;\n }}\n}}\n",
    );
    fs::write(root.join("nginx.conf"), config)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(root).arg("-c").arg(root.join("nginx.conf")).arg("-e").arg(root.join("errors"));
    let server = site.run("nginx", command)?;
    wait_for_tcp(&server)?;
    Ok(Some(server))
}
