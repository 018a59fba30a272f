//! Memory for blobs: one bound for what is kept, what is on its way in, and what is on its way out.
//!
//! A fill reserves room for all that it will bring before it brings any. From then on each group is counted until whoever
//! held it last lets go: the cache, an answer, or QUIC, which keeps what a viewer has not acknowledged. So slow readers
//! cannot hold more than there is. A fill that finds too little takes blobs away that the cache has let go of and somebody
//! still reads, the one let go of first before all: its readers are the slowest, and may ask for the rest again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::blob::Blob;
use crate::limits::{ROOM_DEADLINE, ROOM_LOOK};
use crate::metrics::{HeldBytes, MemoryMetrics};

/// There is no room, and none became free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no memory for it")]
pub(super) struct NoRoom;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// A permit is a byte.
    free: Arc<Semaphore>,
    capacity: u64,
    /// What the cache has let go of, the oldest first; those that somebody read then.
    leaving: Mutex<VecDeque<Weak<Blob>>>,
    metrics: MemoryMetrics,
}

/// Room for bytes that are on their way.
#[derive(Debug)]
pub(super) struct Reservation {
    free: OwnedSemaphorePermit,
    metrics: MemoryMetrics,
}

/// Bytes that are counted for as long as anybody holds them.
struct Counted {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
    _held: HeldBytes,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Room {
    pub(super) fn new(capacity: u64, metrics: MemoryMetrics) -> Self {
        let permits = usize::try_from(capacity).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        metrics.set_limit(capacity);
        Self(Arc::new(Inner {
            free: Arc::new(Semaphore::new(permits)),
            capacity,
            leaving: Mutex::default(),
            metrics,
        }))
    }

    /// The cache has let go of a blob. Whoever reads it goes on, as long as there is room.
    pub(super) fn let_go(&self, blob: &Arc<Blob>) {
        if Arc::strong_count(blob) == 1 {
            return;
        }
        let mut leaving = self.0.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it grows.
        if leaving.len() == leaving.capacity() {
            leaving.retain(|blob| blob.strong_count() > 0);
        }
        leaving.push_back(Arc::downgrade(blob));
    }

    /// Room for exactly so many bytes: what was `reserved` before, if it is that.
    pub(super) async fn reserve(
        &self,
        reserved: Option<Reservation>,
        bytes: u64,
    ) -> Result<Reservation, NoRoom> {
        match reserved {
            Some(reserved) if reserved.free.num_permits() as u64 == bytes => return Ok(reserved),
            other => drop(other),
        }
        let permits = u32::try_from(bytes).ok().filter(|_| bytes <= self.0.capacity).ok_or(NoRoom)?;
        let mut waiting = std::pin::pin!(self.0.free.clone().acquire_many_owned(permits));
        let freed = async {
            loop {
                // At the first look nobody has to leave if there is room.
                if let Ok(free) = timeout(ROOM_LOOK, &mut waiting).await {
                    return free.map_err(|_| NoRoom);
                }
                self.take_away(bytes);
            }
        };
        let free = timeout(ROOM_DEADLINE, freed).await.unwrap_or(Err(NoRoom))?;
        Ok(Reservation { free, metrics: self.0.metrics.clone() })
    }

    /// Takes so many bytes of blobs that are leaving away from those who still read them.
    fn take_away(&self, bytes: u64) {
        let mut taken = 0;
        while taken < bytes {
            let next = self.0.leaving.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(next) = next else { return };
            if let Some(blob) = next.upgrade() {
                taken += blob.length();
                blob.revoke();
                self.0.metrics.taken_away();
            }
        }
    }
}

impl Reservation {
    /// Counts bytes that have come, at the expense of what is reserved.
    pub(super) fn hold(&mut self, bytes: Bytes) -> Bytes {
        let (room, held) = (self.free.split(bytes.len()), self.metrics.hold(bytes.len()));
        Bytes::from_owner(Counted { bytes, _room: room, _held: held })
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use reelmill_media::ids::BlobHash;
    use reelmill_media::keys::BlobKind;
    use reelmill_platform::verified::VerifiedBytes;

    use super::*;
    use crate::cache::live::{Found, Live};
    use crate::metrics::Metrics;
    use crate::route::PublicBlob;

    fn room(capacity: u64) -> Room {
        Room::new(capacity, Metrics::register(&Registry::new()).unwrap().memory)
    }

    /// A blob that is here, and the bytes that somebody reads of it.
    async fn blob(room: &Room, live: &Live, content: &'static [u8]) -> (Arc<Blob>, Bytes) {
        let mut reservation = room.reserve(None, content.len() as u64).await.unwrap();
        let hash = BlobHash::of(content);
        let (Found::New(blob) | Found::Live(blob)) =
            live.find(PublicBlob::new(hash, BlobKind::Segment).unwrap());
        let proven = VerifiedBytes::check(hash, reservation.hold(content.into())).unwrap();
        blob.set_length(content.len() as u64);
        proven.groups().for_each(|group| blob.place(group));
        let read = blob.groups()[0].bytes().slice(1..2);
        (blob, read)
    }

    fn free(room: &Room) -> usize {
        room.0.free.available_permits()
    }

    #[tokio::test]
    async fn bytes_count_until_the_last_who_holds_them_lets_go() {
        let (room, live) = (room(10), Live::default());
        let (blob, read) = blob(&room, &live, b"12345678").await;
        assert_eq!((free(&room), room.0.metrics.held()), (2, 8));
        drop(blob);
        assert_eq!((free(&room), room.0.metrics.held()), (2, 8));
        drop(read);
        assert_eq!((free(&room), room.0.metrics.held()), (10, 0));
        assert_eq!(room.reserve(None, 11).await.unwrap_err(), NoRoom);
    }

    #[tokio::test]
    async fn what_is_left_of_a_reservation_is_used_again() {
        let room = room(10);
        let mut first = room.reserve(None, 10).await.unwrap();
        let held = first.hold(Bytes::from_static(b"123"));
        let second = room.reserve(Some(first), 7).await.unwrap();
        let third = room.reserve(Some(second), 6).await.unwrap();
        assert_eq!(free(&room), 1);
        drop((held, third));
        assert_eq!(free(&room), 10);
    }

    #[tokio::test]
    async fn a_fill_takes_from_who_reads_longest_what_the_cache_has_let_go_of() {
        let (room, live) = (room(10), Live::default());
        let (kept, _) = blob(&room, &live, b"1234").await;
        let (first, read) = blob(&room, &live, b"567").await;
        let (second, _) = blob(&room, &live, b"890").await;
        let _readers = [first.clone(), second.clone()];
        room.let_go(&first);
        let mut waiting = std::pin::pin!(room.reserve(None, 3));
        // QUIC has some of it until the viewer says that it has come.
        assert!(timeout(5 * ROOM_LOOK, &mut waiting).await.is_err());
        assert!(first.revoked().is_cancelled());
        drop(read);
        let reserved = waiting.await.unwrap();
        room.let_go(&second);
        drop(room.reserve(Some(reserved), 5).await.unwrap());
        assert!(second.revoked().is_cancelled() && !kept.revoked().is_cancelled());
    }
}
