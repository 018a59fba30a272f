//! The blobs near the viewer: in memory, weighed in bytes, and below it on disk; one fill per name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::notification::RemovalCause;
use moka::sync::Cache;
use reelmill_media::ids::BlobHash;
use reelmill_platform::store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::blob::Blob;
use super::disk::{Disk, Folder};
use super::failure::FillError;
use super::fill::Sources;
use super::live::{Found, Live};
use super::room::{NoRoom, Room};
use super::{Lookup, MissReason};
use crate::limits::{ABSENT_ENTRIES, ABSENT_FOR, JOINS, LEFT_ENTRIES};
use crate::metrics::Metrics;
use crate::pop::{Asked, Pop};
use crate::route::PublicBlob;
use crate::takedown::Takedowns;

/// Verified blobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobCache {
    live: Live,
    /// Keeps whole blobs alive as long as there is room.
    held: Cache<PublicBlob, Kept>,
    absent: Cache<PublicBlob, ()>,
    /// Why what was here is not any more.
    left: Cache<PublicBlob, MissReason>,
    disk: Option<Disk>,
    takedowns: Takedowns,
    sources: Arc<Sources>,
    fills: TaskTracker,
    end: CancellationToken,
    metrics: Metrics,
}

/// A blob that is kept until it is taken out. The library frees what it evicts when it has time; blobs must go at once.
#[derive(Debug, Clone)]
struct Kept(Arc<Mutex<Option<Arc<Blob>>>>);

impl Kept {
    fn new(blob: Arc<Blob>) -> Self {
        Self(Arc::new(Mutex::new(Some(blob))))
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Blob>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> u64 {
        self.slot().as_ref().map_or(0, |blob| blob.length())
    }

    fn take(&self) -> Option<Arc<Blob>> {
        self.slot().take()
    }
}

impl BlobCache {
    /// A cache that keeps at most `capacity_bytes` in memory, and what `disk` has room for, in front of `pop` and `store`.
    /// There are `in_flight_bytes` more for what comes in, and for what is still read when it is no longer kept. Fills run
    /// under `fills` until `end`; nothing is written to disk any more once a newer process has `succeeded` this one.
    #[allow(clippy::too_many_arguments, reason = "each is a part of its own, put together in one place")]
    pub(crate) fn new(
        store: Store,
        pop: Option<Pop>,
        capacity_bytes: u64,
        in_flight_bytes: u64,
        disk: Option<Folder>,
        takedowns: Takedowns,
        fills: TaskTracker,
        succeeded: CancellationToken,
        end: CancellationToken,
        metrics: Metrics,
    ) -> Self {
        let left = Cache::builder().max_capacity(LEFT_ENTRIES).build();
        let note = left.clone();
        let room = Room::new(capacity_bytes.saturating_add(in_flight_bytes), metrics.memory.clone());
        let leaving = room.clone();
        let held = Cache::builder()
            .weigher(|_, kept: &Kept| u32::try_from(kept.bytes()).unwrap_or(u32::MAX))
            .max_capacity(capacity_bytes)
            .eviction_listener(move |name: Arc<PublicBlob>, kept: Kept, cause| {
                let blob = kept.take();
                if cause == RemovalCause::Size {
                    note.insert(*name, MissReason::Evicted);
                    blob.iter().for_each(|blob| leaving.let_go(blob));
                }
            })
            .build();
        let absent = Cache::builder().max_capacity(ABSENT_ENTRIES).time_to_live(ABSENT_FOR).build();
        let sources = Arc::new(Sources::new(store, pop, room.clone(), metrics.clone()));
        let disk = disk.map(|folder| {
            let (disk, upkeep) = Disk::open(folder, room, metrics.clone());
            let stop = end.clone();
            fills.spawn(async move {
                tokio::select! {
                    () = upkeep.run(stop) => {}
                    () = succeeded.cancelled() => {}
                }
            });
            disk
        });
        Self { live: Live::default(), held, absent, left, disk, takedowns, sources, fills, end, metrics }
    }

    /// The blob as soon as its first bytes are proven, and where it was found.
    pub async fn get(&self, name: PublicBlob, asked: Asked) -> (Result<Arc<Blob>, FillError>, Lookup) {
        let mut joins = 0;
        loop {
            let (outcome, lookup) = self.find(name, asked).await;
            joins += 1;
            // The fill was begun for a peer, on terms that do not hold for this one.
            let on_other_terms = match &outcome {
                Err(FillError::NotHeld) => asked != Asked::IfHeld,
                // Given up in the very moment.
                Err(FillError::Unwanted) => true,
                Err(FillError::Overloaded) => asked != Asked::AsOwner,
                Ok(_) | Err(_) => false,
            };
            if !on_other_terms || joins == JOINS {
                return (outcome, lookup);
            }
        }
    }

    async fn find(&self, name: PublicBlob, asked: Asked) -> (Result<Arc<Blob>, FillError>, Lookup) {
        if self.absent.contains_key(&name) {
            return (Err(FillError::Absent), Lookup::Memory);
        }
        let found = self.live.find(name);
        // After the blob can be found: a takedown either finds it too, or is seen here.
        if self.takedowns.blob_is_down(name.hash()) {
            let (Found::Live(blob) | Found::New(blob)) = found;
            blob.revoke();
            return (Err(FillError::Purged), Lookup::Memory);
        }
        {
            let (Found::Live(blob) | Found::New(blob)) = &found;
            if blob.want() {
                self.metrics.prefetch_used(blob.length());
            }
        }
        let (blob, joined) = match found {
            Found::Live(blob) if blob.is_whole() => {
                // So that the cache knows what is asked for.
                let _ = self.held.get(&name);
                if let Some(disk) = &self.disk {
                    disk.touch(&name);
                }
                return (Ok(blob), Lookup::Memory);
            }
            // Part of it is no help to a peer that has nobody else to ask.
            Found::Live(_) if asked == Asked::IfHeld => return (Err(FillError::NotHeld), Lookup::Memory),
            Found::Live(blob) => (blob, true),
            Found::New(blob) => {
                // A task of its own: the fill goes on when the viewer who began it goes away.
                self.fills.spawn(self.clone().fill(blob.clone(), asked));
                (blob, false)
            }
        };
        let outcome = match asked {
            Asked::ByViewer | Asked::Ahead => blob.ready().await,
            Asked::AsOwner | Asked::AsShield | Asked::IfHeld => blob.ready_for_peer().await,
        };
        let lookup = if joined { Lookup::Joined } else { blob.source() };
        (outcome.map(|()| blob), lookup)
    }

    /// Begins to bring in a blob that nobody has asked for yet; `None` when it is here or on its way, or must not be.
    pub(crate) fn bring_ahead(&self, name: PublicBlob) -> Option<Arc<Blob>> {
        if self.absent.contains_key(&name) || self.takedowns.blob_is_down(name.hash()) {
            return None;
        }
        match self.live.find(name) {
            Found::Live(_) => None,
            Found::New(blob) => {
                blob.set_ahead();
                self.fills.spawn(self.clone().fill(blob.clone(), Asked::Ahead));
                Some(blob)
            }
        }
    }

    /// Drops a blob from memory and disk, ends its fill, and resets the streams that send it. Says how many were in
    /// memory, whole or not. It must be marked in the [`Takedowns`] before.
    pub(crate) async fn take_down(&self, hash: BlobHash) -> u64 {
        let live = self.live.of_hash(hash);
        live.iter().for_each(|blob| blob.revoke());
        let names: Vec<PublicBlob> = PublicBlob::all_of(hash).collect();
        for name in &names {
            if self.held.contains_key(name) {
                self.left.insert(*name, MissReason::Purged);
            }
            self.held.invalidate(name);
        }
        if let Some(disk) = &self.disk {
            disk.take_down(names).await;
        }
        live.len() as u64
    }

    async fn fill(self, blob: Arc<Blob>, asked: Asked) {
        let name = blob.name();
        let outcome = tokio::select! {
            outcome = self.bring_in(&blob, asked) => outcome,
            () = blob.revoked().cancelled() => self.cut_short(FillError::Purged),
            () = blob.given_up() => self.cut_short(FillError::Unwanted),
            () = self.end.cancelled() => self.cut_short(FillError::Ended),
        };
        match outcome {
            Ok(()) => {
                self.held.insert(name, Kept::new(blob.clone()));
                if blob.is_ahead() {
                    self.metrics.prefetched(blob.length());
                }
                if blob.complete() {
                    self.metrics.prefetch_used(blob.length());
                }
                if blob.revoked().is_cancelled() {
                    self.held.invalidate(&name);
                }
                self.held.run_pending_tasks();
                self.metrics.cache_holds(self.held.weighted_size());
            }
            Err(FillError::Absent) => self.absent.insert(name, ()),
            Err(
                FillError::Corrupt
                | FillError::Unavailable
                | FillError::Deadline
                | FillError::Purged
                | FillError::Ended
                | FillError::Unwanted
                | FillError::NoRoom
                | FillError::NotHeld
                | FillError::Overloaded
                | FillError::Misdirected,
            ) => {}
        }
        blob.finish(outcome);
    }

    fn cut_short(&self, why: FillError) -> Result<(), FillError> {
        self.metrics.filled(Err(why));
        Err(why)
    }

    async fn bring_in(&self, blob: &Arc<Blob>, asked: Asked) -> Result<(), FillError> {
        let left = self.left.remove(&blob.name());
        let on_disk = match &self.disk {
            Some(disk) if self.takedowns.are_known() => match disk.read(blob).await {
                Ok(found) => found,
                Err(NoRoom) => return self.cut_short(FillError::NoRoom),
            },
            Some(_) => Err(MissReason::Unsure),
            None => Err(MissReason::Cold),
        };
        let miss = match (on_disk, left) {
            (Ok(()), _) => return Ok(()),
            (Err(MissReason::Cold), Some(reason)) => reason,
            (Err(reason), _) => reason,
        };
        // From where the disk's copy was found damaged, if there was one.
        self.sources.fill(blob, asked, miss).await?;
        if let Some(disk) = &self.disk {
            disk.write(blob.clone());
        }
        Ok(())
    }
}
