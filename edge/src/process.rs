//! How an edge is made: what it is told, what it is put together from, and why it does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join;
use http::HeaderValue;
use prometheus::Registry;
use reelmill_platform::bus::Bus;
use reelmill_platform::store::Store;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{self, Access, GeoError};
use crate::access_log::AccessLog;
use crate::bells::Bells;
use crate::cache::{BlobCache, DiskError, DiskSettings};
use crate::certificate::{Certificate, CertificateError, Source};
use crate::clients::{ClientLimits, Clients};
use crate::first_coordinator::FirstCoordinator;
use crate::holds::Holds;
use crate::limits::{PEER_CONNECTIONS, PEER_LIMITS};
use crate::listener::endpoint::{Listener, QuicError};
use crate::listener::tcp::{self, Security};
pub use crate::listener::transport::Congestion;
use crate::listener::{Context, gso, quic, socket, udp_drops};
use crate::metrics::{Metrics, Protocol};
use crate::playlists::Playlists;
use crate::pop::{Pop, PopError, PopSettings};
use crate::prefetch::Prefetch;
use crate::push::Announcements;
use crate::receipts::{Signer, SignerError};
pub use crate::running::{Addresses, Changes, Running};
use crate::serve::Edge;
use crate::shortage::Shortage;
use crate::sockets::Sockets;
use crate::takedown::{Follower, Takedowns};
use crate::traces::{TraceWish, Traces};
use crate::upgrade::{Inheritance, Port};

/// How long browsers remember that there is HTTP/3 here.
const ALT_SVC_SECONDS: u32 = 24 * 60 * 60;

/// How often the certificate is looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(60);

/// What an edge is made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address for UDP and TCP.
    pub listen: SocketAddr,
    /// QUIC endpoints at it, each with a socket; who takes over has as many as were handed on.
    pub endpoints: u8,
    /// Address without TLS.
    pub plain_listen: Option<SocketAddr>,
    /// Certificate.
    pub certificate: Source,
    /// Folder for what a restart should find again.
    pub state_dir: PathBuf,
    /// Memory for blobs.
    pub cache_bytes: u64,
    /// Further memory for blobs that come in, or are still sent when they are no longer kept.
    pub in_flight_bytes: u64,
    /// Memory of the process, in bytes, above which no more connections are taken than there are.
    pub memory_bytes: u64,
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
    /// Folder for traces of connections, if there are to be any.
    pub qlog_dir: Option<PathBuf>,
    /// Which connections are traced.
    pub traces: TraceWish,
    /// Name of this edge in what it says of itself.
    pub name: String,
    /// What decides how fast viewers are sent to.
    pub congestion: Congestion,
    /// Its place among other edges, if it has one.
    pub pop: Option<PopSettings>,
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
    /// There is no key for receipts.
    #[error(transparent)]
    Signer(#[from] SignerError),
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

/// Starts an edge over `store`. It drains when `drain` is cancelled.
pub fn start(
    settings: Settings,
    store: Store,
    registry: &Registry,
    drain: CancellationToken,
) -> Result<Running, StartError> {
    let running = take_over(settings, store, registry, drain, &mut Inheritance::none())?;
    running.begin();
    Ok(running)
}

/// Like [`start`], with what an older process has handed on in place of what would be opened anew. It takes no connection
/// before [`Running::begin`].
pub fn take_over(
    settings: Settings,
    store: Store,
    registry: &Registry,
    drain: CancellationToken,
    inheritance: &mut Inheritance,
) -> Result<Running, StartError> {
    let metrics = Metrics::register(registry)?;
    let certificate = Certificate::load(settings.certificate)?;
    let mut sockets = Sockets::new(inheritance);
    let (tls_socket, udp_sockets) =
        sockets.pair(settings.listen, settings.endpoints).map_err(listen_error(settings.listen))?;
    let listen = tls_socket.local_addr().map_err(listen_error(settings.listen))?;
    let (h3, congestion) = (certificate.early_config(b"h3")?, settings.congestion);
    let endpoints = sockets.endpoints(Port::Viewers, udp_sockets, h3, congestion, metrics.quic.clone())?;
    let alt_svc = HeaderValue::from_str(&format!("h3=\":{}\"; ma={ALT_SVC_SECONDS}", listen.port()))?;
    let acceptor = TlsAcceptor::from(Arc::new(certificate.server_config(&tcp::ALPN)?));
    let plain = match settings.plain_listen {
        Some(address) => {
            let socket = sockets.plain(address).map_err(listen_error(address))?;
            let bound = socket.local_addr().map_err(listen_error(address))?;
            Some((socket, bound))
        }
        None => None,
    };

    let background = TaskTracker::new();
    let end = CancellationToken::new();
    let (succeeded, begun) = (CancellationToken::new(), CancellationToken::new());
    let takedowns = Takedowns::new(settings.bus.is_none());
    let pop = match &settings.pop {
        Some(place) => {
            let pop = Pop::new(place, &settings.name, background.clone(), end.clone(), metrics.clone())?;
            let (udp_sockets, bound) = sockets.peers(place.listen).map_err(listen_error(place.listen))?;
            let (tls, congestion) = (pop.server_config()?, Congestion::Cubic);
            let endpoints =
                sockets.endpoints(Port::Peers, udp_sockets, tls, congestion, metrics.quic.clone())?;
            Some((pop, endpoints, place.address.unwrap_or(bound)))
        }
        None => None,
    };
    let place = pop.as_ref().map(|(pop, ..)| pop.clone());
    let disk = settings.disk.as_ref().map(|disk| sockets.disk_folder(disk)).transpose()?;
    let blobs = BlobCache::new(
        store.clone(),
        place.clone(),
        settings.cache_bytes,
        settings.in_flight_bytes,
        disk,
        takedowns.clone(),
        background.clone(),
        succeeded.clone(),
        end.clone(),
        metrics.clone(),
    );
    let bells = Bells::default();
    let announcements = Announcements::new(settings.bus.clone(), bells.clone());
    let playlists =
        Playlists::new(store.clone(), place, announcements.clone(), takedowns.clone(), metrics.clone());
    let first_coordinator = FirstCoordinator::default();
    if let (Some((pop, _, address)), Some(bus)) = (&pop, &settings.bus) {
        let (bus, first_coordinator) = (bus.clone(), first_coordinator.clone());
        background.spawn(pop.follow(*address, bus, first_coordinator, drain.clone(), succeeded.clone()));
    }
    let (access, to_read) =
        Access::new(settings.bus.clone(), takedowns.clone(), settings.geoip.as_deref(), bells)?;
    if let Some(bus) = settings.bus {
        let follower = access::Follower {
            access: access.clone(),
            to_read,
            playlists: playlists.clone(),
            bus: bus.clone(),
            state_dir: settings.state_dir.clone(),
            first_coordinator: first_coordinator.clone(),
            origins: None,
        };
        background.spawn(follower.run(end.clone()));
        background.spawn(announcements.clone().listen(bus.clone(), end.clone()));
        let follower = Follower {
            takedowns: takedowns.clone(),
            blobs: blobs.clone(),
            playlists: playlists.clone(),
            access: access.clone(),
            store,
            bus,
            signer: Signer::load(&settings.name, &settings.state_dir)?,
            first_coordinator,
            metrics: metrics.clone(),
        };
        background.spawn(follower.run(end.clone()));
    }
    let prefetch = Prefetch::new(blobs.clone(), background.clone());
    let (access_log, writer) = AccessLog::new(settings.access_log.as_deref(), metrics.clone());
    if let Some(writer) = writer {
        background.spawn(writer.run());
    }
    let clients = Clients::new(settings.client);
    let holds =
        Holds::new(settings.max_connections, clients.clone(), announcements, drain.clone(), metrics.clone());
    let context = Context {
        access_log,
        edge: Edge::new(blobs, playlists, access.clone(), holds, prefetch, metrics.clone()),
        metrics,
        protocol: Protocol::Http3,
        connections: Arc::new(Semaphore::new(settings.max_connections)),
        handshakes: Arc::new(AtomicUsize::new(0)),
        clients,
        traces: Traces::new(settings.qlog_dir, settings.traces),
        tasks: TaskTracker::new(),
        drain,
        succeeded,
        last_call: CancellationToken::new(),
        end,
    };
    if settings.cache_bytes.saturating_add(settings.in_flight_bytes) >= settings.memory_bytes {
        tracing::warn!(
            memory_bytes = settings.memory_bytes,
            "there is as much memory for blobs as for all: when they have it, new connections will be refused"
        );
    }
    let shortage =
        Shortage::new(context.connections.clone(), settings.memory_bytes, context.metrics.memory.clone());
    background.spawn(context.end.clone().run_until_cancelled_owned(shortage.watch()).map(drop));
    let addresses = Addresses {
        listen: socket::reachable(listen),
        plain_listen: plain.as_ref().map(|(_, bound)| socket::reachable(*bound)),
        peer_listen: pop.as_ref().map(|(.., address)| *address),
        spki_sha256: certificate.spki_sha256(),
    };
    let (listeners, doors) = (TaskTracker::new(), TaskTracker::new());
    let take_in = |endpoints: Vec<Listener>, context: Context| {
        let context = Arc::new(context);
        for endpoint in endpoints {
            listeners.spawn(quic::serve(endpoint, context.clone(), doors.token()));
        }
    };
    take_in(endpoints, context.clone());
    if let Some((_, endpoints, _)) = pop {
        let peers = Context {
            edge: context.edge.for_peers(),
            protocol: Protocol::Peer,
            connections: Arc::new(Semaphore::new(PEER_CONNECTIONS)),
            handshakes: Arc::new(AtomicUsize::new(0)),
            clients: Clients::new(PEER_LIMITS),
            ..context.clone()
        };
        take_in(endpoints, peers);
    }
    let begin = || begun.clone().cancelled_owned();
    let serving = tcp::serve(tls_socket, Security::Tls { acceptor, alt_svc }, context.clone());
    listeners.spawn(begin().then(|()| serving));
    if let Some((socket, _)) = plain {
        let serving = tcp::serve(socket, Security::Plain, context.clone());
        listeners.spawn(begin().then(|()| serving));
    }
    let Sockets { estate, shared, .. } = sockets;
    let drops = udp_drops::watch(listen.port(), context.metrics.clone());
    let watches = join(drops, gso::watch(shared.clone(), context.metrics.quic.clone()));
    listeners.spawn(context.end.clone().run_until_cancelled_owned(watches).map(drop));
    listeners.spawn(keep_certificate(certificate.clone(), context.drain.clone()));
    let grace = settings.grace;
    Ok(Running {
        addresses,
        context,
        certificate,
        access,
        takedowns,
        estate,
        shared,
        begun,
        doors,
        listeners,
        background,
        grace,
    })
}

fn listen_error(address: SocketAddr) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::Listen { address, source }
}

async fn keep_certificate(certificate: Certificate, drain: CancellationToken) {
    while drain.run_until_cancelled(sleep(CERTIFICATE_LOOK)).await.is_some() {
        if let Err(error) = certificate.renew() {
            tracing::error!(%error, "cannot renew the certificate, keeping the old one");
        }
    }
}
