//! Who stands between the crowd and the origin.

use std::net::SocketAddr;
use std::path::Path;

use super::viewer::Protocol;
use crate::server::{Server, caddy, nginx, reelmill, varnish};

/// The name of ours.
pub const OURS: &str = "reelmill";

/// A server with nothing in its cache.
pub struct Contender {
    pub name: &'static str,
    pub protocol: Protocol,
    /// Nothing where its programs are not.
    pub server: Option<Server>,
}

/// Ours over both protocols, and the peers over what they can do it over: nginx resets requests over HTTP/3 that it would hand
/// on for this client, and Varnish has TLS from nginx.
pub fn all(origin: SocketAddr, binaries: &Path, tools: &Path) -> anyhow::Result<Vec<Contender>> {
    use Protocol::{Http2, Http3};
    let (nginx, varnish, caddy) = (tools.join("nginx"), tools.join("varnishd"), Path::new("caddy"));
    let contender = |name, protocol, server| Contender { name, protocol, server };
    Ok(vec![
        contender(OURS, Http2, Some(reelmill::before(origin, binaries)?)),
        contender("varnish", Http2, varnish::before(origin, &varnish, &nginx)?),
        contender("nginx", Http2, nginx::before(origin, &nginx)?),
        contender("caddy", Http2, caddy::before(origin, caddy)?),
        contender(OURS, Http3, Some(reelmill::before(origin, binaries)?)),
        contender("caddy", Http3, caddy::before(origin, caddy)?),
    ])
}
