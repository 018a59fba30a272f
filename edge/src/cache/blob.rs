//! A blob in memory, whole or still growing.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard};

use reelmill_media::ids::BlobHash;
use reelmill_platform::hash_tree::HashTree;
use reelmill_platform::verified::VerifiedGroup;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Lookup;
use super::failure::FillError;
use super::live::Registration;
use crate::route::PublicBlob;

/// It was brought in before anybody asked for it.
const AHEAD: u8 = 1;
/// Somebody has asked for it.
const WANTED: u8 = 2;
/// All of it is here.
const WHOLE: u8 = 4;

/// A blob whose first group is proven at least. It holds verified groups and nothing else.
#[derive(Debug)]
pub struct Blob {
    name: PublicBlob,
    length: OnceLock<u64>,
    /// From the start, without a gap; none once it is taken away.
    groups: RwLock<Vec<VerifiedGroup>>,
    source: OnceLock<Lookup>,
    tree: OnceLock<HashTree>,
    progress: watch::Sender<Progress>,
    /// How many wait for the first group.
    crowd: watch::Sender<usize>,
    revoked: CancellationToken,
    /// Who wants it; bits of [`AHEAD`], [`WANTED`] and [`WHOLE`].
    wish: AtomicU8,
    given_up: Notify,
    _registration: Registration,
}

/// How far a fill is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Asked,
    /// Like `Asked`, and it is a peer that was asked.
    AtPeer,
    Growing,
    Whole,
    Failed(FillError),
}

impl Blob {
    pub(super) fn new(name: PublicBlob, registration: Registration) -> Self {
        Self {
            name,
            length: OnceLock::new(),
            groups: RwLock::default(),
            source: OnceLock::new(),
            tree: OnceLock::new(),
            progress: watch::Sender::new(Progress::Asked),
            crowd: watch::Sender::new(0),
            revoked: CancellationToken::new(),
            wish: AtomicU8::new(0),
            given_up: Notify::new(),
            _registration: registration,
        }
    }

    /// Its name.
    pub fn name(&self) -> PublicBlob {
        self.name
    }

    /// The content hash.
    pub fn hash(&self) -> BlobHash {
        self.name.hash()
    }

    /// Length of the whole, however much of it is here.
    pub fn length(&self) -> u64 {
        self.length.get().copied().unwrap_or(0)
    }

    /// Says how long the blob is; the first word counts.
    pub(super) fn set_length(&self, length: u64) {
        self.length.get_or_init(|| length);
    }

    /// Adds the next group. Ignores any other, and all once the blob is taken away.
    pub(super) fn place(&self, group: VerifiedGroup) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let is_next = group.hash() == self.hash() && group.index() == groups.len();
        if is_next && !self.revoked.is_cancelled() {
            groups.push(group);
            drop(groups);
            self.progress.send_replace(Progress::Growing);
        }
    }

    /// The groups that are here, from the start.
    pub(super) fn groups(&self) -> RwLockReadGuard<'_, Vec<VerifiedGroup>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many groups from the start are here.
    pub(super) fn proven_groups(&self) -> usize {
        self.groups().len()
    }

    /// Keeps what proves it to peers; the first one counts.
    pub(super) fn set_tree(&self, tree: &HashTree) {
        self.tree.get_or_init(|| tree.clone());
    }

    /// What proves it group by group. Without one it is a single group, or whole.
    pub(crate) fn tree(&self) -> Option<&HashTree> {
        self.tree.get()
    }

    /// Says whether the fill waits for a peer at the moment.
    pub(super) fn set_at_peer(&self, at_peer: bool) {
        self.progress.send_if_modified(|progress| {
            let (from, to) = match at_peer {
                true => (Progress::Asked, Progress::AtPeer),
                false => (Progress::AtPeer, Progress::Asked),
            };
            let changes = *progress == from;
            if changes {
                *progress = to;
            }
            changes
        });
    }

    /// Says where its bytes come from; the first word counts.
    pub(super) fn set_source(&self, source: Lookup) {
        self.source.get_or_init(|| source);
    }

    /// Where its first bytes came from.
    pub(crate) fn source(&self) -> Lookup {
        self.source.get().copied().unwrap_or(Lookup::Origin)
    }

    /// Ends the fill.
    pub(super) fn finish(&self, outcome: Result<(), FillError>) {
        self.progress.send_replace(match outcome {
            Ok(()) => Progress::Whole,
            Err(error) => Progress::Failed(error),
        });
    }

    /// Whether all of it is here.
    pub(super) fn is_whole(&self) -> bool {
        *self.progress.borrow() == Progress::Whole
    }

    /// Whether its fill failed or it was taken away: of no use to whoever comes now.
    pub(super) fn is_over(&self) -> bool {
        self.revoked.is_cancelled() || matches!(*self.progress.borrow(), Progress::Failed(_))
    }

    /// Notes that nobody has asked for it yet.
    pub(super) fn set_ahead(&self) {
        self.wish.fetch_or(AHEAD, Ordering::Relaxed);
    }

    /// Whether it was brought in before anybody asked for it.
    pub(super) fn is_ahead(&self) -> bool {
        self.wish.load(Ordering::Relaxed) & AHEAD != 0
    }

    /// Whether anybody has asked for it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wish.load(Ordering::Relaxed) & WANTED != 0
    }

    /// Somebody asks for it. Says, once, that bringing it in ahead was of use.
    pub(super) fn want(&self) -> bool {
        // Not written by every viewer of a hot blob.
        !self.is_wanted() && self.wish.fetch_or(WANTED, Ordering::Relaxed) == AHEAD | WHOLE
    }

    /// It is whole. Says, once, that bringing it in ahead was of use.
    pub(super) fn complete(&self) -> bool {
        self.wish.fetch_or(WHOLE, Ordering::Relaxed) == AHEAD | WANTED
    }

    /// Whoever had it brought in ahead does not want it any more; unless others do, the fill ends.
    pub(crate) fn give_up(&self) {
        if !self.is_wanted() {
            self.given_up.notify_one();
        }
    }

    /// Completes when nobody wants it.
    pub(super) async fn given_up(&self) {
        loop {
            self.given_up.notified().await;
            if !self.is_wanted() {
                return;
            }
        }
    }

    /// Waits until its fill is over.
    pub(crate) async fn over(&self) {
        let mut progress = self.progress.subscribe();
        // An error cannot be: the sender lives in this very blob.
        let _ = progress.wait_for(|progress| matches!(progress, Progress::Whole | Progress::Failed(_))).await;
    }

    /// Takes it away from everybody who reads it, and lets go of its bytes at once.
    pub(super) fn revoke(&self) {
        self.revoked.cancel();
        // Not under the lock: whoever held them last takes a moment.
        let groups = std::mem::take(&mut *self.groups.write().unwrap_or_else(PoisonError::into_inner));
        drop(groups);
    }

    /// Tells how far it is, beginning with now.
    pub(super) fn watch_progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Tells how many wait for the first group, beginning with now.
    pub(super) fn watch_crowd(&self) -> watch::Receiver<usize> {
        self.crowd.subscribe()
    }

    /// Fires when it is taken away.
    pub(crate) fn revoked(&self) -> &CancellationToken {
        &self.revoked
    }

    /// Waits until its length and its first group are proven.
    pub(super) async fn ready(&self) -> Result<(), FillError> {
        self.reached(|progress| !matches!(progress, Progress::Asked | Progress::AtPeer)).await
    }

    /// The same for a peer: it is sent away when this edge itself waits for one, lest they wait for each other.
    pub(super) async fn ready_for_peer(&self) -> Result<(), FillError> {
        self.reached(|progress| *progress != Progress::Asked).await
    }

    async fn reached(&self, goal: impl FnMut(&Progress) -> bool) -> Result<(), FillError> {
        let _waiting = Waiting::begin(&self.crowd);
        match self.progress.subscribe().wait_for(goal).await.map(|progress| *progress) {
            Ok(Progress::Failed(error)) => Err(error),
            Ok(Progress::AtPeer) => Err(FillError::Misdirected),
            Ok(Progress::Asked | Progress::Growing | Progress::Whole) => Ok(()),
            // The sender lives in this very blob.
            Err(_) => Err(FillError::Ended),
        }
    }
}

/// One of those who wait for the first group; until it has been woken and runs.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn begin(crowd: &'a watch::Sender<usize>) -> Self {
        crowd.send_if_modified(|waiting| {
            *waiting += 1;
            false
        });
        Self(crowd)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|waiting| {
            *waiting -= 1;
            *waiting == 0
        });
    }
}
