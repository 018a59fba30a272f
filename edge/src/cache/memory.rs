//! The blobs near the viewer: in memory, weighed in bytes, one fill per name.

use std::sync::Arc;

use moka::notification::RemovalCause;
use moka::sync::Cache;
use reelmill_platform::store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::blob::Blob;
use super::fill::{FillError, Origin};
use super::live::{Found, Live};
use super::{Lookup, MissReason};
use crate::limits::{ABSENT_ENTRIES, ABSENT_FOR, EVICTED_ENTRIES};
use crate::metrics::Metrics;
use crate::route::PublicBlob;

/// Verified blobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobCache {
    live: Live,
    /// Keeps whole blobs alive as long as there is room.
    held: Cache<PublicBlob, Arc<Blob>>,
    absent: Cache<PublicBlob, ()>,
    /// What was let go for want of room.
    evicted: Cache<PublicBlob, ()>,
    origin: Arc<Origin>,
    fills: TaskTracker,
    end: CancellationToken,
    metrics: Metrics,
}

impl BlobCache {
    /// An empty cache of at most `capacity_bytes` in front of `store`. Fills run under `fills` until `end`.
    pub fn new(
        store: Store,
        capacity_bytes: u64,
        fills: TaskTracker,
        end: CancellationToken,
        metrics: Metrics,
    ) -> Self {
        let evicted = Cache::builder().max_capacity(EVICTED_ENTRIES).build();
        let note = evicted.clone();
        let held = Cache::builder()
            .weigher(|_, blob: &Arc<Blob>| u32::try_from(blob.length()).unwrap_or(u32::MAX))
            .max_capacity(capacity_bytes)
            .eviction_listener(move |name: Arc<PublicBlob>, _, cause| {
                if cause == RemovalCause::Size {
                    note.insert(*name, ());
                }
            })
            .build();
        let absent = Cache::builder().max_capacity(ABSENT_ENTRIES).time_to_live(ABSENT_FOR).build();
        let origin = Arc::new(Origin::new(store, metrics.clone()));
        Self { live: Live::default(), held, absent, evicted, origin, fills, end, metrics }
    }

    /// The blob as soon as its first bytes are proven, and where it was found.
    pub async fn get(&self, name: PublicBlob) -> (Result<Arc<Blob>, FillError>, Lookup) {
        if self.absent.contains_key(&name) {
            return (Err(FillError::Absent), Lookup::Memory);
        }
        let (blob, lookup) = match self.live.find(name) {
            Found::Live(blob) if blob.is_whole() => {
                // So that the cache knows what is asked for.
                let _ = self.held.get(&name);
                return (Ok(blob), Lookup::Memory);
            }
            Found::Live(blob) => (blob, Lookup::Joined),
            Found::New(blob) => {
                // A task of its own: the fill goes on when the viewer who began it goes away.
                self.fills.spawn(self.clone().fill(blob.clone()));
                (blob, Lookup::Origin)
            }
        };
        let outcome = blob.ready().await;
        (outcome.map(|()| blob), lookup)
    }

    async fn fill(self, blob: Arc<Blob>) {
        let name = blob.name();
        self.metrics.miss(if self.evicted.remove(&name).is_some() {
            MissReason::Evicted
        } else {
            MissReason::Cold
        });
        let outcome = tokio::select! {
            outcome = self.origin.fill(&blob) => outcome,
            () = blob.revoked().cancelled() => Err(FillError::Purged),
            () = self.end.cancelled() => Err(FillError::Ended),
        };
        match outcome {
            Ok(()) => {
                self.held.insert(name, blob.clone());
                self.held.run_pending_tasks();
                self.metrics.cache_holds(self.held.weighted_size());
            }
            Err(FillError::Absent) => self.absent.insert(name, ()),
            Err(
                FillError::Corrupt
                | FillError::Unavailable
                | FillError::Deadline
                | FillError::Purged
                | FillError::Ended,
            ) => {}
        }
        blob.finish(outcome);
    }
}
