//! An edge from its start to its end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::HeaderValue;
use prometheus::Registry;
use reelmill_platform::bus::Bus;
use reelmill_platform::store::Store;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{self, Access, Geo, GeoError};
use crate::access_log::AccessLog;
use crate::cache::{BlobCache, DiskError, DiskSettings};
use crate::certificate::{Certificate, CertificateError, Source};
use crate::changeable::Mistakes;
use crate::clients::{ClientLimits, Clients};
use crate::limits::{PEER_CONNECTIONS, PEER_LIMITS};
use crate::listener::quic::{self, QuicError};
use crate::listener::tcp::{self, Security};
use crate::listener::{Context, socket, udp_drops};
use crate::metrics::{Metrics, Protocol};
use crate::playlists::Playlists;
use crate::pop::{Pop, PopError, PopSettings};
use crate::prefetch::Prefetch;
use crate::push::Announcements;
use crate::serve::Edge;
use crate::takedown::{Follower, Takedowns};

/// How long browsers remember that there is HTTP/3 here.
const ALT_SVC_SECONDS: u32 = 24 * 60 * 60;

/// How often the certificate is looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(60);

/// What an edge is made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address for UDP and TCP.
    pub listen: SocketAddr,
    /// Address without TLS.
    pub plain_listen: Option<SocketAddr>,
    /// Certificate.
    pub certificate: Source,
    /// Memory for blobs.
    pub cache_bytes: u64,
    /// Room on disk below that, if any.
    pub disk: Option<DiskSettings>,
    /// Connections at once.
    pub max_connections: usize,
    /// What one client address may take.
    pub client: ClientLimits,
    /// How long a drain waits.
    pub grace: Duration,
    /// Word of new playlists and of takedowns, if there is to be any.
    pub bus: Option<Bus>,
    /// File of the access log, if there is to be one; `-` is the standard output.
    pub access_log: Option<PathBuf>,
    /// File of countries in MaxMind's format, if any.
    pub geoip: Option<PathBuf>,
    /// Name of this edge in what it says of itself.
    pub name: String,
    /// Its place among other edges, if it has one.
    pub pop: Option<PopSettings>,
}

/// What may change while it runs.
#[derive(Debug, Clone)]
pub struct Changes {
    /// What one client address may take.
    pub client: ClientLimits,
    /// Certificate.
    pub certificate: Source,
    /// File of countries.
    pub geoip: Option<PathBuf>,
}

/// Where a running edge is found; the ready file's content.
#[derive(Debug, Clone, Serialize)]
pub struct Addresses {
    /// HTTP/3, and HTTP/2 and 1.1 over TLS.
    pub listen: SocketAddr,
    /// HTTP/1.1 without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain_listen: Option<SocketAddr>,
    /// HTTP/3 for other edges of the PoP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_listen: Option<SocketAddr>,
    /// SHA-256 of the certificate's public key in base64.
    pub spki_sha256: String,
}

/// Why an edge does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// There is no disk cache.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is no way to its peers.
    #[error(transparent)]
    Pop(#[from] PopError),
    /// There is no file of countries.
    #[error(transparent)]
    Geo(#[from] GeoError),
    /// There is no QUIC.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// Metrics are registered already.
    #[error("cannot register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// An `Alt-Svc` field that is no field.
    #[error("cannot announce HTTP/3: {0}")]
    AltSvc(#[from] http::header::InvalidHeaderValue),
}

/// An edge that serves.
#[derive(Debug)]
pub struct Running {
    /// Where.
    pub addresses: Addresses,
    context: Context,
    certificate: Certificate,
    access: Access,
    listeners: TaskTracker,
    /// Fills, and what listens and tidies.
    background: TaskTracker,
    grace: Duration,
}

/// Starts an edge over `store`. It drains when `drain` is cancelled.
pub fn start(
    settings: Settings,
    store: Store,
    registry: &Registry,
    drain: CancellationToken,
) -> Result<Running, StartError> {
    let metrics = Metrics::register(registry)?;
    let certificate = Certificate::load(settings.certificate)?;
    let listen_error = |address| move |source| StartError::Listen { address, source };
    let (tcp_socket, udp_socket) =
        socket::bind_pair(settings.listen).map_err(listen_error(settings.listen))?;
    let listen = tcp_socket.local_addr().map_err(listen_error(settings.listen))?;
    let endpoint = quic::endpoint(udp_socket, certificate.server_config(&[b"h3"])?)?;
    let alt_svc = HeaderValue::from_str(&format!("h3=\":{}\"; ma={ALT_SVC_SECONDS}", listen.port()))?;
    let acceptor = TlsAcceptor::from(Arc::new(certificate.server_config(&tcp::ALPN)?));
    let plain = match settings.plain_listen {
        Some(address) => {
            let socket = socket::bind_tcp(address).map_err(listen_error(address))?;
            let bound = socket.local_addr().map_err(listen_error(address))?;
            Some((socket, bound))
        }
        None => None,
    };

    let background = TaskTracker::new();
    let end = CancellationToken::new();
    let takedowns = if settings.bus.is_some() { Takedowns::unknown() } else { Takedowns::default() };
    let pop = match &settings.pop {
        Some(place) => {
            let pop = Pop::new(place, &settings.name, background.clone(), end.clone(), metrics.clone())?;
            let socket = socket::bind_udp(place.listen).map_err(listen_error(place.listen))?;
            let bound = socket.local_addr().map_err(listen_error(place.listen))?;
            let endpoint = quic::endpoint(socket, pop.server_config()?)?;
            Some((pop, endpoint, place.address.unwrap_or(bound)))
        }
        None => None,
    };
    let place = pop.as_ref().map(|(pop, ..)| pop.clone());
    let blobs = BlobCache::new(
        store.clone(),
        place.clone(),
        settings.cache_bytes,
        settings.disk.as_ref(),
        takedowns.clone(),
        background.clone(),
        end.clone(),
        metrics.clone(),
    )?;
    let announcements = Announcements::new(settings.bus.clone());
    let playlists =
        Playlists::new(store.clone(), place, announcements.clone(), takedowns.clone(), metrics.clone());
    if let (Some((pop, _, address)), Some(bus)) = (&pop, &settings.bus) {
        background.spawn(pop.follow(*address, bus.clone(), drain.clone()));
    }
    let (access, to_read) = Access::new(settings.bus.clone(), takedowns.clone(), settings.geoip.as_deref())?;
    if let Some(bus) = settings.bus {
        let follower = access::Follower {
            access: access.clone(),
            to_read,
            playlists: playlists.clone(),
            bus: bus.clone(),
        };
        background.spawn(follower.run(end.clone()));
        background.spawn(announcements.listen(bus.clone(), end.clone()));
        let follower = Follower {
            takedowns,
            blobs: blobs.clone(),
            playlists: playlists.clone(),
            access: access.clone(),
            store,
            bus,
            name: settings.name,
            metrics: metrics.clone(),
        };
        background.spawn(follower.run(end.clone()));
    }
    let prefetch = Prefetch::new(blobs.clone(), background.clone());
    let (access_log, writer) = AccessLog::new(settings.access_log.as_deref(), metrics.clone());
    if let Some(writer) = writer {
        background.spawn(writer.run());
    }
    let context = Context {
        access_log,
        edge: Edge::new(blobs, playlists, access.clone(), prefetch, metrics.clone()),
        metrics,
        protocol: Protocol::Http3,
        connections: Arc::new(Semaphore::new(settings.max_connections)),
        clients: Clients::new(settings.client),
        tasks: TaskTracker::new(),
        drain,
        end,
    };
    let addresses = Addresses {
        listen: socket::reachable(listen),
        plain_listen: plain.as_ref().map(|(_, bound)| socket::reachable(*bound)),
        peer_listen: pop.as_ref().map(|(.., address)| *address),
        spki_sha256: certificate.spki_sha256(),
    };
    let listeners = TaskTracker::new();
    listeners.spawn(quic::serve(endpoint, context.clone()));
    if let Some((_, endpoint, _)) = pop {
        let peers = Context {
            edge: context.edge.for_peers(),
            protocol: Protocol::Peer,
            connections: Arc::new(Semaphore::new(PEER_CONNECTIONS)),
            clients: Clients::new(PEER_LIMITS),
            ..context.clone()
        };
        listeners.spawn(quic::serve(endpoint, peers));
    }
    listeners.spawn(tcp::serve(tcp_socket, Security::Tls { acceptor, alt_svc }, context.clone()));
    if let Some((socket, _)) = plain {
        listeners.spawn(tcp::serve(socket, Security::Plain, context.clone()));
    }
    let drops = udp_drops::watch(listen.port(), context.metrics.clone());
    listeners.spawn(context.end.clone().run_until_cancelled_owned(drops).map(drop));
    listeners.spawn(keep_certificate(certificate.clone(), context.drain.clone()));
    Ok(Running { addresses, context, certificate, access, listeners, background, grace: settings.grace })
}

impl Running {
    /// Changes all of it, or nothing and says everything that is wrong.
    pub fn change(&self, changes: Changes) -> Result<(), Mistakes> {
        let mut mistakes = Vec::new();
        let certificate = Certificate::candidate(changes.certificate);
        let geo = changes.geoip.as_deref().map(Geo::open).transpose();
        mistakes.extend(certificate.as_ref().err().map(ToString::to_string));
        mistakes.extend(geo.as_ref().err().map(ToString::to_string));
        let (Ok(certificate), Ok(geo)) = (certificate, geo) else { return Err(Mistakes(mistakes)) };
        self.certificate.take(certificate);
        self.access.set_geo(geo);
        self.context.clients.set_limits(changes.client);
        Ok(())
    }

    /// Waits for the drain, then for what is in flight, but no longer than the grace; then ends the rest.
    pub async fn finished(self) {
        self.context.drain.cancelled().await;
        self.context.tasks.close();
        if timeout(self.grace, self.context.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.context.tasks.len(), "grace is over, ending what is left");
        }
        self.context.end.cancel();
        self.listeners.close();
        self.listeners.wait().await;
        self.context.tasks.wait().await;
        // The access log ends with the last that could write to it.
        drop(self.context);
        self.background.close();
        self.background.wait().await;
    }
}

async fn keep_certificate(certificate: Certificate, drain: CancellationToken) {
    while drain.run_until_cancelled(sleep(CERTIFICATE_LOOK)).await.is_some() {
        if let Err(error) = certificate.renew() {
            tracing::error!(%error, "cannot renew the certificate, keeping the old one");
        }
    }
}
