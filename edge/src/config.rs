//! Flags of the process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use reelmill_platform::config::Common;

use crate::cache::DiskSettings;
use crate::certificate;
use crate::changeable::{Changeable, Mistakes};
use crate::clients::ClientLimits;
use crate::limits::ENDPOINTS;
use crate::pop::PopSettings;
use crate::process::{Changes, Congestion};
use crate::shortage;
use crate::traces::TraceWish;

/// Serves verified blobs and playlists over HTTP/3, HTTP/2 and HTTP/1.1.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "reelmill-edge", version)]
pub struct Config {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened flags; a comment here would replace the command's own")]
    pub common: Common,

    /// Address of HTTP/3 (UDP) and HTTP/2 and 1.1 (TCP); port 0 takes any, the same for both
    #[arg(long, env = "REELMILL_EDGE_LISTEN", default_value = "127.0.0.1:8443", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// QUIC endpoints at that address, each with a socket and a driver of its own; by default one per core, up to 64
    #[arg(long, env = "REELMILL_EDGE_ENDPOINTS", default_value_t = endpoints(), value_parser = clap::value_parser!(u8).range(1..=i64::from(ENDPOINTS)), hide_default_value = true, value_name = "N")]
    pub endpoints: u8,

    /// Address of HTTP/1.1 without TLS, for local tools
    #[arg(long, env = "REELMILL_EDGE_PLAIN_LISTEN", value_name = "ADDRESS")]
    pub plain_listen: Option<SocketAddr>,

    /// Folder for what a restart should find again: the self-made certificate, the key for receipts, and the last known
    /// policies and token keys
    #[arg(long, env = "REELMILL_EDGE_STATE_DIR", default_value = "reelmill-edge", value_name = "FOLDER")]
    pub state_dir: PathBuf,

    /// Certificate chain in PEM; without it the edge makes its own certificate
    #[arg(long, env = "REELMILL_EDGE_CERTIFICATE", requires = "key", value_name = "FILE")]
    pub certificate: Option<PathBuf>,

    /// Private key of the certificate in PEM
    #[arg(long, env = "REELMILL_EDGE_KEY", requires = "certificate", value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// Further name or address for the self-made certificate; may be given several times
    #[arg(long = "host", env = "REELMILL_EDGE_HOSTS", value_delimiter = ',', value_name = "NAME")]
    pub hosts: Vec<String>,

    /// Memory for blobs, in bytes
    #[arg(long, env = "REELMILL_EDGE_CACHE_BYTES", default_value_t = 1 << 30, value_name = "BYTES")]
    pub cache_bytes: u64,

    /// Further memory, in bytes, for blobs on their way in, and for those still being sent after the cache has dropped them
    #[arg(long, env = "REELMILL_EDGE_IN_FLIGHT_BYTES", default_value_t = 256 << 20, value_name = "BYTES")]
    pub in_flight_bytes: u64,

    /// Memory of the whole process, in bytes, above which new connections are refused; by default nine tenths of what its
    /// control group or the machine has
    #[arg(long, env = "REELMILL_EDGE_MEMORY_BYTES", default_value_t = shortage::most_bytes(), hide_default_value = true, value_name = "BYTES")]
    pub memory_bytes: u64,

    /// Room on disk for blobs, in bytes
    #[arg(long, env = "REELMILL_EDGE_DISK_CACHE_BYTES", requires = "disk_cache_dir", value_name = "BYTES")]
    pub disk_cache_bytes: Option<u64>,

    /// Folder for blobs on disk, this edge's own
    #[arg(long, env = "REELMILL_EDGE_DISK_CACHE_DIR", requires = "disk_cache_bytes", value_name = "FOLDER")]
    pub disk_cache_dir: Option<PathBuf>,

    /// Connections at once, of all protocols together
    #[arg(long, env = "REELMILL_EDGE_MAX_CONNECTIONS", default_value_t = 10_000, value_name = "N")]
    pub max_connections: usize,

    /// NATS servers, comma-separated: for news of playlists, takedowns, policies and token keys
    #[arg(long, env = "REELMILL_NATS", value_name = "URLS")]
    pub nats: Option<String>,

    /// Connections at once from one address (IPv6: from one /64)
    #[arg(long, env = "REELMILL_EDGE_CLIENT_CONNECTIONS", default_value_t = 256, value_name = "N")]
    pub client_connections: usize,

    /// Requests per second from one address; twice as many at once
    #[arg(long, env = "REELMILL_EDGE_CLIENT_REQUESTS", default_value_t = 1000, value_name = "N")]
    pub client_requests: u32,

    /// Handshakes per second from one address; twice as many at once
    #[arg(long, env = "REELMILL_EDGE_CLIENT_HANDSHAKES", default_value_t = 100, value_name = "N")]
    pub client_handshakes: u32,

    /// File of countries in MaxMind's format (GeoLite2-Country.mmdb and its kin), for policies and tokens that ask for them
    #[arg(long, env = "REELMILL_EDGE_GEOIP", value_name = "FILE")]
    pub geoip: Option<PathBuf>,

    /// Name of this edge in receipts for takedowns; by default the machine's
    #[arg(long, env = "REELMILL_EDGE_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// Name of the PoP that this edge belongs to; edges of one PoP share what they hold
    #[arg(long, env = "REELMILL_EDGE_POP", requires = "pop_secret_file", value_name = "NAME")]
    pub pop: Option<String>,

    /// File with the secret that the edges of a PoP, and their shield, share
    #[arg(long, env = "REELMILL_EDGE_POP_SECRET_FILE", requires = "pop", value_name = "FILE")]
    pub pop_secret_file: Option<PathBuf>,

    /// Address (UDP) for the other edges, in a network of their own if there is one
    #[arg(long, env = "REELMILL_EDGE_PEER_LISTEN", default_value = "127.0.0.1:8444", value_name = "ADDRESS")]
    pub peer_listen: SocketAddr,

    /// The same address as the other edges see it, where that differs
    #[arg(long, env = "REELMILL_EDGE_PEER_ADDRESS", value_name = "ADDRESS")]
    pub peer_address: Option<SocketAddr>,

    /// Another edge of the PoP, beside those that NATS knows; may be given several times
    #[arg(long = "peer", env = "REELMILL_EDGE_PEERS", value_delimiter = ',', value_name = "NAME=ADDRESS", value_parser = peer)]
    pub peers: Vec<(String, SocketAddr)>,

    /// Another edge's address for peers, asked before the origin
    #[arg(long, env = "REELMILL_EDGE_SHIELD", requires = "pop", value_name = "ADDRESS")]
    pub shield: Option<SocketAddr>,

    /// File that gets a line of JSON per request; - is the standard output. It may be rotated at any time
    #[arg(long, env = "REELMILL_EDGE_ACCESS_LOG", value_name = "FILE")]
    pub access_log: Option<PathBuf>,

    /// Congestion control towards viewers over HTTP/3
    #[arg(long, env = "REELMILL_EDGE_CONGESTION", value_enum, default_value_t = Congestion::Cubic, value_name = "NAME")]
    pub congestion: Congestion,

    /// JSON file whose settings override flags, read again at SIGHUP: client_connections, client_requests,
    /// client_handshakes, certificate, key, geoip, qlog_connections, qlog_network
    #[arg(long, env = "REELMILL_EDGE_CHANGEABLE", value_name = "FILE")]
    pub changeable: Option<PathBuf>,

    /// Folder for traces of QUIC connections (qlog): at each SIGHUP, of the next qlog_connections of the changeable file, from
    /// qlog_network if it says one; no more than 100 files of 16 MiB
    #[arg(long, env = "REELMILL_EDGE_QLOG_DIR", requires = "changeable", value_name = "FOLDER")]
    pub qlog_dir: Option<PathBuf>,

    /// Which connections are traced; the changeable file alone says so
    #[arg(skip)]
    pub traces: TraceWish,

    /// Take over from the process that has put its sockets on the standard input; how SIGUSR2 starts a newer one
    #[arg(long, hide = true)]
    pub take_over: bool,

    /// How long a drain waits for downloads in flight, in seconds
    #[arg(long, env = "REELMILL_EDGE_GRACE_S", default_value_t = 20, value_name = "S")]
    pub grace_s: u64,
}

impl Config {
    /// The same with what the changeable file says now.
    pub fn current(&self) -> Result<Config, Mistakes> {
        let Some(path) = &self.changeable else { return Ok(self.clone()) };
        let file = Changeable::read(path)?;
        let mut config = self.clone();
        config.client_connections = file.client_connections.unwrap_or(config.client_connections);
        config.client_requests = file.client_requests.unwrap_or(config.client_requests);
        config.client_handshakes = file.client_handshakes.unwrap_or(config.client_handshakes);
        config.certificate = file.certificate.or(config.certificate);
        config.key = file.key.or(config.key);
        config.geoip = file.geoip.or(config.geoip);
        config.traces =
            TraceWish { connections: file.qlog_connections.unwrap_or_default(), network: file.qlog_network };
        if config.traces != TraceWish::default() && config.qlog_dir.is_none() {
            return Err(Mistakes(vec![
                "qlog_connections: there is no folder for traces (--qlog-dir)".to_owned(),
            ]));
        }
        Ok(config)
    }

    /// What a running edge may be told anew.
    pub fn changes(&self) -> Changes {
        Changes {
            client: self.client_limits(),
            certificate: self.certificate_source(),
            geoip: self.geoip.clone(),
            traces: self.traces,
        }
    }

    /// Where the certificate comes from.
    pub fn certificate_source(&self) -> certificate::Source {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                certificate::Source::Files { certificate: certificate.clone(), key: key.clone() }
            }
            (Some(_) | None, _) => {
                certificate::Source::SelfMade { folder: self.state_dir.clone(), names: self.hosts.clone() }
            }
        }
    }

    /// The disk cache, when there is to be one.
    pub fn disk(&self) -> Option<DiskSettings> {
        let (folder, capacity_bytes) = (self.disk_cache_dir.clone()?, self.disk_cache_bytes?);
        Some(DiskSettings { folder, capacity_bytes })
    }

    /// The place among other edges, when there is to be one.
    pub fn pop(&self) -> Option<PopSettings> {
        let (name, secret_file) = (self.pop.as_deref()?, self.pop_secret_file.clone()?);
        Some(PopSettings {
            name: as_token(name),
            secret_file,
            listen: self.peer_listen,
            address: self.peer_address,
            peers: self.peers.clone(),
            shield: self.shield,
        })
    }

    /// What one client address may take.
    pub fn client_limits(&self) -> ClientLimits {
        ClientLimits {
            connections: self.client_connections,
            requests_per_second: self.client_requests,
            handshakes_per_second: self.client_handshakes,
            // A viewer who seeks gives up a few.
            resets_per_second: 50,
            // Far below any rendition; bodies go in pieces of 64 KiB, so the time has to be long.
            least_bytes_per_second: 2048,
            slow_for: Duration::from_secs(60),
            loopback_too: false,
        }
    }

    /// The edge's name, without what separates names elsewhere.
    pub fn name(&self) -> String {
        let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        as_token(&self.name.clone().unwrap_or_else(machine))
    }

    /// How long a drain waits.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_s)
    }
}

/// One per core, but not very many.
fn endpoints() -> u8 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u8::try_from(cores).unwrap_or(u8::MAX).min(ENDPOINTS)
}

/// Without what separates names elsewhere.
fn as_token(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

fn peer(text: &str) -> Result<(String, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("a peer is given as NAME=ADDRESS")?;
    let address = address.parse().map_err(|_| format!("{address:?} is no address with a port"))?;
    Ok((as_token(name), address))
}
