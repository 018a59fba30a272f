//! A blob in memory, whole or still growing. Readers take each group as soon as it is proven, and of the first one a little until
//! all who waited for it have that much.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use reelmill_media::ids::BlobHash;
use reelmill_platform::hash_tree::{GROUP_BYTES, HashTree};
use reelmill_platform::verified::VerifiedGroup;
use tokio::sync::{Notify, watch};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

use super::Lookup;
use super::failure::FillError;
use super::live::Registration;
use crate::range::ByteRange;
use crate::route::PublicBlob;

/// What a reader who has waited gets before all others have as much: with the head of its answer it fits into one packet.
const FIRST_BYTES: usize = 768;

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
enum Progress {
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

/// A part of a blob, read group by group.
#[derive(Debug)]
pub(crate) struct BlobReader {
    blob: Arc<Blob>,
    at: u64,
    end: u64,
    /// Listens only once there was something to wait for.
    changes: Option<WatchStream<Progress>>,
    turn: Turn,
}

/// Where a reader stands among all who waited for the first group.
#[derive(Debug)]
enum Turn {
    /// Its first bytes are due.
    First,
    /// The others' first bytes are.
    Later(WatchStream<usize>),
    /// There is nobody to wait for.
    Free,
}

impl BlobReader {
    pub(crate) fn new(blob: Arc<Blob>, range: ByteRange) -> Self {
        let turn = if blob.is_whole() { Turn::Free } else { Turn::First };
        Self { at: range.start, end: range.end.min(blob.length()), blob, changes: None, turn }
    }

    /// How many bytes are left.
    pub(crate) fn length(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    pub(crate) fn blob(&self) -> &Arc<Blob> {
        &self.blob
    }

    /// The next bytes, at most a group.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FillError>>> {
        loop {
            if self.length() == 0 {
                return Poll::Ready(None);
            }
            if self.blob.revoked.is_cancelled() {
                return Poll::Ready(Some(Err(FillError::Purged)));
            }
            if let Turn::Later(crowd) = &mut self.turn {
                match ready!(Pin::new(crowd).poll_next(cx)) {
                    Some(1..) => continue,
                    Some(0) | None => self.turn = Turn::Free,
                }
            }
            if let Some(bytes) = self.take_next() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if let Some(changes) = &mut self.changes {
                match ready!(Pin::new(changes).poll_next(cx)) {
                    Some(Progress::Failed(error)) => return Poll::Ready(Some(Err(error))),
                    Some(Progress::Asked | Progress::AtPeer | Progress::Growing | Progress::Whole) => {}
                    None => return Poll::Ready(Some(Err(FillError::Ended))),
                }
            } else {
                // Begins with the present state, so that nothing that happened just now is missed.
                self.changes = Some(WatchStream::new(self.blob.progress.subscribe()));
            }
        }
    }

    fn take_next(&mut self) -> Option<Bytes> {
        let index = usize::try_from(self.at).ok()? / GROUP_BYTES;
        let groups = self.blob.groups();
        let group = groups.get(index)?.bytes();
        let begins = (index * GROUP_BYTES) as u64;
        let from = usize::try_from(self.at - begins).ok()?;
        let most = if matches!(self.turn, Turn::First) { FIRST_BYTES } else { GROUP_BYTES };
        let to = usize::try_from(self.end - begins).unwrap_or(usize::MAX).min(group.len()).min(from + most);
        let bytes = (from < to).then(|| group.slice(from..to))?;
        drop(groups);
        if matches!(self.turn, Turn::First) {
            self.turn = Turn::Later(WatchStream::new(self.blob.crowd.subscribe()));
        }
        self.at += bytes.len() as u64;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::poll;
    use reelmill_media::keys::BlobKind;
    use reelmill_platform::verified::VerifiedBytes;

    use super::super::live::{Found, Live};
    use super::*;

    #[tokio::test]
    async fn nobody_gets_more_before_all_who_waited_have_something() {
        let content = Bytes::from(vec![7; GROUP_BYTES + 1]);
        let (hash, length) = (BlobHash::of(&content), content.len() as u64);
        let name = PublicBlob::new(hash, BlobKind::Segment).unwrap();
        let (Found::New(blob) | Found::Live(blob)) = Live::default().find(name);
        let [mut first, mut second, mut leaves] = [0; 3].map(|_| Box::pin(blob.ready()));
        for waiting in [&mut first, &mut second, &mut leaves] {
            assert!(poll!(waiting).is_pending());
        }
        blob.set_length(length);
        VerifiedBytes::check(hash, content).unwrap().groups().for_each(|group| blob.place(group));

        let mut readers = Vec::new();
        for waiting in [&mut first, &mut second] {
            waiting.await.unwrap();
            let mut reader = BlobReader::new(blob.clone(), ByteRange { start: 0, end: length });
            let piece = poll_fn(|cx| reader.poll_next(cx)).await.unwrap().unwrap();
            assert_eq!(piece.len(), FIRST_BYTES);
            assert!(poll!(poll_fn(|cx| reader.poll_next(cx))).is_pending(), "others wait");
            readers.push(reader);
        }
        drop(leaves);
        for reader in &mut readers {
            for bytes in [GROUP_BYTES - FIRST_BYTES, 1] {
                assert_eq!(poll_fn(|cx| reader.poll_next(cx)).await.unwrap().unwrap().len(), bytes);
            }
        }
        // Who comes now has nobody to wait for.
        blob.ready().await.unwrap();
        let mut reader =
            BlobReader::new(blob.clone(), ByteRange { start: GROUP_BYTES as u64 - 1, end: length });
        for _ in 0..2 {
            assert_eq!(poll_fn(|cx| reader.poll_next(cx)).await.unwrap().unwrap().len(), 1);
        }
    }
}
