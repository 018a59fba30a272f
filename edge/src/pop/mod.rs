//! A PoP: edges in one place that together ask the origin once.
//!
//! Every blob and every text has an owner among them ([`owner`]), known to all without talking. An edge that misses asks
//! the owner, then the shield, then whoever holds a copy, then the origin. What comes from a peer is proven group by group
//! like everything else. Peers know each other by a key that they share ([`key`]), on a port of their own, so no viewer
//! speaks as a peer.

pub(crate) mod answer;
mod ask;
mod key;
#[cfg(test)]
mod liar;
mod links;
mod members;
mod owner;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use moka::sync::Cache;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys;
use reelmill_platform::bus::Bus;
use reelmill_platform::edges::EdgeRecord;
use reelmill_platform::hash_tree::HashTree;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::ask::Asked;
pub(crate) use self::ask::Question;
use self::ask::{BlobHead, TextHead, refusal};
use self::key::{PeerKey, SECRET_BYTES};
pub(crate) use self::links::{LinkError, Reply};
use self::links::{Links, is_success};
use self::members::{Member, Members};
use crate::cache::FillError;
use crate::first_coordinator::FirstCoordinator;
use crate::limits::{OWNED_FILLS, OWNERS_ASKED, PASSED_ON_ENTRIES, PASSED_ON_FOR, PLAYLIST_BYTES};
use crate::metrics::{Metrics, PeerAnswer};
use crate::route::{MutableObject, PublicBlob};

/// What an edge's place in a PoP is made with.
#[derive(Debug, Clone)]
pub struct PopSettings {
    /// The PoP's name.
    pub name: String,
    /// File with the secret that its edges share.
    pub secret_file: PathBuf,
    /// Where peers ask this edge.
    pub listen: SocketAddr,
    /// The same as peers see it, where that differs.
    pub address: Option<SocketAddr>,
    /// Other edges, by name, beside those that say so over NATS.
    pub peers: Vec<(String, SocketAddr)>,
    /// The edge to ask before the origin.
    pub shield: Option<SocketAddr>,
}

/// Why an edge cannot join a PoP.
#[derive(Debug, thiserror::Error)]
pub enum PopError {
    /// The secret cannot be read.
    #[error("cannot read the secret of the PoP from {}: {source}", .path.display())]
    Secret {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The secret is too short.
    #[error("the secret in {} is shorter than {SECRET_BYTES} bytes", .0.display())]
    ShortSecret(PathBuf),
    /// Nobody could ask this edge.
    #[error("{0} is every address of this machine, so say by which of them peers reach it")]
    Unreachable(SocketAddr),
    /// No key follows from the secret.
    #[error("cannot make the key of the PoP: {0}")]
    Key(#[from] rustls::Error),
    /// QUIC does not take the key.
    #[error("QUIC cannot use the key of the PoP: {0}")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// A timeout beyond QUIC's numbers.
    #[error("the idle timeout does not fit QUIC: {0}")]
    Idle(#[from] quinn::VarIntBoundsExceeded),
    /// No socket.
    #[error("cannot open a socket for peers: {0}")]
    Socket(#[from] io::Error),
}

/// This edge's place in its PoP. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pop: String,
    own_name: String,
    members: Members,
    shield: Option<SocketAddr>,
    links: Links,
    key: PeerKey,
    owned: Arc<Semaphore>,
    /// Names that the next in rank was told to take because this edge had its hands full. It stays that way for a while,
    /// so that two do not fetch the same.
    passed_on: Cache<BlobHash, ()>,
    metrics: Metrics,
}

/// Whom to ask before the origin.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Owners {
    /// In this order.
    pub(crate) ask: Vec<SocketAddr>,
    /// One that should be asked is known to be down.
    pub(crate) down: bool,
}

/// A blob on its way from a peer.
pub(crate) struct PeerBlob {
    /// Of the whole.
    pub(crate) length: u64,
    /// What proves it, if it has more than a group.
    pub(crate) tree: Option<HashTree>,
    reply: Reply,
    /// What came with the tree.
    first: Option<Bytes>,
}

/// A text from a peer.
#[derive(Debug)]
pub(crate) struct PeerText {
    pub(crate) bytes: Bytes,
    /// When the origin was asked for it.
    pub(crate) began: Instant,
    pub(crate) stale: bool,
}

/// Why a peer gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// It did not answer.
    #[error("peer {address}: {source}")]
    Link { address: SocketAddr, source: LinkError },
    /// It said why.
    #[error("peer {address}: {reason}")]
    Refused { address: SocketAddr, reason: FillError },
}

impl Pop {
    pub(crate) fn new(
        settings: &PopSettings,
        own_name: &str,
        tasks: TaskTracker,
        end: CancellationToken,
        metrics: Metrics,
    ) -> Result<Self, PopError> {
        if settings.address.unwrap_or(settings.listen).ip().is_unspecified() {
            return Err(PopError::Unreachable(settings.listen));
        }
        let path = &settings.secret_file;
        let secret = std::fs::read(path).map_err(|source| PopError::Secret { path: path.clone(), source })?;
        let secret = secret.trim_ascii();
        if secret.len() < SECRET_BYTES {
            return Err(PopError::ShortSecret(path.clone()));
        }
        let key = PeerKey::from_secret(secret)?;
        let others = settings.peers.iter().filter(|(name, _)| name != own_name);
        let named = others.map(|(name, address)| Member::named(name, *address)).collect();
        Ok(Self(Arc::new(Inner {
            pop: settings.name.clone(),
            own_name: own_name.to_owned(),
            members: Members::new(named, metrics.clone()),
            shield: settings.shield,
            links: Links::new(key.client_config()?, tasks, end)?,
            key,
            owned: Arc::new(Semaphore::new(OWNED_FILLS)),
            passed_on: Cache::builder().max_capacity(PASSED_ON_ENTRIES).time_to_live(PASSED_ON_FOR).build(),
            metrics,
        })))
    }

    /// The TLS of the listener for peers.
    pub(crate) fn server_config(&self) -> Result<rustls::ServerConfig, PopError> {
        Ok(self.0.key.server_config()?)
    }

    /// Tells the others over NATS that this edge is to be asked at `address`, until `drain`, and hears who else is there.
    pub(crate) fn follow(
        &self,
        address: SocketAddr,
        bus: Bus,
        first_coordinator: FirstCoordinator,
        drain: CancellationToken,
        succeeded: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let own = EdgeRecord {
            pop: self.0.pop.clone(),
            name: self.0.own_name.clone(),
            address,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.0.members.clone().follow(own, bus, first_coordinator, drain, succeeded)
    }

    /// Whom to ask for what is named by `key`: those before this edge in rank. Empty when this edge is the owner.
    pub(crate) fn owners(&self, key: BlobHash) -> Owners {
        let inner = &self.0;
        let mut all: Vec<(Arc<str>, Option<SocketAddr>)> =
            inner.members.list().into_iter().map(|member| (member.name, Some(member.address))).collect();
        all.push((inner.own_name.as_str().into(), None));
        let mut owners = Owners::default();
        for (_, address) in owner::ranked(key, all, |(name, _)| name) {
            match address {
                Some(address) if inner.links.is_down(address) => owners.down = true,
                Some(address) => owners.ask.push(address),
                None if inner.passed_on.contains_key(&key) => {}
                None => break,
            }
            if owners.ask.len() == OWNERS_ASKED {
                break;
            }
        }
        owners
    }

    /// The shield, if there is one that answers.
    pub(crate) fn shield(&self) -> Option<SocketAddr> {
        self.0.shield.filter(|address| !self.0.links.is_down(*address))
    }

    /// Everybody else that answers, in the order in which they own `key`.
    pub(crate) fn others(&self, key: BlobHash) -> Vec<SocketAddr> {
        let ranked = owner::ranked(key, self.0.members.list(), |member| &member.name);
        let addresses = ranked.into_iter().map(|member| member.address);
        addresses.filter(|address| !self.0.links.is_down(*address)).collect()
    }

    /// Whether a peer says that it holds a blob.
    pub(crate) async fn holds(&self, address: SocketAddr, name: PublicBlob) -> bool {
        // From its end on, so that an answer has no bytes of it.
        self.open_blob(address, name, u64::MAX, Asked::IfHeld).await.is_ok()
    }

    /// Takes on a fill for peers. Without a permit it has too many already, and the next in rank has to.
    pub(crate) fn take_on(&self, key: BlobHash) -> Option<OwnedSemaphorePermit> {
        let permit = match self.0.passed_on.contains_key(&key) {
            true => None,
            false => self.0.owned.clone().try_acquire_owned().ok(),
        };
        if permit.is_none() {
            self.0.passed_on.insert(key, ());
        }
        permit
    }

    /// Asks a peer for a blob, from byte `from` on.
    pub(crate) async fn open_blob(
        &self,
        address: SocketAddr,
        name: PublicBlob,
        from: u64,
        asked: Asked,
    ) -> Result<PeerBlob, PeerError> {
        let link = |source| PeerError::Link { address, source };
        let question = Question { asked, from, within: None };
        let path = keys::blob(&name.hash(), name.kind());
        let (headers, mut reply) = self.ask(address, &path, &question).await?;
        let head = BlobHead::read(&headers).ok_or(link(LinkError::Nonsense))?;
        if head.tree_bytes > HashTree::MAX_BYTES {
            return Err(link(LinkError::Nonsense));
        }
        let mut first = BytesMut::new();
        while (first.len() as u64) < head.tree_bytes {
            let piece = reply.next().await.map_err(link)?.ok_or(link(LinkError::Nonsense))?;
            first.extend_from_slice(&piece);
        }
        let tree = match usize::try_from(head.tree_bytes) {
            Ok(0) | Err(_) => None,
            Ok(bytes) => {
                let tree = HashTree::decode(name.hash(), &first.split_to(bytes));
                let reason = FillError::Corrupt;
                Some(tree.map_err(|_| PeerError::Refused { address, reason })?)
            }
        };
        let first = Some(first.freeze()).filter(|first| !first.is_empty());
        Ok(PeerBlob { length: head.length, tree, reply, first })
    }

    /// Asks a peer for a text that is not older than `within`.
    pub(crate) async fn text(
        &self,
        address: SocketAddr,
        object: &MutableObject,
        asked: Asked,
        within: Option<Duration>,
    ) -> Result<PeerText, PeerError> {
        let link = |source| PeerError::Link { address, source };
        let asked_at = Instant::now();
        let question = Question { asked, from: 0, within };
        let (headers, mut reply) = self.ask(address, &object.key(), &question).await?;
        let head = TextHead::read(&headers).ok_or(link(LinkError::Nonsense))?;
        let bytes = reply.all(PLAYLIST_BYTES).await.map_err(link)?;
        // As old as it was there when it was asked for here, at least: rather too old than too new.
        let began = asked_at.checked_sub(head.age).unwrap_or(asked_at);
        Ok(PeerText { bytes, began, stale: head.stale })
    }

    async fn ask(
        &self,
        address: SocketAddr,
        path: &str,
        question: &Question,
    ) -> Result<(HeaderMap, Reply), PeerError> {
        let mut headers = HeaderMap::new();
        question.write(&mut headers);
        let answer = match self.0.links.get(address, path, headers).await {
            Ok((response, reply)) if is_success(&response) => Ok((response.into_parts().0.headers, reply)),
            Ok((response, _)) => Err(PeerError::Refused { address, reason: refusal(response.status()) }),
            Err(source) => Err(PeerError::Link { address, source }),
        };
        self.0.metrics.peer_answer(match &answer {
            Ok(_) => PeerAnswer::Given,
            Err(PeerError::Refused { reason: FillError::NotHeld, .. }) => PeerAnswer::NotHeld,
            Err(PeerError::Refused { .. }) => PeerAnswer::Refused,
            Err(PeerError::Link { .. }) => PeerAnswer::Missing,
        });
        answer
    }
}

impl PeerBlob {
    /// The next bytes, in pieces of no particular size; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LinkError> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.reply.next().await,
        }
    }
}
