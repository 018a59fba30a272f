//! The small objects that change: playlists and presentations, asked of the origin once however many viewers wait.

mod text;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_platform::store::{Store, StoreError};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use self::text::Attempt;
pub(crate) use self::text::Held;
pub use self::text::{Text, TextError};
use crate::cache::{FillError, Lookup};
use crate::limits::{
    PLAYLIST_BYTES, PLAYLIST_CACHE_BYTES, PLAYLIST_DEADLINE, PLAYLIST_PATIENCE, PLAYLIST_PATIENCE_IN_VAIN,
    STALE_FOR,
};
use crate::metrics::{Metrics, OriginRead};
use crate::pop::{Asked, PeerError, Pop};
use crate::push::Announcements;
use crate::route::MutableObject;
use crate::takedown::Takedowns;

/// Playlists in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Playlists {
    store: Store,
    pop: Option<Pop>,
    entries: Cache<MutableObject, Arc<Entry>>,
    announcements: Announcements,
    takedowns: Takedowns,
    metrics: Metrics,
}

/// An object's place in the cache.
#[derive(Debug, Default)]
struct Entry {
    /// Length of the last text, readable without waiting.
    bytes: AtomicU32,
    /// The last answer. Whoever asks anew holds it.
    attempt: Arc<Mutex<Option<Attempt>>>,
    /// The last text there was, for when the origin is away.
    last: StdMutex<Option<Held>>,
    /// Whoever holds the attempt waits for a peer.
    at_peer: AtomicBool,
    /// The last attempt was in vain, or somebody would not wait for it.
    failing: AtomicBool,
}

impl Entry {
    fn last(&self) -> Option<Held> {
        self.last_slot().clone().filter(|last| last.began.elapsed() < STALE_FOR)
    }

    fn last_slot(&self) -> MutexGuard<'_, Option<Held>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an answer: to its end where there is no older one to be served, else a moment only.
    async fn in_patience<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let patience = match (self.last(), self.failing.load(Ordering::Relaxed)) {
            (None, _) => return Some(answer.await),
            (Some(_), false) => PLAYLIST_PATIENCE,
            (Some(_), true) => PLAYLIST_PATIENCE_IN_VAIN,
        };
        let answer = timeout(patience, answer).await.ok();
        if answer.is_none() {
            self.failing.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Keeps a text unless there is a newer one.
    fn keep(&self, held: Held) {
        let mut last = self.last_slot();
        if last.as_ref().is_none_or(|last| last.began <= held.began) {
            *last = Some(held);
        }
    }
}

/// Says that a peer is waited for, as long as it lives.
struct AtPeer<'a>(&'a AtomicBool);

impl<'a> AtPeer<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Relaxed);
        Self(flag)
    }
}

impl Drop for AtPeer<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Playlists {
    /// An empty cache in front of `pop` and `store`.
    pub(crate) fn new(
        store: Store,
        pop: Option<Pop>,
        announcements: Announcements,
        takedowns: Takedowns,
        metrics: Metrics,
    ) -> Self {
        /// What an entry costs beside its text.
        const ENTRY_BYTES: u32 = 512;
        let entries = Cache::builder()
            .weigher(|_, entry: &Arc<Entry>| entry.bytes.load(Ordering::Relaxed).saturating_add(ENTRY_BYTES))
            .max_capacity(PLAYLIST_CACHE_BYTES)
            .support_invalidation_closures()
            .build();
        Self { store, pop, entries, announcements, takedowns, metrics }
    }

    /// The text, and where it was found.
    pub async fn get(&self, object: &MutableObject) -> (Result<Arc<Text>, TextError>, Lookup) {
        let (outcome, lookup) = self.find(object, Asked::ByViewer, None).await;
        match outcome {
            Ok(held) if held.stale => {
                self.metrics.stale_text();
                (Ok(held.text), Lookup::Stale)
            }
            Ok(held) => (Ok(held.text), lookup),
            Err(error) => (Err(error), lookup),
        }
    }

    /// The text for a peer, not older than `within`.
    pub(crate) async fn get_for_peer(
        &self,
        object: &MutableObject,
        asked: Asked,
        within: Option<Duration>,
    ) -> Result<Held, TextError> {
        self.find(object, asked, within).await.0
    }

    /// Drops an asset's texts. It must be marked in the [`Takedowns`] before.
    pub(crate) fn take_down(&self, asset: AssetId) {
        // The predicate is supported: the cache was built for it.
        let _ = self.entries.invalidate_entries_if(move |object, _| object.asset() == asset);
        self.announcements.bells.ring(asset);
    }

    async fn find(
        &self,
        object: &MutableObject,
        asked: Asked,
        within: Option<Duration>,
    ) -> (Result<Held, TextError>, Lookup) {
        let entry: Arc<Entry> = self.entries.get_with_by_ref(object, Arc::default);
        let (outcome, lookup) = match asked {
            Asked::IfHeld => (Err(TextError::NotHeld), Lookup::Memory),
            // Lest two edges wait for each other.
            Asked::AsOwner | Asked::AsShield if entry.at_peer.load(Ordering::Relaxed) => {
                (Err(TextError::Misdirected), Lookup::Memory)
            }
            Asked::ByViewer | Asked::Ahead | Asked::AsOwner | Asked::AsShield => {
                self.newest(object, &entry, asked, within).await
            }
        };
        let outcome = match (outcome, entry.last()) {
            (Err(TextError::Unavailable | TextError::TooLarge | TextError::NotHeld), Some(last)) => {
                Ok(Held { stale: true, ..last })
            }
            (outcome, _) => outcome,
        };
        // Last, so that what was taken down while it was asked for is not passed on.
        if self.takedowns.asset_is_down(object.asset()) {
            return (Err(TextError::Purged), Lookup::Memory);
        }
        (outcome, lookup)
    }

    async fn newest(
        &self,
        object: &MutableObject,
        entry: &Arc<Entry>,
        asked: Asked,
        within: Option<Duration>,
    ) -> (Result<Held, TextError>, Lookup) {
        let arrived = Instant::now();
        // Whoever asks already is waited for, and what it hears is shared, good or bad.
        let Some(slot) = entry.in_patience(entry.attempt.clone().lock_owned()).await else {
            return (Err(TextError::Unavailable), Lookup::Memory);
        };
        let announced = self.announcements.last(object.asset());
        if let Some(attempt) = &*slot {
            let new_enough = within.is_none_or(|within| attempt.began.elapsed() <= within);
            let joined = attempt.ended >= arrived && !attempt.older_than(announced);
            if new_enough && (joined || attempt.fresh(Instant::now(), announced, self.announcements.alive()))
            {
                let lookup = if joined { Lookup::Joined } else { Lookup::Memory };
                return (attempt.held(), lookup);
            }
        }
        let within = [within, announced.map(|at| at.elapsed())].into_iter().flatten().min();
        // It goes on, whoever gives up waiting for it.
        let asking = tokio::spawn(self.clone().ask(object.clone(), entry.clone(), slot, asked, within));
        match entry.in_patience(asking).await {
            Some(Ok(heard)) => heard,
            Some(Err(_)) | None => (Err(TextError::Unavailable), Lookup::Memory),
        }
    }

    /// Asks for the newest text, and notes what it hears.
    async fn ask(
        self,
        object: MutableObject,
        entry: Arc<Entry>,
        mut slot: OwnedMutexGuard<Option<Attempt>>,
        asked: Asked,
        within: Option<Duration>,
    ) -> (Result<Held, TextError>, Lookup) {
        let (attempt, lookup) = self.fetch(&object, &entry, asked, within).await;
        let failing = matches!(attempt.outcome, Err(TextError::Unavailable));
        entry.failing.store(failing, Ordering::Relaxed);
        match &attempt.outcome {
            Ok(text) => entry.keep(Held { text: text.clone(), began: attempt.began, stale: false }),
            // The asset was taken down: an old copy must not outlive it.
            Err(TextError::Absent | TextError::Purged) => *entry.last_slot() = None,
            Err(
                TextError::TooLarge | TextError::Unavailable | TextError::NotHeld | TextError::Misdirected,
            ) => {}
        }
        let bytes = entry.last().map_or(0, |last| last.text.bytes().len());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if entry.bytes.swap(bytes, Ordering::Relaxed) != bytes {
            // The cache weighs what is put in, so put it in again.
            self.entries.insert(object, entry.clone());
        }
        let held = attempt.held();
        *slot = Some(attempt);
        (held, lookup)
    }

    /// Asks the owner, the shield and the origin in turn, and when that is away, those who may hold a copy.
    async fn fetch(
        &self,
        object: &MutableObject,
        entry: &Entry,
        asked: Asked,
        within: Option<Duration>,
    ) -> (Attempt, Lookup) {
        let Some(pop) = &self.pop else { return self.read_origin(object).await };
        let key = BlobHash::of(object.key().as_bytes());
        let near = match asked {
            Asked::ByViewer | Asked::Ahead => pop.owners(key).ask,
            Asked::AsOwner | Asked::AsShield | Asked::IfHeld => Vec::new(),
        };
        let near = near.into_iter().map(|owner| (owner, Asked::AsOwner, Lookup::Peer));
        let shield = match asked {
            Asked::ByViewer | Asked::Ahead | Asked::AsOwner => pop.shield(),
            Asked::AsShield | Asked::IfHeld => None,
        };
        let shield = shield.map(|shield| (shield, Asked::AsShield, Lookup::Shield));
        for (address, question, lookup) in near.chain(shield) {
            let _waiting = AtPeer::begin(&entry.at_peer);
            let answer = pop.text(address, object, question, within).await;
            let outcome = match answer {
                Ok(answer) => {
                    let text = Arc::new(Text::new(answer.bytes));
                    if !answer.stale {
                        return (Attempt::new(answer.began, Ok(text)), lookup);
                    }
                    // Even the owner has no better one.
                    entry.keep(Held { text, began: answer.began, stale: true });
                    Err(TextError::Unavailable)
                }
                Err(PeerError::Refused { reason: FillError::Absent, .. }) => Err(TextError::Absent),
                Err(PeerError::Refused { reason: FillError::Purged, .. }) => Err(TextError::Purged),
                Err(error) => {
                    tracing::warn!(key = object.key(), %error, "a peer did not give a text");
                    continue;
                }
            };
            return (Attempt::new(Instant::now(), outcome), lookup);
        }
        let (attempt, lookup) = self.read_origin(object).await;
        if matches!(attempt.outcome, Err(TextError::Unavailable)) && entry.last().is_none() {
            for address in pop.others(key) {
                if let Ok(answer) = pop.text(address, object, Asked::IfHeld, None).await {
                    let text = Arc::new(Text::new(answer.bytes));
                    entry.keep(Held { text, began: answer.began, stale: true });
                }
            }
        }
        (attempt, lookup)
    }

    async fn read_origin(&self, object: &MutableObject) -> (Attempt, Lookup) {
        let began = Instant::now();
        let outcome = self.ask_origin(object).await;
        (Attempt::new(began, outcome), Lookup::Origin)
    }

    async fn ask_origin(&self, object: &MutableObject) -> Result<Arc<Text>, TextError> {
        self.metrics.origin_read(OriginRead::Text);
        let key = object.key();
        let error = match timeout(PLAYLIST_DEADLINE, self.store.get_object(&key, PLAYLIST_BYTES)).await {
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
