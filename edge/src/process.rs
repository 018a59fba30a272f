//! An edge from its start to its end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
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
use crate::limits::{PEER_CONNECTIONS, PEER_LIMITS, SUCCESSION_SETTLES};
use crate::listener::endpoint::QuicError;
use crate::listener::quic;
use crate::listener::shared_socket::{Relayed, SharedSocket};
use crate::listener::tcp::{self, Security};
pub use crate::listener::transport::Congestion;
use crate::listener::{Context, socket, udp_drops};
use crate::metrics::{Metrics, Protocol};
use crate::playlists::Playlists;
use crate::pop::{Pop, PopError, PopSettings};
use crate::prefetch::Prefetch;
use crate::push::Announcements;
use crate::receipts::{Signer, SignerError};
use crate::serve::Edge;
use crate::sockets::Sockets;
use crate::takedown::{Follower, Takedowns};
use crate::traces::{TraceWish, Traces};
use crate::upgrade::{Estate, Inheritance, Item, Port, UpgradeError};

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
    /// Folder for what a restart should find again.
    pub state_dir: PathBuf,
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

/// What may change while it runs.
#[derive(Debug, Clone)]
pub struct Changes {
    /// What one client address may take.
    pub client: ClientLimits,
    /// Certificate.
    pub certificate: Source,
    /// File of countries.
    pub geoip: Option<PathBuf>,
    /// Which connections are traced from now on.
    pub traces: TraceWish,
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

/// An edge that serves.
#[derive(Debug)]
pub struct Running {
    /// Where.
    pub addresses: Addresses,
    context: Context,
    certificate: Certificate,
    access: Access,
    takedowns: Takedowns,
    /// What a newer process would get, and the sockets that it would read from.
    estate: Estate,
    shared: Vec<(Port, Arc<SharedSocket>)>,
    /// Take connections.
    begun: CancellationToken,
    /// Held open by the QUIC listeners that still let somebody in.
    doors: TaskTracker,
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
    let (tls_socket, udp_socket) = sockets.pair(settings.listen).map_err(listen_error(settings.listen))?;
    let listen = tls_socket.local_addr().map_err(listen_error(settings.listen))?;
    let endpoint =
        sockets.endpoint(Port::Viewers, udp_socket, certificate.early_config(b"h3")?, settings.congestion)?;
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
            let socket = sockets.udp(Port::Peers, place.listen).map_err(listen_error(place.listen))?;
            let bound = socket.local_addr().map_err(listen_error(place.listen))?;
            let endpoint = sockets.endpoint(Port::Peers, socket, pop.server_config()?, Congestion::Cubic)?;
            Some((pop, endpoint, place.address.unwrap_or(bound)))
        }
        None => None,
    };
    let place = pop.as_ref().map(|(pop, ..)| pop.clone());
    let disk = settings.disk.as_ref().map(|disk| sockets.disk_folder(disk)).transpose()?;
    let blobs = BlobCache::new(
        store.clone(),
        place.clone(),
        settings.cache_bytes,
        disk,
        takedowns.clone(),
        background.clone(),
        succeeded.clone(),
        end.clone(),
        metrics.clone(),
    );
    let announcements = Announcements::new(settings.bus.clone());
    let playlists =
        Playlists::new(store.clone(), place, announcements.clone(), takedowns.clone(), metrics.clone());
    if let (Some((pop, _, address)), Some(bus)) = (&pop, &settings.bus) {
        background.spawn(pop.follow(*address, bus.clone(), drain.clone(), succeeded.clone()));
    }
    let (access, to_read) = Access::new(settings.bus.clone(), takedowns.clone(), settings.geoip.as_deref())?;
    if let Some(bus) = settings.bus {
        let follower = access::Follower {
            access: access.clone(),
            to_read,
            playlists: playlists.clone(),
            bus: bus.clone(),
            state_dir: settings.state_dir.clone(),
            origins: None,
        };
        background.spawn(follower.run(end.clone()));
        background.spawn(announcements.listen(bus.clone(), end.clone()));
        let follower = Follower {
            takedowns: takedowns.clone(),
            blobs: blobs.clone(),
            playlists: playlists.clone(),
            access: access.clone(),
            store,
            bus,
            signer: Signer::load(&settings.name, &settings.state_dir)?,
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
        traces: Traces::new(settings.qlog_dir, settings.traces),
        tasks: TaskTracker::new(),
        drain,
        succeeded,
        last_call: CancellationToken::new(),
        end,
    };
    let addresses = Addresses {
        listen: socket::reachable(listen),
        plain_listen: plain.as_ref().map(|(_, bound)| socket::reachable(*bound)),
        peer_listen: pop.as_ref().map(|(.., address)| *address),
        spki_sha256: certificate.spki_sha256(),
    };
    let (listeners, doors) = (TaskTracker::new(), TaskTracker::new());
    listeners.spawn(quic::serve(endpoint, context.clone(), doors.token()));
    if let Some((_, endpoint, _)) = pop {
        let peers = Context {
            edge: context.edge.for_peers(),
            protocol: Protocol::Peer,
            connections: Arc::new(Semaphore::new(PEER_CONNECTIONS)),
            clients: Clients::new(PEER_LIMITS),
            ..context.clone()
        };
        listeners.spawn(quic::serve(endpoint, peers, doors.token()));
    }
    let begin = || begun.clone().cancelled_owned();
    let serving = tcp::serve(tls_socket, Security::Tls { acceptor, alt_svc }, context.clone());
    listeners.spawn(begin().then(|()| serving));
    if let Some((socket, _)) = plain {
        let serving = tcp::serve(socket, Security::Plain, context.clone());
        listeners.spawn(begin().then(|()| serving));
    }
    let drops = udp_drops::watch(listen.port(), context.metrics.clone());
    listeners.spawn(context.end.clone().run_until_cancelled_owned(drops).map(drop));
    listeners.spawn(keep_certificate(certificate.clone(), context.drain.clone()));
    let Sockets { estate, shared, .. } = sockets;
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

impl Running {
    /// Waits, for a while, until it knows what it would only learn later: who may have what, and what was taken down.
    pub async fn settled(&self) {
        let settling = async { tokio::join!(self.access.until_known(), self.takedowns.until_known()) };
        if timeout(SUCCESSION_SETTLES, settling).await.is_err() {
            tracing::warn!("policies and takedowns are not known yet");
        }
    }

    /// Takes connections from now on.
    pub fn begin(&self) {
        self.shared.iter().for_each(|(_, socket)| socket.begin());
        self.begun.cancel();
    }

    /// Starts `program` as a newer process of this edge, and leaves the sockets to it once it is ready; gives its id. The
    /// drain has to follow. After an error nothing has changed.
    pub async fn hand_over(&self, program: &mut Command, admin: impl AsFd) -> Result<u32, UpgradeError> {
        let mut relays = Vec::new();
        let mut more = vec![(Item::Admin, admin.as_fd().try_clone_to_owned()?)];
        for (port, socket) in &self.shared {
            let (older, newer) = Relayed::pair()?;
            relays.push((socket, older));
            more.push((Item::Relay { generation: self.estate.generation, port: *port }, newer));
        }
        let successor = self.estate.offer(program, &more).await?;
        for (socket, older) in relays {
            socket.leave_to(older);
        }
        self.context.succeeded.cancel();
        Ok(successor.begin().await)
    }

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
        self.context.traces.ask_for(changes.traces);
        Ok(())
    }

    /// Waits for the drain, then for what is in flight, but no longer than the grace; then ends the rest.
    pub async fn finished(self) {
        self.context.drain.cancelled().await;
        // Or the kernel would go on taking connections.
        drop(self.estate);
        let tasks = &self.context.tasks;
        tasks.close();
        self.doors.close();
        let settled = async {
            tasks.wait().await;
            self.context.last_call.cancel();
            self.doors.wait().await;
            tasks.wait().await;
        };
        if timeout(self.grace, settled).await.is_err() {
            tracing::warn!(connections = tasks.len(), "grace is over, ending what is left");
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
