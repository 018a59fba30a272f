//! What must not be served any more.
//!
//! The order of steps is what makes a takedown complete: first the name is marked, then what is held is taken away.
//! Whoever brings something in does it the other way round: first it is held, then the marks are looked at. So one of the
//! two always sees the other.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::access::KeyId;
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::kv::{Change, Followed};
use reelmill_platform::named;
use reelmill_platform::purge::{Mark, Target, Tombstone};
use reelmill_platform::store::{Store, StoreError};
use reelmill_platform::topology::BucketName;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::cache::BlobCache;
use crate::first_coordinator::FirstCoordinator;
use crate::limits::PLAYLIST_BYTES;
use crate::metrics::Metrics;
use crate::playlists::Playlists;
use crate::push::AGAIN;
use crate::receipts::{ReceiptError, Receipts, Signer};

/// Pause before lists of blobs are read again that could not be.
const LIST_AGAIN: Duration = Duration::from_secs(5);

/// The marks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Takedowns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    marks: RwLock<Marks>,
    /// Whether all that were there at the start have been heard of.
    known: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Marks {
    /// Each tombstone, and the blobs that it keeps away.
    tombstones: HashMap<Mark, Vec<BlobHash>>,
    /// How many tombstones keep a blob away.
    blobs: HashMap<BlobHash, usize>,
}

impl Takedowns {
    /// No marks yet; `known` says whether there are none.
    pub(crate) fn new(known: bool) -> Self {
        Self(Arc::new(Inner { marks: RwLock::default(), known: watch::Sender::new(known) }))
    }

    /// Whether a blob must not be served.
    pub(crate) fn blob_is_down(&self, hash: BlobHash) -> bool {
        self.read().blobs.contains_key(&hash)
    }

    /// Whether an asset's playlists must not be served.
    pub(crate) fn asset_is_down(&self, asset: AssetId) -> bool {
        self.read().tombstones.contains_key(&Mark::Asset(asset))
    }

    /// Whether tokens of a key open nothing any more.
    pub(crate) fn key_is_down(&self, kid: &KeyId) -> bool {
        self.read().tombstones.contains_key(&Mark::Key(kid.clone()))
    }

    /// Whether all marks are known that were made before this process began. Until then, what it kept from earlier may
    /// have been taken down meanwhile; what the origin still has was not.
    pub(crate) fn are_known(&self) -> bool {
        *self.0.known.borrow()
    }

    /// Waits until they are.
    pub(crate) async fn until_known(&self) {
        // An error cannot be: the sender lives in here.
        let _ = self.0.known.subscribe().wait_for(|known| *known).await;
    }

    /// Puts a tombstone up before its blobs are known. Those that it keeps away already stay away.
    fn mark(&self, mark: Mark) {
        self.write().tombstones.entry(mark).or_default();
    }

    fn put(&self, mark: Mark, blobs: Vec<BlobHash>) {
        let mut marks = self.write();
        marks.lift(&mark);
        for hash in &blobs {
            *marks.blobs.entry(*hash).or_default() += 1;
        }
        marks.tombstones.insert(mark, blobs);
    }

    fn read(&self) -> RwLockReadGuard<'_, Marks> {
        self.0.marks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Marks> {
        self.0.marks.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    fn lift(&mut self, mark: &Mark) {
        for hash in self.tombstones.remove(mark).unwrap_or_default() {
            let left = self.blobs.get(&hash).map_or(0, |count| count - 1);
            if left == 0 {
                self.blobs.remove(&hash);
            } else {
                self.blobs.insert(hash, left);
            }
        }
    }
}

/// Obeys tombstones.
pub(crate) struct Follower {
    pub(crate) takedowns: Takedowns,
    pub(crate) blobs: BlobCache,
    pub(crate) playlists: Playlists,
    pub(crate) access: Access,
    pub(crate) store: Store,
    pub(crate) bus: Bus,
    pub(crate) signer: Signer,
    pub(crate) first_coordinator: FirstCoordinator,
    pub(crate) metrics: Metrics,
}

/// Why following stopped; it begins again.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    #[error("cannot read which blobs go with an asset: {0}")]
    Store(#[from] StoreError),
    #[error("the list of blobs that go with an asset cannot be read: {0}")]
    List(#[from] serde_json::Error),
    #[error("the subscription ended")]
    Ended,
}

impl Follower {
    /// Follows until `end`. What is done twice does no harm, so after any error it begins from the start.
    pub(crate) async fn run(self, end: CancellationToken) {
        let following = async {
            loop {
                match self.follow().await {
                    Err(FollowError::Bus(BusError::Absent { .. })) if !self.takedowns.are_known() => {
                        self.first_coordinator.wait().await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot follow takedowns, trying again");
                        sleep(AGAIN).await;
                    }
                }
            }
        };
        let _: Option<()> = end.run_until_cancelled(following).await;
    }

    async fn follow(&self) -> Result<std::convert::Infallible, FollowError> {
        let tombstones = self.bus.bucket::<Tombstone>(BucketName::Tombstones).await?;
        let receipts = Receipts::open(self.signer.clone(), self.bus.clone()).await?;
        let mut followed = std::pin::pin!(tombstones.follow().await?);
        // Those whose list of blobs could not be read yet. They do not hold up the others.
        let mut unfinished: Vec<Change<Tombstone>> = Vec::new();
        // Keys of those that cannot be read. As long as there are any, nobody knows all that was taken down.
        let mut unread: HashSet<String> = HashSet::new();
        let mut replayed = false;
        loop {
            let next = tokio::select! {
                next = followed.next() => next.ok_or(FollowError::Ended)?,
                () = sleep(LIST_AGAIN), if !unfinished.is_empty() => {
                    for change in std::mem::take(&mut unfinished) {
                        self.attempt(change, &receipts, &mut unfinished).await?;
                    }
                    self.know(replayed && unfinished.is_empty() && unread.is_empty());
                    continue;
                }
            };
            match next {
                Ok(Followed::Change(change)) => {
                    unfinished.retain(|earlier| earlier.key != change.key);
                    unread.remove(&change.key);
                    self.attempt(change, &receipts, &mut unfinished).await?;
                }
                Ok(Followed::UpToDate) => replayed = true,
                // Of another version, perhaps: no retry makes it readable, and the others must not wait for it.
                Err(BusError::Codec { key, reason }) => {
                    self.metrics.unreadable_tombstone();
                    tracing::error!(
                        key,
                        reason,
                        "a tombstone cannot be read: all that its key names is down"
                    );
                    if let Err(error) = self.obey_unread(&key).await {
                        tracing::error!(key, %error, "and it is not known which blobs go with it");
                    }
                    unread.insert(key);
                }
                Err(error) => return Err(error.into()),
            }
            self.know(replayed && unfinished.is_empty() && unread.is_empty());
        }
    }

    fn know(&self, all: bool) {
        if all && !self.takedowns.0.known.send_replace(true) {
            tracing::info!("all takedowns are known");
        }
    }

    async fn attempt(
        &self,
        change: Change<Tombstone>,
        receipts: &Receipts,
        unfinished: &mut Vec<Change<Tombstone>>,
    ) -> Result<(), FollowError> {
        match self.apply(&change, receipts).await {
            Err(error @ (FollowError::Store(_) | FollowError::List(_))) => {
                tracing::error!(key = change.key, %error, "a takedown is not finished");
                unfinished.push(change);
                Ok(())
            }
            outcome @ (Ok(()) | Err(FollowError::Bus(_) | FollowError::Receipt(_) | FollowError::Ended)) => {
                outcome
            }
        }
    }

    async fn apply(&self, change: &Change<Tombstone>, receipts: &Receipts) -> Result<(), FollowError> {
        let Some(tombstone) = &change.value else {
            match change.key.parse() {
                Ok(mark) => self.takedowns.write().lift(&mark),
                Err(error) => tracing::warn!(%error, "ignored"),
            }
            return Ok(());
        };
        let mark = tombstone.mark();
        let dropped = match &tombstone.target {
            Target::Blob { hash } => self.take_down(&mark, vec![*hash]).await,
            Target::Asset { asset, blobs } => {
                // The playlists first: the list of blobs may take its time.
                self.takedowns.mark(mark.clone());
                self.playlists.take_down(*asset);
                let hashes = match blobs {
                    Some(list) => self.list(*list).await?,
                    None => Vec::new(),
                };
                self.take_down(&mark, hashes).await
            }
            Target::Key { kid } => {
                self.takedowns.put(mark.clone(), Vec::new());
                self.access.end_streams(kid);
                0
            }
        };
        self.metrics.takedown();
        tracing::info!(%mark, dropped, reason = tombstone.reason, "taken down");
        Ok(receipts.confirm(&mark, change.revision, dropped).await?)
    }

    /// Takes down what the key of a tombstone names, as far as it goes. There is no receipt for it: only who can read it can
    /// say that it is done.
    async fn obey_unread(&self, key: &str) -> Result<(), FollowError> {
        let Ok(mark) = key.parse::<Mark>() else { return Ok(()) };
        match &mark {
            Mark::Blob(hash) => {
                self.take_down(&mark, vec![*hash]).await;
            }
            Mark::Asset(asset) => {
                self.takedowns.mark(mark.clone());
                self.playlists.take_down(*asset);
                let named = self.named(*asset).await?;
                self.take_down(&mark, named).await;
            }
            Mark::Key(kid) => {
                self.takedowns.put(mark.clone(), Vec::new());
                self.access.end_streams(kid);
            }
        }
        Ok(())
    }

    /// Marks blobs, then drops them; says how many were held.
    async fn take_down(&self, mark: &Mark, hashes: Vec<BlobHash>) -> u64 {
        self.takedowns.put(mark.clone(), hashes.clone());
        let mut dropped = 0;
        for hash in hashes {
            dropped += self.blobs.take_down(hash).await;
        }
        dropped
    }

    /// The blobs that an asset's texts name at the origin.
    async fn named(&self, asset: AssetId) -> Result<Vec<BlobHash>, FollowError> {
        let index = self.text(&keys::multivariant_playlist(asset)).await?;
        let presentation = self.text(&keys::presentation(asset)).await?;
        let mut blobs: Vec<BlobHash> = named::blobs(&index).chain(named::blobs(&presentation)).collect();
        // The presentation names the playlists of earlier editions.
        for playlist in named::media_playlists(&index).chain(named::media_playlists(&presentation)) {
            blobs.extend(named::blobs(&self.text(&keys::media_playlist(asset, &playlist)).await?));
        }
        Ok(blobs)
    }

    /// A text of an asset; empty where there is none.
    async fn text(&self, key: &str) -> Result<Bytes, FollowError> {
        match self.store.get_object(key, PLAYLIST_BYTES).await {
            Ok(text) => Ok(text),
            Err(StoreError::NotFound { .. }) => Ok(Bytes::new()),
            Err(error) => Err(error.into()),
        }
    }

    async fn list(&self, list: BlobHash) -> Result<Vec<BlobHash>, FollowError> {
        let record = self.store.get_blob(BlobKind::Record, list).await?;
        Ok(serde_json::from_slice(record.bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_comes_back_when_its_last_tombstone_is_lifted() {
        let takedowns = Takedowns::new(true);
        let (hash, asset) = (BlobHash::of(b"x"), AssetId::from_parts(1, 2));
        takedowns.put(Mark::Blob(hash), vec![hash]);
        takedowns.put(Mark::Asset(asset), vec![hash]);
        takedowns.put(Mark::Asset(asset), vec![hash]);
        takedowns.write().lift(&Mark::Blob(hash));
        assert!(takedowns.blob_is_down(hash) && takedowns.asset_is_down(asset));
        takedowns.write().lift(&Mark::Asset(asset));
        takedowns.write().lift(&Mark::Asset(asset));
        assert!(!takedowns.blob_is_down(hash) && !takedowns.asset_is_down(asset));
    }
}
