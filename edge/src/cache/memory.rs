//! The memory cache: verified blobs by hash, weighed in bytes, one fill per hash.

use std::sync::Arc;

use moka::future::Cache;
use reelmill_platform::store::Store;
use reelmill_platform::verified::VerifiedBytes;
use tokio_util::task::TaskTracker;

use super::Lookup;
use super::fill::{FillError, Origin};
use crate::limits::{ABSENT_ENTRIES, ABSENT_FOR};
use crate::metrics::Metrics;
use crate::route::PublicBlob;

/// Verified blobs in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobCache {
    held: Cache<PublicBlob, VerifiedBytes>,
    absent: Cache<PublicBlob, ()>,
    origin: Arc<Origin>,
    fills: TaskTracker,
    metrics: Metrics,
}

impl BlobCache {
    /// An empty cache of at most `capacity_bytes` in front of `store`. Fills run under `fills`.
    pub fn new(store: Store, capacity_bytes: u64, fills: TaskTracker, metrics: Metrics) -> Self {
        let held = Cache::builder()
            .weigher(|_, blob: &VerifiedBytes| u32::try_from(blob.bytes().len()).unwrap_or(u32::MAX))
            .max_capacity(capacity_bytes)
            .build();
        let absent = Cache::builder().max_capacity(ABSENT_ENTRIES).time_to_live(ABSENT_FOR).build();
        let origin = Arc::new(Origin::new(store, metrics.clone()));
        Self { held, absent, origin, fills, metrics }
    }

    /// The blob, and where it was found.
    pub async fn get(&self, blob: PublicBlob) -> (Result<VerifiedBytes, FillError>, Lookup) {
        if let Some(held) = self.held.get(&blob).await {
            return (Ok(held), Lookup::Memory);
        }
        if self.absent.contains_key(&blob) {
            return (Err(FillError::Absent), Lookup::Memory);
        }
        // In a task of its own: the fill goes on when the viewer who began it goes away, so that the others who wait
        // for it get their bytes and the origin is asked once.
        let cache = self.clone();
        let fill = self.fills.spawn(async move { cache.join_or_fill(blob).await });
        fill.await.unwrap_or((Err(FillError::Ended), Lookup::Origin))
    }

    async fn join_or_fill(&self, blob: PublicBlob) -> (Result<VerifiedBytes, FillError>, Lookup) {
        let mut lookup = Lookup::Joined;
        let outcome = self
            .held
            .try_get_with(blob, async {
                lookup = Lookup::Origin;
                let outcome = self.origin.fetch(blob).await;
                if matches!(outcome, Err(FillError::Absent)) {
                    self.absent.insert(blob, ()).await;
                }
                outcome
            })
            .await
            .map_err(|error| *error);
        if lookup == Lookup::Origin {
            self.held.run_pending_tasks().await;
            self.metrics.cache_holds(self.held.weighted_size());
        }
        (outcome, lookup)
    }
}
