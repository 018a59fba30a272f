//! The small objects that change: playlists and presentations, asked of the origin once however many viewers wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use moka::sync::Cache;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_platform::store::{Store, StoreError};
use tokio::sync::Mutex;

use crate::cache::Lookup;
use crate::conditional::EntityTag;
use crate::limits::{
    ANNOUNCED_FRESH, CLOSED_FRESH, GROWING_FRESH, PLAYLIST_BYTES, PLAYLIST_CACHE_BYTES, PLAYLIST_DEADLINE,
    STALE_FOR,
};
use crate::metrics::{Metrics, OriginRead};
use crate::push::Announcements;
use crate::route::MutableObject;
use crate::takedown::Takedowns;

/// The tag that ends a playlist for good (RFC 8216bis §4.4.3.4).
const END: &[u8] = b"#EXT-X-ENDLIST";

/// Why there is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The origin does not have it (yet).
    #[error("there is no such playlist, or not yet")]
    Absent,
    /// It is larger than any playlist of ours.
    #[error("the origin's copy of this playlist is too large")]
    TooLarge,
    /// It was taken down.
    #[error("this playlist was taken down")]
    Purged,
    /// The origin failed or did not answer in time, and there is no copy here.
    #[error("the origin is not available")]
    Unavailable,
}

/// A playlist or presentation as the origin had it.
#[derive(Debug, Clone)]
pub struct Text {
    bytes: Bytes,
    tag: EntityTag,
    closed: bool,
}

impl Text {
    fn new(bytes: Bytes) -> Self {
        let tag = EntityTag::of(BlobHash::of(&bytes));
        let closed = bytes.split(|b| *b == b'\n').any(|line| line.trim_ascii_end() == END);
        Self { bytes, tag, closed }
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The entity tag.
    pub fn tag(&self) -> EntityTag {
        self.tag
    }

    /// Whether it is complete.
    pub fn closed(&self) -> bool {
        self.closed
    }
}

/// The last answer of the origin for one object.
#[derive(Debug, Default)]
struct Slot {
    attempt: Option<Attempt>,
    /// The last text there was, for when the origin is away, and when it was asked for.
    last: Option<(Arc<Text>, Instant)>,
}

#[derive(Debug, Clone)]
struct Attempt {
    /// When the origin was asked: what it answered is at least as new as this.
    began: Instant,
    ended: Instant,
    outcome: Result<Arc<Text>, TextError>,
}

impl Attempt {
    /// Whether it still counts; `announced` is when the object was last said to be written.
    fn fresh(&self, now: Instant, announced: Option<Instant>, alive: bool) -> bool {
        if self.older_than(announced) {
            return false;
        }
        let limit = match &self.outcome {
            Ok(text) if text.closed => CLOSED_FRESH,
            Ok(_) if alive && announced.is_some() => ANNOUNCED_FRESH,
            Ok(_) | Err(_) => GROWING_FRESH,
        };
        now.duration_since(self.began) < limit
    }

    fn older_than(&self, announced: Option<Instant>) -> bool {
        announced.is_some_and(|at| self.began < at)
    }
}

/// Playlists in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Playlists {
    store: Store,
    entries: Cache<MutableObject, Arc<Entry>>,
    announcements: Announcements,
    takedowns: Takedowns,
    metrics: Metrics,
}

/// An object's place in the cache.
#[derive(Debug, Default)]
struct Entry {
    /// Length of the text in the slot, readable without waiting for the slot.
    bytes: AtomicU32,
    slot: Mutex<Slot>,
}

impl Playlists {
    /// An empty cache in front of `store`.
    pub fn new(store: Store, announcements: Announcements, takedowns: Takedowns, metrics: Metrics) -> Self {
        /// What an entry costs beside its text.
        const ENTRY_BYTES: u32 = 512;
        let entries = Cache::builder()
            .weigher(|_, entry: &Arc<Entry>| entry.bytes.load(Ordering::Relaxed).saturating_add(ENTRY_BYTES))
            .max_capacity(PLAYLIST_CACHE_BYTES)
            .support_invalidation_closures()
            .build();
        Self { store, entries, announcements, takedowns, metrics }
    }

    /// The text, and where it was found.
    pub async fn get(&self, object: &MutableObject) -> (Result<Arc<Text>, TextError>, Lookup) {
        let (outcome, lookup) = self.find(object).await;
        // Last, so that what was taken down while it was asked for is not passed on.
        if self.takedowns.asset_is_down(object.asset()) {
            return (Err(TextError::Purged), Lookup::Memory);
        }
        (outcome, lookup)
    }

    /// Drops an asset's texts. It must be marked in the [`Takedowns`] before.
    pub(crate) fn take_down(&self, asset: AssetId) {
        // The predicate is supported: the cache was built for it.
        let _ = self.entries.invalidate_entries_if(move |object, _| object.asset() == asset);
    }

    async fn find(&self, object: &MutableObject) -> (Result<Arc<Text>, TextError>, Lookup) {
        let arrived = Instant::now();
        let entry: Arc<Entry> = self.entries.get_with_by_ref(object, Arc::default);
        // Whoever holds the lock asks the origin; the others wait here and share what it says, good or bad.
        let mut slot = entry.slot.lock().await;
        if let Some(attempt) = &slot.attempt {
            let announced = self.announcements.last(object.asset());
            let joined = attempt.ended >= arrived && !attempt.older_than(announced);
            if joined || attempt.fresh(Instant::now(), announced, self.announcements.alive()) {
                let lookup = if joined { Lookup::Joined } else { Lookup::Memory };
                return self.answer(attempt.outcome.clone(), &slot, lookup);
            }
        }
        let began = Instant::now();
        let outcome = self.fetch(object).await;
        match &outcome {
            Ok(text) => slot.last = Some((text.clone(), began)),
            // The asset was taken down: an old copy must not outlive it.
            Err(TextError::Absent | TextError::Purged) => slot.last = None,
            Err(TextError::TooLarge | TextError::Unavailable) => {}
        }
        slot.attempt = Some(Attempt { began, ended: Instant::now(), outcome: outcome.clone() });
        let bytes = slot.last.as_ref().map_or(0, |(text, _)| text.bytes.len());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if entry.bytes.swap(bytes, Ordering::Relaxed) != bytes {
            // The cache weighs what is put in, so put it in again.
            self.entries.insert(object.clone(), entry.clone());
        }
        self.answer(outcome, &slot, Lookup::Origin)
    }

    fn answer(
        &self,
        outcome: Result<Arc<Text>, TextError>,
        slot: &Slot,
        lookup: Lookup,
    ) -> (Result<Arc<Text>, TextError>, Lookup) {
        match (&outcome, &slot.last) {
            (Err(TextError::Unavailable | TextError::TooLarge), Some((last, asked)))
                if asked.elapsed() < STALE_FOR =>
            {
                self.metrics.stale_text();
                (Ok(last.clone()), Lookup::Stale)
            }
            (Ok(_) | Err(_), _) => (outcome, lookup),
        }
    }

    async fn fetch(&self, object: &MutableObject) -> Result<Arc<Text>, TextError> {
        self.metrics.origin_read(OriginRead::Text);
        let key = object.key();
        let error = match tokio::time::timeout(PLAYLIST_DEADLINE, self.store.get_object(&key, PLAYLIST_BYTES))
            .await
        {
            Ok(Ok(bytes)) => return Ok(Arc::new(Text::new(bytes))),
            Ok(Err(StoreError::NotFound { .. })) => return Err(TextError::Absent),
            Ok(Err(error)) => error,
            Err(_) => {
                tracing::warn!(key, "the origin did not answer in time");
                return Err(TextError::Unavailable);
            }
        };
        tracing::warn!(key, %error, "cannot read from the origin");
        match error {
            StoreError::TooLarge { .. } => Err(TextError::TooLarge),
            StoreError::NotFound { .. } => Err(TextError::Absent),
            StoreError::Open { .. }
            | StoreError::Corrupt(_)
            | StoreError::Deadline { .. }
            | StoreError::Unavailable { .. } => Err(TextError::Unavailable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_tag_on_its_own_line_closes() {
        assert!(Text::new(Bytes::from_static(b"#EXTM3U\n#EXT-X-ENDLIST\n")).closed());
        assert!(Text::new(Bytes::from_static(b"#EXTM3U\r\n#EXT-X-ENDLIST\r\n")).closed());
        assert!(!Text::new(Bytes::from_static(b"#EXTM3U\n#EXTINF:1,#EXT-X-ENDLIST\n")).closed());
        assert!(!Text::new(Bytes::from_static(b"")).closed());
    }
}
